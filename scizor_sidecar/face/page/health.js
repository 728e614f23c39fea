// How the sidecar is: feeds, key figures with their thresholds, alerts.

import { age, clock, short } from "./format.js";

const element = (tag, className, text) => {
  const out = document.createElement(tag);
  if (className) out.className = className;
  if (text !== undefined) out.textContent = text;
  return out;
};

const WORDS = { connected: "live", connecting: "connecting", waiting: "cut", refused: "refused", idle: "idle" };
const LEVELS = { connected: "good", connecting: "warn", waiting: "bad", refused: "bad", idle: "off" };

export function drawFeeds(chips, list, model) {
  const feeds = [...model.feeds.values()].sort((a, b) => a.feed.localeCompare(b.feed));
  const key = JSON.stringify(feeds);
  if (chips.dataset.shown !== key) {
    chips.dataset.shown = key;
    chips.replaceChildren(...feeds.map((each) => {
      const chip = element("span", "chip");
      chip.dataset.level = LEVELS[each.state] ?? "warn";
      chip.title = `${each.feed}: ${each.state}${each.why ? `, ${each.why}` : ""}`;
      chip.append(element("i", "dot"), each.feed, element("b", "", WORDS[each.state] ?? each.state));
      return chip;
    }));
    list.replaceChildren(...feeds.map((each) => {
      const row = element("li", "feed");
      row.dataset.level = LEVELS[each.state] ?? "warn";
      row.append(element("i", "dot"), element("b", "", each.feed), element("span", "muted", each.markets.join(" ")),
        element("span", "state", WORDS[each.state] ?? each.state), element("span", "since"), element("span", "why muted", each.why ?? ""));
      return row;
    }));
    if (!feeds.length) list.replaceChildren(element("li", "muted note", "No feed has said how it is."));
  }
  feeds.forEach((each, i) => {
    const since = list.children[i]?.querySelector(".since");
    const text = Number.isFinite(each.since) ? age((model.now() - each.since) / 1000) : "";
    if (since && since.textContent !== text) since.textContent = text;
  });
}

const SEVERITIES = ["low", "medium", "high", "critical"];

const LEVEL_OF = { ok: "good", low: "warn", medium: "warn", high: "bad", critical: "bad", unknown: "off" };

/** What a tile shows of a KPI as the sidecar tells it. */
function tileOf(kpi) {
  const thresholds = kpi.thresholds ?? {};
  const value = typeof kpi.value === "number" ? kpi.value : NaN;
  const unit = UNITS[kpi.unit] ?? kpi.unit ?? "";
  const rounded = unit === "%" ? Math.round(value * 100) / 100 : Number(value.toPrecision(3));
  return {
    id: kpi.name, label: SHORT[kpi.name] ?? kpi.label ?? kpi.name.replaceAll("_", " "), value, unit,
    limits: SEVERITIES.map((severity) => thresholds[severity]).filter((limit) => typeof limit === "number"),
    direction: kpi.direction ?? "above", level: LEVEL_OF[kpi.state] ?? "off", text: short(rounded),
    note: [kpi.subject && kpi.subjects > 1 ? `${kpi.subject}, the worst of ${kpi.subjects}` : "", kpi.note ?? ""].filter(Boolean).join(" · "),
    buckets: kpi.buckets,
  };
}

/** Labels that would not fit. */
const SHORT = { connection_uptime_percent: "Uptime" };
const UNITS = { percent: "%", minutes: "min" };

/** The figures of the streaming process as KPIs. */
export function ownFigures(stream) {
  if (!stream) return [];
  const latency = (name, label) => {
    const known = stream.latency_ms?.[name];
    return known && {
      name, label, value: known.p95, unit: "ms p95", buckets: known.buckets, state: known.p95 === null ? "unknown" : "ok",
      note: known.p50 === null ? "" : `p99 ${short(round(known.p99))} ms`,
    };
  };
  const plain = (name, label, value, unit, note = "") => ({
    name, label, value, unit, note, state: typeof value === "number" ? "ok" : "unknown",
  });
  return [
    latency("tick_to_bar", "Tick to bar"), latency("tick_to_client", "Tick to client"),
    plain("rate", "Ticks", stream.trades_per_second, "/s"),
    plain("valid", "Valid ticks", typeof stream.valid_share === "number" ? stream.valid_share * 100 : null, "%"),
    plain("queue", "Queue", stream.queue_depth, "", "trades that wait"),
    plain("memory", "Memory", stream.memory_bytes / 1e6, "MB", `CPU ${short(round(stream.cpu_percent))} %`),
  ].filter(Boolean);
}

const round = (value) => Number((value ?? NaN).toPrecision(3));

