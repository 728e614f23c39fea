// The chart of one symbol: bars, volume, indicators, catalysts, and the legend that explains a bar.

import { createChart, HistogramSeries, LineSeries, LineStyle, CrosshairMode } from "./vendor/lightweight-charts.mjs";
import { CandleView } from "./candles.js";
import { INDICATORS, lineOf } from "./lines.js";
import { Marks } from "./marks.js";
import { kindOf } from "./model.js";
import { clock, decimalsOf, offsetSeconds, price, short } from "./format.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const LINE_COLOURS = {
  sma_20: "--line-1", sma_50: "--line-2", sma_200: "--line-3", ema_20: "--line-4",
  bb_high: "--line-5", bb_mid: "--line-5", bb_low: "--line-5", vwap: "--line-6",
};

export class Chart {
  /**
   * @param plot element to draw in
   * @param legend element for the legend
   * @param told {older: () => void, live: (isAtEnd: boolean) => void, marks: (found, point) => void}
   */
  constructor(plot, legend, told) {
    this.legend = legend;
    this.told = told;
    this.bars = [];
    this.index = new Map();
    this.served = new Map();
    this.pending = new Map();
    this.catalysts = [];
    this.enabled = new Set();
    this.lines = new Map();
    this.zone = "UTC";
    this.hovered = null;
    this.shown = "";
    this.colours = {};
    this.chart = createChart(plot, {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: css("--font"), fontSize: 11 },
      rightPriceScale: { scaleMargins: { top: 0.1, bottom: 0.24 }, borderVisible: false, minimumWidth: 64 },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 6, barSpacing: 7, minBarSpacing: 1.2, borderVisible: false },
      crosshair: { mode: CrosshairMode.Normal },
      localization: { timeFormatter: (time) => clock(time * 1000, "UTC", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" }) },
    });
    this.view = new CandleView();
    this.candles = this.chart.addCustomSeries(this.view, { priceLineStyle: LineStyle.Dotted });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
    this.marks = new Marks(() => this.colours);
    this.candles.attachPrimitive(this.marks);
    this.chart.subscribeCrosshairMove((event) => this.hover(event));
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (!range || !this.bars.length) return;
      told.live(range.to >= this.bars.length - 1);
      if (range.from < 30) told.older();
    });
    document.addEventListener("themechange", () => this.paint());
    this.paint();
  }

  /** Take the colours of the theme. */
  paint() {
    this.colours = {
      up: css("--up"), down: css("--down"), ground: css("--panel"), note: css("--note"), session: css("--line"),
      upSoft: css("--up-soft"), downSoft: css("--down-soft"),
      lines: Object.fromEntries(Object.entries(LINE_COLOURS).map(([name, variable]) => [name, css(variable)])),
    };
    this.chart.applyOptions({
      layout: { background: { color: css("--panel") }, textColor: css("--muted"), panes: { separatorColor: css("--line") } },
      grid: { vertLines: { color: css("--grid") }, horzLines: { color: css("--grid") } },
      crosshair: {
        vertLine: { color: css("--muted"), labelBackgroundColor: css("--label") },
        horzLine: { color: css("--muted"), labelBackgroundColor: css("--label") },
      },
    });
    this.view.colours = this.colours;
    for (const [name, series] of this.lines) series.applyOptions({ color: this.colours.lines[name] });
    if (this.bars.length) this.rebuild(false);
  }

  /** Begin with another symbol or timeframe. */
  reset(zone, timeframe) {
    this.zone = zone;
    this.timeframe = timeframe;
    this.bars = [];
    this.index.clear();
    this.served.clear();
    this.pending.clear();
    this.catalysts = [];
    this.hovered = null;
    this.fitted = false;
    this.chart.applyOptions({ timeScale: { timeVisible: timeframe !== "1d" } });
    this.rebuild(true);
  }

  /** Take bars as they come over the wire or from the store; drawn with the next frame. */
  take(bars, { isLive }) {
    for (const bar of bars) {
      const at = Date.parse(bar.t) / 1000;
      if (!Number.isFinite(at)) continue;
      if (bar.state === "withdrawn") {
        this.served.delete(at);
        this.pending.set(at, { at, gone: true, live: true });
        continue;
      }
      if (!Number.isFinite(bar.c)) continue;
      if (bar.i) this.served.set(at, bar.i);
      const known = this.pending.get(at) ?? this.bars[this.index.get(at) ?? -1];
      // What is live is newer than what was read from the store in the meantime.
      if (!isLive && known?.live) continue;
      const local = at + (this.timeframe === "1d" ? 0 : offsetSeconds(this.zone, at));
      this.pending.set(at, { ...bar, at, time: local, day: Math.floor(local / 86400), live: isLive });
    }
  }

  takeIndicators(rows) {
    for (const { t, values } of rows) {
      const at = Date.parse(t) / 1000;
      if (Number.isFinite(at) && values) this.served.set(at, values);
    }
    this.linesDirty = true;
  }

  setCatalysts(events) {
    this.catalysts = events;
    this.placeMarks();
  }

  setIndicators(enabled) {
    this.enabled = new Set(enabled);
    const wanted = new Set(INDICATORS.filter(({ id }) => this.enabled.has(id)).flatMap(({ lines }) => lines));
    for (const [name, series] of [...this.lines]) {
      if (!wanted.has(name)) {
        this.chart.removeSeries(series);
        this.lines.delete(name);
      }
    }
    for (const name of wanted) {
      if (this.lines.has(name)) continue;
      this.lines.set(name, this.chart.addSeries(LineSeries, {
        color: this.colours.lines[name], lineWidth: name === "vwap" ? 2 : 1,
        lineStyle: name === "bb_mid" ? LineStyle.Dashed : LineStyle.Solid,
        lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false,
      }));
    }
    this.drawLines(true);
  }

  /** Draw what has come since the last frame. */
  frame() {
    if (this.pending.size) {
      const incoming = [...this.pending.values()].sort((a, b) => a.at - b.at);
      this.pending.clear();
      const newest = this.bars.at(-1)?.at ?? -Infinity;
      if (incoming.length > 5 || incoming[0].at < newest || incoming.some(({ gone }) => gone)) this.merge(incoming);
      else for (const bar of incoming) this.append(bar);
    }
    if (this.linesDirty) this.drawLines(true);
    this.drawLegend();
  }

  append(bar) {
    const isNew = !this.index.has(bar.at);
    const at = isNew ? this.bars.length : this.index.get(bar.at);
    if (isNew && at > 0 && this.bars[at - 1].time >= bar.time) return;
    this.bars[at] = bar;
    this.index.set(bar.at, at);
    this.candles.update(this.candle(bar));
    this.volume.update(this.volumeOf(bar));
    this.drawLines(isNew);
    if (isNew) this.placeMarks();
    this.scale(bar.c);
  }

  merge(incoming) {
    const all = new Map(this.bars.map((bar) => [bar.at, bar]));
    for (const bar of incoming) {
      if (bar.gone) all.delete(bar.at);
      else all.set(bar.at, bar);
    }
    const range = this.bars.length ? this.chart.timeScale().getVisibleLogicalRange() : null;
    const before = this.bars.length;
    const oldest = this.bars[0]?.at ?? Infinity;
    let last = -Infinity;
    this.bars = [...all.values()].sort((a, b) => a.at - b.at).filter((bar) => {
      // Local times repeat for an hour where clocks go back.
      if (bar.time <= last) return false;
      last = bar.time;
      return true;
    });
    this.index = new Map(this.bars.map((bar, i) => [bar.at, i]));
    this.rebuild(before === 0);
    if (range && before) {
      const added = this.bars.findIndex((bar) => bar.at >= oldest);
      if (added > 0) this.chart.timeScale().setVisibleLogicalRange({ from: range.from + added, to: range.to + added });
    }
  }

  rebuild(fit) {
    this.candles.setData(this.bars.map((bar) => this.candle(bar)));
    this.volume.setData(this.bars.map((bar) => this.volumeOf(bar)));
    this.drawLines(true);
    this.placeMarks();
    if (this.bars.length) {
      this.scale(this.bars.at(-1).c, true);
      if (fit) this.toLive();
    }
  }

  toLive() {
    this.chart.timeScale().applyOptions({ rightOffset: 6 });
    this.chart.timeScale().scrollToPosition(6, false);
  }

  candle(bar) {
    return { ...bar, color: bar.c >= bar.o ? this.colours.up : this.colours.down };
  }

  volumeOf(bar) {
    return { time: bar.time, value: bar.v || 0, color: bar.c >= bar.o ? this.colours.upSoft : this.colours.downSoft };
  }

  scale(value, force) {
    const decimals = decimalsOf(value);
    if (!force && decimals === this.decimals) return;
    this.decimals = decimals;
    this.candles.applyOptions({ priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (each) => price(each, decimals) } });
  }

  drawLines(whole) {
    this.linesDirty = false;
    this.values = new Map();
    for (const [name, series] of this.lines) {
      // A session's VWAP says nothing of a bar that is a whole session.
      const bars = name === "vwap" && this.timeframe === "1d" ? [] : this.bars;
      const values = lineOf(name, bars, this.served);
      this.values.set(name, values);
      if (whole) {
        series.setData(bars.map(({ time }, i) => (Number.isNaN(values[i]) ? { time } : { time, value: values[i] })));
      } else if (bars.length && !Number.isNaN(values.at(-1))) {
        series.update({ time: bars.at(-1).time, value: values.at(-1) });
      }
    }
  }

  placeMarks() {
    const { bars } = this;
    const sessions = [];
    if (this.timeframe !== "1d") {
      for (let i = 1; i < bars.length; i += 1) if (bars[i].day !== bars[i - 1].day) sessions.push(bars[i].time);
    }
    const items = [];
    for (const event of this.catalysts) {
      const at = event.at / 1000;
      if (!bars.length || at < bars[0].at || at > bars.at(-1).at + 86400) continue;
      let low = 0;
      let high = bars.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (bars[middle].at <= at) low = middle;
        else high = middle - 1;
      }
      // Between sessions it counts for the first bar after it.
      const inside = low + 1 >= bars.length || bars[low + 1].day === bars[low].day;
      items.push({ ...event, time: bars[inside ? low : low + 1].time });
    }
    this.marks.set(items, sessions);
  }

  hover(event) {
    this.hovered = event.time === undefined ? null : event.seriesData.get(this.candles)?.at ?? null;
    const found = event.point ? this.marks.at(event.point.x, event.point.y) : [];
    this.told.marks(found.map(({ item }) => item), event.point);
    this.drawLegend();
  }

  drawLegend() {
    const i = this.hovered === null ? this.bars.length - 1 : this.index.get(this.hovered);
    const bar = this.bars[i];
    if (!bar) {
      if (this.shown !== "") this.legend.textContent = this.shown = "";
      return;
    }
    const number = (value) => price(value, this.decimals);
    const kind = kindOf(bar);
    const parts = [["O", number(bar.o)], ["H", number(bar.h)], ["L", number(bar.l)], ["C", number(bar.c)], ["V", short(bar.v)]];
    if (Number.isFinite(bar.n)) parts.push(["trades", short(bar.n)]);
    const state = [bar.source?.includes(kind) || bar.state === kind || kind === "real" ? "" : kind, bar.state, bar.source].filter(Boolean).join(" · ");
    const lines = [...(this.values ?? [])].filter(([, values]) => !Number.isNaN(values[i] ?? NaN))
      .map(([name, values]) => [name, number(values[i])]);
    const when = clock(bar.time * 1000, "UTC", this.timeframe === "1d"
      ? { day: "2-digit", month: "short", year: "numeric" } : { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
    const key = JSON.stringify([when, parts, state, lines, bar.c >= bar.o]);
    if (key === this.shown) return;
    this.shown = key;
    const row = (className, ...children) => {
      const out = document.createElement("div");
      out.className = className;
      out.append(...children);
      return out;
    };
    const pair = (label, value, className = "") => {
      const out = document.createElement("span");
      const small = document.createElement("i");
      small.textContent = label;
      out.append(small, value);
      out.className = className;
      return out;
    };
    this.legend.replaceChildren(
      row(bar.c >= bar.o ? "up" : "down", pair(when, ""), ...parts.map(([label, value]) => pair(label, value)), pair(state, "", `state ${kind}`)),
      row("lines", ...lines.map(([name, value]) => {
        const out = pair(name.replaceAll("_", " "), value);
        out.firstChild.style.color = this.colours.lines[name];
        return out;
      })),
    );
  }
}
