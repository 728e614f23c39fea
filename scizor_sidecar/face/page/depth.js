// Order books side by side: buyers left, sellers right, bars as long as what stands there in sum.

import { age, decimalsOf, price, short } from "./format.js";

const LEVELS = 5;

const element = (tag, className, text) => {
  const out = document.createElement(tag);
  if (className) out.className = className;
  if (text !== undefined) out.textContent = text;
  return out;
};

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

class Ladder {
  constructor(one, chosen) {
    this.root = element("article", "ladder");
    const head = element("button", "ladder-head");
    head.type = "button";
    head.addEventListener("click", () => chosen(one.id));
    this.spread = element("span", "muted");
    this.balance = element("span", "balance");
    this.balance.title = "Share of the shown sizes that stands on the buying side";
    head.append(element("b", "", one.symbol), this.spread, this.balance);
    const table = element("div", "levels");
    table.setAttribute("role", "img");
    this.table = table;
    this.rows = Array.from({ length: LEVELS }, () => {
      const row = element("div", "level");
      const cells = ["size", "bid", "ask", "size"].map((name) => element("span", name));
      const bars = ["buy", "sell"].map((name) => element("i", `bar ${name}`));
      row.append(...bars, ...cells);
      table.append(row);
      return { cells, bars };
    });
    this.root.append(head, table);
  }

  draw(one, model, isCut) {
    const book = one.book;
    const decimals = decimalsOf(book.bids[0]?.[0] ?? book.asks[0]?.[0] ?? 0);
    const bids = book.bids.slice(0, LEVELS);
    const asks = book.asks.slice(0, LEVELS);
    const sum = (side) => side.reduce((total, [, size]) => total + size, 0);
    const [buys, sells] = [sum(bids), sum(asks)];
    const most = Math.max(buys, sells) || 1;
    let [buying, selling] = [0, 0];
    this.rows.forEach(({ cells, bars }, i) => {
      const [bid, ask] = [bids[i], asks[i]];
      buying += bid?.[1] ?? 0;
      selling += ask?.[1] ?? 0;
      set(cells[0], bid ? short(bid[1]) : "");
      set(cells[1], bid ? price(bid[0], decimals) : "");
      set(cells[2], ask ? price(ask[0], decimals) : "");
      set(cells[3], ask ? short(ask[1]) : "");
      bars[0].style.transform = `scaleX(${bid ? buying / most : 0})`;
      bars[1].style.transform = `scaleX(${ask ? selling / most : 0})`;
    });
    const spread = (asks[0]?.[0] ?? NaN) - (bids[0]?.[0] ?? NaN);
    const seconds = (model.now() - Date.parse(book.t)) / 1000;
    set(this.spread, Number.isFinite(spread) ? `spread ${price(spread, decimals)}` : "one side only");
    set(this.balance, isCut ? seconds < 1 ? "cut" : `cut ${age(seconds)} ago` : `${Math.round((buys / (buys + sells || 1)) * 100)} % buying`);
    this.root.dataset.state = isCut ? "cut" : spread < 0 ? "crossed" : "";
    this.table.setAttribute("aria-label", `${one.symbol}: bid ${bids[0]?.[0] ?? "none"}, ask ${asks[0]?.[0] ?? "none"}`);
  }
}

export class Depth {
  constructor(root, chosen) {
    this.root = root;
    this.chosen = chosen;
    this.ladders = new Map();
    this.missing = element("ul", "missing");
  }

  /** Show a book; the first ones that come stay. */
  draw(one, model, isCut) {
    if (!one.book) return;
    let ladder = this.ladders.get(one.id);
    if (!ladder) {
      ladder = new Ladder(one, this.chosen);
      this.ladders.set(one.id, ladder);
      this.arrange(model);
    }
    ladder.draw(one, model, isCut);
  }

  arrange(model) {
    const order = [...model.symbols.keys()];
    const sorted = [...this.ladders].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
    this.root.replaceChildren(...sorted.map(([, each]) => each.root), this.missing);
  }

  /** Say whose book is to come and does not, and why; what was shown of it is no longer true. */
  drawMissing(model) {
    const missing = model.withoutBook();
    const key = JSON.stringify(missing.map(([{ id }, why]) => [id, why]));
    if (this.missing.dataset.shown === key) return;
    this.missing.dataset.shown = key;
    for (const [one] of missing) {
      one.book = null;
      this.ladders.delete(one.id);
    }
    this.missing.replaceChildren(...missing.map(([{ id, symbol }, why]) => {
      const row = element("li");
      row.dataset.id = id;
      row.append(element("b", "", symbol), " no order book: ", element("span", "muted", why));
      return row;
    }));
    this.arrange(model);
  }

  drawEmpty() {
    if (this.ladders.size || this.missing.children.length) return;
    const text = "No order book has come yet. Books are kept for the stocks whose depth the broker serves.";
    if (this.root.textContent !== text) this.root.replaceChildren(element("p", "muted note", text));
  }
}
