// The watchlist by tier: last price, change, freshness and quality of each symbol.

import { age, decimalsOf, price, signed } from "./format.js";

const TIERS = { 1: "Tier 1", 2: "Tier 2", 3: "Tier 3" };
const FLASH_MS = 500;
/** A busy symbol flashes no more often than this, or the list would never be quiet. */
const CALM_MS = 1500;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Seconds without news after which a price is old. */
const OLD_SECONDS = 60;

function cell(className, text = "") {
  const out = document.createElement("span");
  out.className = className;
  out.textContent = text;
  return out;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Watchlist {
  constructor(root, filter, chosen) {
    this.root = root;
    this.chosen = chosen;
    this.rows = new Map();
    this.needle = "";
    filter.addEventListener("input", () => {
      this.needle = filter.value.trim().toUpperCase();
      this.sift();
    });
    filter.addEventListener("keydown", (event) => {
      const first = this.visible()[0];
      if (event.key === "Enter" && first) chosen(first);
      if (event.key === "Escape") {
        filter.value = this.needle = "";
        this.sift();
        filter.blur();
      }
    });
    root.addEventListener("click", (event) => {
      const row = event.target.closest("button[data-id]");
      if (row) chosen(row.dataset.id);
    });
  }

  /** Lay the rows out anew. */
  build(model) {
    const tiers = new Map();
    for (const one of model.symbols.values()) {
      if (!tiers.has(one.tier)) tiers.set(one.tier, []);
      tiers.get(one.tier).push(one);
    }
    this.rows.clear();
    const groups = [...tiers].sort(([a], [b]) => a - b).map(([tier, members]) => {
      const group = document.createElement("section");
      group.className = "tier";
      const title = document.createElement("h3");
      title.append(TIERS[tier] ?? `Tier ${tier}`, cell("count", String(members.length)));
      group.append(title, ...members.map((one) => this.row(one)));
      return group;
    });
    this.root.replaceChildren(...groups);
    this.sift();
    this.mark(this.current);
  }

  row(one) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "row";
    button.dataset.id = one.id;
    const symbol = cell("symbol");
    const code = cell("code", one.symbol);
    const quality = cell("dot");
    symbol.append(quality, code, cell("market", one.market));
    const parts = { button, quality, last: cell("last", "–"), change: cell("change", "–"), age: cell("age", "–") };
    button.append(symbol, parts.last, parts.change, parts.age);
    this.rows.set(one.id, { ...parts, flashed: 0, shown: NaN });
    return button;
  }

  /** Draw one row as the model has it. */
  draw(one, model) {
    const row = this.rows.get(one.id);
    if (!row) return;
    const decimals = decimalsOf(one.last);
    set(row.last, price(one.last, decimals));
    const percent = ((one.last - one.previousClose) / one.previousClose) * 100;
    set(row.change, Number.isFinite(percent) ? `${signed(percent, 2)}%` : "–");
    row.change.dataset.way = Number.isFinite(percent) && Math.abs(percent) >= 0.005 ? (percent > 0 ? "up" : "down") : "";
    if (one.last !== row.shown) {
      if (!Number.isNaN(row.shown)) this.flash(row, one.last > row.shown);
      row.shown = one.last;
    }
    this.drawAge(one, model, row);
  }

  drawAge(one, model, row = this.rows.get(one.id)) {
    if (!row) return;
    const seconds = model.ageOf(one);
    const isCut = model.cutOf(one) !== null || model.isOffline;
    const isClosed = one.market_open === false;
    set(row.age, isCut ? "cut" : isClosed && !(seconds < OLD_SECONDS) ? "closed" : age(seconds));
    const isUnknown = Number.isNaN(seconds);
    const fresh = isCut ? "cut" : seconds < OLD_SECONDS ? "fresh" : isClosed ? "closed" : isUnknown ? "none" : "old";
    if (row.button.dataset.fresh !== fresh) row.button.dataset.fresh = fresh;
    if (row.button.dataset.kind !== one.kind) row.button.dataset.kind = one.kind;
    const { level, rules } = model.qualityOf(one);
    const title = [
      one.name, isUnknown ? "no price yet" : level === "good" ? "no doubts in the last 10 minutes" : `${level}: ${rules.join(", ")}`,
      one.quality ? `quality of ${one.quality.session_date}: ${one.quality.score}` : "", one.kind === "real" ? "" : one.kind,
    ].filter(Boolean).join(" · ");
    const shown = isUnknown && level === "good" ? "unknown" : level;
    if (row.quality.dataset.level !== shown) row.quality.dataset.level = shown;
    if (row.button.title !== title) row.button.title = title;
  }

  flash(row, isUp) {
    const now = performance.now();
    if (calm.matches || now - row.flashed < CALM_MS) return;
    row.flashed = now;
    const colour = isUp ? "var(--up-flash)" : "var(--down-flash)";
    row.last.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], FLASH_MS);
  }

  mark(id) {
    this.rows.get(this.current)?.button.removeAttribute("aria-current");
    this.current = id;
    this.rows.get(id)?.button.setAttribute("aria-current", "true");
  }

  sift() {
    for (const [id, { button }] of this.rows) button.hidden = !id.toUpperCase().includes(this.needle);
    for (const group of this.root.children) group.hidden = !group.querySelector("button:not([hidden])");
  }

  visible() {
    return [...this.root.querySelectorAll("button[data-id]:not([hidden])")].map((each) => each.dataset.id);
  }

  /** Choose the row so many below the present one. */
  step(by) {
    const ids = this.visible();
    if (!ids.length) return;
    const at = ids.indexOf(this.current);
    const id = ids[Math.max(0, Math.min(ids.length - 1, at < 0 ? 0 : at + by))];
    this.chosen(id);
    this.rows.get(id)?.button.scrollIntoView({ block: "nearest" });
  }
}