/** Where on the tile's scale a value and its limits stand, 0 to 1. */
function scaleOf({ value, limits, unit, direction }) {
  if (!limits.length) return null;
  let low = 0;
  let high = Math.max(...limits) * 1.25;
  if (unit === "%" && direction === "below") {
    low = Math.max(0, Math.min(...limits) - (100 - Math.min(...limits)));
    high = 100;
  } else if (unit === "%") {
    high = 100;
  }
  const place = (each) => Math.max(0, Math.min(1, (each - low) / (high - low)));
  return { value: Number.isFinite(value) ? place(value) : null, limits: limits.map(place) };
}

export class Tiles {
  constructor(root) {
    this.root = root;
    this.tiles = new Map();
  }

  draw(kpis) {
    for (const kpi of kpis) {
      const tile = tileOf(kpi);
      let node = this.tiles.get(tile.id);
      if (!node) {
        node = this.build(tile);
        this.tiles.set(tile.id, node);
        this.root.append(node.root);
      }
      this.fill(node, tile);
    }
  }

  build(tile) {
    const root = element("article", "tile");
    const value = element("b", "value");
    const word = element("span", "word");
    const text = document.createTextNode("–");
    const unit = element("small", "", tile.unit);
    value.append(text, unit, word);
    const gauge = element("div", "gauge");
    const limit = element("span", "limit muted");
    const head = element("div", "tile-head");
    head.append(element("span", "label", tile.label));
    head.title = tile.label;
    root.append(head, value, gauge, limit);
    return { root, text, gauge, limit, word };
  }

  fill(node, tile) {
    const key = JSON.stringify(tile);
    if (node.key === key) return;
    node.key = key;
    node.root.dataset.level = tile.level;
    node.root.title = [tile.label, tile.note].filter(Boolean).join(": ");
    node.text.data = tile.text;
    node.word.textContent = { good: "", warn: "!", bad: "!!", off: "" }[tile.level];
    node.word.setAttribute("aria-label", { warn: "to be watched", bad: "bad" }[tile.level] ?? "");
    const sign = tile.direction === "below" ? "≥" : "≤";
    const unit = tile.unit ? ` ${tile.unit}` : "";
    node.limit.textContent = tile.limits.length ? `good ${sign} ${short(tile.limits[0])}${unit}` : tile.note || " ";
    if (tile.buckets) this.fillBuckets(node.gauge, tile.buckets);
    else this.fillGauge(node.gauge, scaleOf(tile));
  }

  fillGauge(gauge, scale) {
    gauge.className = scale ? "gauge scale" : "gauge";
    if (!scale) {
      gauge.replaceChildren();
      return;
    }
    const bar = element("i", "filled");
    bar.style.width = `${(scale.value ?? 0) * 100}%`;
    gauge.replaceChildren(bar, ...scale.limits.map((place) => {
      const line = element("i", "tick");
      line.style.left = `${place * 100}%`;
      return line;
    }));
  }

  fillBuckets(gauge, buckets) {
    const entries = Array.isArray(buckets) ? buckets : Object.entries(buckets).map(([label, count]) => ({ label, count }));
    const total = entries.reduce((sum, { count }) => sum + count, 0) || 1;
    gauge.className = "gauge buckets";
    gauge.parentElement.title = entries.map(({ label, count }) => `${label} ms: ${((count / total) * 100).toFixed(1)} %`).join("\n");
    gauge.replaceChildren(...entries.map(({ count }, i) => {
      const part = element("i", `bucket b${i}`);
      part.style.flexGrow = String(count / total);
      return part;
    }));
  }
}

const RANK = { critical: 0, high: 1, medium: 2, low: 3 };

export function drawAlerts(list, count, model) {
  const alerts = [...model.alerts.values()]
    .sort((a, b) => (RANK[a.severity] ?? 2) - (RANK[b.severity] ?? 2) || b.since - a.since);
  if (count.textContent !== String(alerts.length)) count.textContent = String(alerts.length);
  count.dataset.level = alerts.length ? (RANK[alerts[0].severity] <= 1 ? "bad" : "warn") : "good";
  const have = new Map([...list.children].map((each) => [each.dataset.id, each]));
  const rows = alerts.map((alert) => {
    const row = have.get(String(alert.id)) ?? element("li", "alert");
    if (row.dataset.text !== alert.title + alert.severity) {
      row.dataset.id = String(alert.id);
      row.dataset.text = alert.title + alert.severity;
      row.dataset.severity = alert.severity;
      const at = Number.isFinite(alert.since) ? clock(alert.since, "UTC", { hour: "2-digit", minute: "2-digit" }) : "";
      row.replaceChildren(element("b", "severity", alert.severity), element("span", "text", alert.title), element("time", "muted", at));
    }
    return row;
  });
  if (rows.length !== list.children.length || rows.some((row, i) => list.children[i] !== row)) list.replaceChildren(...rows);
}
