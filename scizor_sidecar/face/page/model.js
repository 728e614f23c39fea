// What is known of each symbol and feed; who draws asks for it once a frame.

import { instant } from "./format.js";

/** Milliseconds in which repeats of one rule count as present. */
const QUALITY_MS = 10 * 60 * 1000;

export class Model {
  constructor() {
    this.symbols = new Map();
    this.feeds = new Map();
    this.alerts = new Map();
    /** What comes of some symbols less than of others, as the sidecar told it last. */
    this.limits = { sampled: new Set(), noBook: new Map() };
    this.skew = 0;
  }

  /** The server's clock, milliseconds. */
  now() {
    return Date.now() + this.skew;
  }

  takeTime(text) {
    const at = instant(text);
    if (Number.isFinite(at)) this.skew = at - Date.now();
  }

  setEntries(entries) {
    const before = this.symbols;
    this.symbols = new Map();
    for (const entry of entries) {
      const known = before.get(entry.id) ?? {
        last: NaN, lastAt: NaN, bid: NaN, ask: NaN, bidSize: NaN, askSize: NaN,
        book: null, rules: new Map(), barKind: "real",
      };
      Object.assign(known, entry, { previousClose: entry.previous_close ?? NaN });
      if (entry.price !== null && entry.price !== undefined) this.takeTrade(known, Date.parse(entry.price_at), entry.price);
      known.kind = this.kindOfSymbol(known);
      this.symbols.set(entry.id, known);
    }
  }

  /** What a symbol's price is: "real" | "sampled" | "simulated". */
  kindOfSymbol(one) {
    if (one.is_simulated) return "simulated";
    return one.is_sampled || this.limits.sampled.has(one.id) ? "sampled" : "real";
  }

  takeLimits({ sampled, without_book }) {
    this.limits = { sampled: new Set(sampled), noBook: new Map(Object.entries(without_book)) };
    for (const one of this.symbols.values()) one.kind = this.kindOfSymbol(one);
  }

  /** [symbol, why] of those whose order book is wanted and does not come. */
  withoutBook() {
    return [...this.symbols.values()]
      .filter(({ id }) => this.limits.noBook.has(id))
      .map((one) => [one, this.limits.noBook.get(one.id)]);
  }

  /** Take trades [t_us, price, size] and quotes in the order given. */
  takeTicks(one, data) {
    for (const each of data) {
      if (Array.isArray(each)) {
        this.takeTrade(one, each[0] / 1000, each[1]);
        continue;
      }
      one.bid = each.bid ?? NaN;
      one.ask = each.ask ?? NaN;
      one.bidSize = each.bid_size ?? NaN;
      one.askSize = each.ask_size ?? NaN;
      one.quoteAt = instant(each.t);
    }
  }

  takeTrade(one, at, price) {
    if (!(Number.isFinite(price) && Number.isFinite(at))) return;
    if (at < one.lastAt) return;
    one.last = price;
    one.lastAt = at;
  }

  takeQuality(one, data) {
    for (const each of data) {
      const at = instant(each.t);
      one.rules.set(each.rule, { verdict: each.verdict, count: each.count ?? 1, at: Number.isFinite(at) ? at : this.now() });
    }
  }

  /** {level: "good" | "flagged" | "quarantined", rules: [...]} of the last ten minutes. */
  qualityOf(one) {
    let level = "good";
    const rules = [];
    const now = this.now();
    for (const [rule, { verdict, count, at }] of one.rules) {
      if (now - at > QUALITY_MS) {
        one.rules.delete(rule);
        continue;
      }
      if (verdict === "accept") continue;
      rules.push(`${rule.replaceAll("_", " ")} ${count}`);
      if (verdict === "quarantine") level = "quarantined";
      else if (level === "good") level = "flagged";
    }
    return { level, rules };
  }

  /** Seconds since the last trade or quote. */
  ageOf(one) {
    const at = Math.max(one.lastAt || 0, one.quoteAt || 0);
    return at ? Math.max(0, (this.now() - at) / 1000) : NaN;
  }

  takeFeed({ feed, market, markets, state, why, since }) {
    const all = markets?.length ? markets : market ? [market] : [];
    this.feeds.set(feed, { feed, markets: all, state, why: why ?? "", since: Date.parse(since) });
  }

  /** Feeds that were to deliver and do not. */
  cutFeeds() {
    return [...this.feeds.values()].filter(({ state }) => state !== "connected" && state !== "idle");
  }

  /** The feed without which nothing of a symbol comes, null where something can come. */
  cutOf({ feed, market }) {
    const own = this.feeds.get(feed);
    if (own) return own.state === "connected" || own.state === "idle" ? null : own;
    // Nobody has said who streams it: it can come while one of its market's feeds stands.
    const all = [...this.feeds.values()].filter(({ markets, state }) => markets.includes(market) && state !== "idle");
    return all.length && all.every(({ state }) => state !== "connected") ? all[0] : null;
  }

  takeAlert(alert) {
    if (alert.resolved_at) this.alerts.delete(alert.id);
    else this.alerts.set(alert.id, { ...alert, since: Date.parse(alert.raised_at) });
  }
}

/** Whether a bar is real, and if not what else: "real" | "provisional" | "sampled" | "simulated". */
export function kindOf(bar) {
  const source = bar.source ?? "";
  if (source.includes("simulated")) return "simulated";
  if (source.includes("sample")) return "sampled";
  if (bar.state === "provisional") return "provisional";
  return "real";
}
