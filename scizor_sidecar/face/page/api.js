// The REST side of the face, and what its answers are called here.

let apiKey = null;
try {
  apiKey = sessionStorage.getItem("scizor-key");
} catch {
  // Then it is asked for again.
}

export const key = () => apiKey;

export function setKey(value) {
  apiKey = value;
  try {
    sessionStorage.setItem("scizor-key", value);
  } catch {
    // It holds for this page then.
  }
}

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, { method = "GET", query = {}, body } = {}) {
  const url = new URL(path, location.href);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) url.searchParams.set(name, value);
  }
  const headers = { Accept: "application/json" };
  if (apiKey) headers["X-API-Key"] = apiKey;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(answer.status, `${path} answered with something that is not JSON.`);
  }
  if (!answer.ok) {
    throw new ApiError(answer.status, [data?.error, data?.what_to_do].filter(Boolean).join(" ") || `${path}: ${answer.status}`);
  }
  return data;
}

const listOf = (data, ...names) => {
  if (Array.isArray(data)) return data;
  for (const name of names) if (Array.isArray(data?.[name])) return data[name];
  return [];
};

/** Entries of the watchlist, one for each market and symbol: that of its best tier. */
export async function watchlist() {
  const data = await ask("/api/watchlist");
  const found = new Map();
  for (const each of listOf(data, "entries")) {
    if (each.active === false) continue;
    const id = `${each.market}:${each.symbol}`;
    const before = found.get(id);
    if (!before || before.tier > each.tier) found.set(id, { ...each, id });
  }
  return [...found.values()];
}

export const addEntry = (market, symbol, tier) =>
  ask("/api/watchlist", { method: "POST", body: { market, symbol, tier } });

const entryPath = ({ market, symbol }) => `/api/watchlist/${encodeURIComponent(market)}/${encodeURIComponent(symbol.replace("/", "-"))}`;

export const changeEntry = (entry, tier) => ask(entryPath(entry), { method: "PATCH", body: { tier } });

export const removeEntry = (entry) => ask(entryPath(entry), { method: "DELETE" });

const symbolPath = ({ symbol }) => `/api/market/symbols/${encodeURIComponent(symbol.replace("/", "-"))}`;

/** Bars with their indicators, oldest first. `end` (ISO 8601) bounds them from above. */
export const bars = (one, timeframe, limit, end) =>
  ask(`${symbolPath(one)}/bars`, { query: { market: one.market, timeframe, limit, end, indicators: true } });

/** What has happened to a company in a window, by the bar that could first trade on it. */
export async function catalysts(one, start) {
  const data = await ask(`${symbolPath(one)}/catalysts`, { query: { market: one.market, start, min_impact: 1 } });
  return listOf(data, "events").map((each) => ({ ...each, at: Date.parse(each.t ?? each.published_at), sample: each.is_sample }))
    .filter((each) => Number.isFinite(each.at));
}

export const metrics = () => ask("/api/metrics");
