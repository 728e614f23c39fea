// What stands above the chart: the chosen symbol's price, and what is cut.

import { age, clock, decimalsOf, price, short, signed } from "./format.js";

const $ = (id) => document.getElementById(id);

/** Change a text where it is another. */
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Draw price, quote and doubts of the chosen symbol. */
export function drawHead(one, model) {
  const decimals = decimalsOf(one.last);
  set($("last"), price(one.last, decimals));
  const move = one.last - one.previousClose;
  const percent = (move / one.previousClose) * 100;
  set($("change"), Number.isFinite(percent) ? `${signed(move, decimals)}  ${signed(percent, 2)}%` : "no previous close");
  $("change").dataset.way = Number.isFinite(percent) && move !== 0 ? (move > 0 ? "up" : "down") : "";
  set($("bid"), Number.isFinite(one.bid) ? `${price(one.bid, decimals)} × ${short(one.bidSize)}` : "–");
  set($("ask"), Number.isFinite(one.ask) ? `${price(one.ask, decimals)} × ${short(one.askSize)}` : "–");
  const spread = one.ask - one.bid;
  set($("spread"), Number.isFinite(spread) ? `${price(spread, decimals)} · ${((spread / one.ask) * 10000).toFixed(1)} bp` : "–");
  const { level, rules } = model.qualityOf(one);
  set($("quality"), level === "good" ? "no doubts" : rules.join(", "));
  $("quality").dataset.level = level;
  const cut = model.isOffline ? "connection lost" : model.cutOf(one) ? "feed cut" : "";
  const kind = one.barKind === "real" ? one.kind : one.barKind;
  const badges = [cut && ["cut", cut], kind !== "real" && [kind, kind], one.market_open === false && ["closed", "market closed"]].filter(Boolean);
  const key = badges.join();
  if ($("badges").dataset.shown !== key) {
    $("badges").dataset.shown = key;
    $("badges").replaceChildren(...badges.map(([name, text]) => Object.assign(document.createElement("span"), { className: `badge ${name}`, textContent: text })));
  }
  $("chart").dataset.cut = cut ? "yes" : "";
}

/** Say what is cut, since when and why. */
export function drawBanner(model) {
  const cut = model.cutFeeds();
  const text = model.isOffline
    ? `No connection to the sidecar since ${clock(model.offlineSince)} UTC (${model.offlineWhy || "closed"}). Prices are the last known ones.`
    : cut.map(({ feed, markets, state, why, since }) => {
      const from = Number.isFinite(since) ? ` since ${clock(since)} UTC` : "";
      return `${feed}${markets.length ? ` (${markets.join(", ")})` : ""} is ${{ refused: "refused", connecting: "connecting" }[state] ?? "cut"}${from}${why ? `: ${why}` : ""}.`;
    }).join(" ");
  $("banner").hidden = !text;
  $("banner").dataset.level = model.isOffline || cut.some(({ state }) => state !== "connecting") ? "bad" : "warn";
  set($("banner-text"), text);
  const since = model.isOffline ? model.offlineSince : Math.min(...cut.map((each) => each.since));
  set($("banner-age"), Number.isFinite(since) ? age((model.now() - since) / 1000) : "");
}
