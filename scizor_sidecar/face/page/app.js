// Puts the page together: what comes over the wire goes into the model, each frame draws what changed.

import * as api from "./api.js";
import { fillCatalysts, showMark } from "./catalysts.js";
import { Chart } from "./chart.js";
import { Depth } from "./depth.js";
import { clock } from "./format.js";
import { drawBanner, drawHead, set } from "./head.js";
import { drawAlerts, drawFeeds, ownFigures, Tiles } from "./health.js";
import { INDICATORS } from "./lines.js";
import { Model, kindOf } from "./model.js";
import { Watchlist } from "./watchlist.js";
import { Wire } from "./wire.js";

const $ = (id) => document.getElementById(id);
const TIMEFRAMES = [["1m", "1m"], ["5m", "5m"], ["15m", "15m"], ["1d", "1D"]];
const HISTORY = 500;
const MOST_BARS = 5000;
const WATCHLIST_MS = 20000;
const CATALYSTS_MS = 300000;

/** What was chosen last, kept by the browser. */
const kept = {
  read(name, fallback) {
    try {
      return JSON.parse(localStorage.getItem(`scizor-${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`scizor-${name}`, JSON.stringify(value));
    } catch {
      // It holds for this page then.
    }
  },
};

const model = new Model();
const dirty = { rows: new Set(), books: new Set(), head: true, health: true };
const chosen = { id: kept.read("symbol", null), timeframe: kept.read("timeframe", "1m") };
let indicators = kept.read("indicators", ["ema_20", "bands", "vwap"]);
let loading = null;
let noOlder = false;

/** Milliseconds that each of the last frames took to prepare. */
const spent = new Float64Array(240);
let frames = 0;

const current = () => model.symbols.get(chosen.id);

// ---- parts

const watchlist = new Watchlist($("rows"), $("filter"), (id) => choose(id));
const depth = new Depth($("depth"), (id) => choose(id));
const tiles = new Tiles($("kpis"));
const chart = new Chart($("plot"), $("legend"), {
  older: () => loadOlder(),
  live: (isAtEnd) => { $("tolive").hidden = isAtEnd; },
  marks: showMark,
});
chart.setIndicators(indicators);

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const wire = new Wire(new URL("ws/realtime", `${scheme}//${location.host}/`).href, {
  message: take,
  state: linkState,
  key: api.key,
  needsKey: askForKey,
});

// ---- what comes in

function take(message) {
  switch (message.type) {
    case "hello":
    case "pong":
      model.takeTime(message.time);
      break;
    case "snapshot":
    case "delta":
      takeData(message);
      break;
    case "feed":
      model.takeFeed(message);
      dirty.health = dirty.head = true;
      for (const one of model.symbols.values()) dirty.rows.add(one.id);
      for (const one of model.symbols.values()) if (one.book) dirty.books.add(one.id);
      break;
    case "limits":
      model.takeLimits(message);
      for (const id of model.symbols.keys()) dirty.rows.add(id);
      dirty.head = true;
      depth.drawMissing(model);
      break;
    case "alert":
      model.takeAlert(message);
      dirty.health = true;
      break;
    case "kpi":
      model.kpis = message.data;
      model.stream = message.stream ?? model.stream;
      dirty.health = true;
      break;
    case "error":
      say(`${message.error} ${message.what_to_do ?? ""}`);
      break;
    case "notice":
      if (message.code === "database_away" || message.code === "trades_left_out") say(message.text);
      break;
    default:
  }
}

function takeData({ channel, market, symbol, timeframe, data }) {
  const id = `${market}:${symbol}`;
  const one = model.symbols.get(id);
  if (!one) return;
  if (channel === "ticks") {
    model.takeTicks(one, data);
    dirty.rows.add(id);
  } else if (channel === "quality") {
    model.takeQuality(one, data);
    dirty.rows.add(id);
  } else if (channel === "book") {
    one.book = data.at(-1) ?? one.book;
    dirty.books.add(id);
  } else if (id === chosen.id && timeframe === chosen.timeframe) {
    if (channel === "bars") chart.take(data, { isLive: true });
    else chart.takeIndicators(data);
    if (channel === "bars" && data.length) one.barKind = kindOf(data.at(-1));
  }
  if (id === chosen.id) dirty.head = true;
}

function linkState(state, since, why) {
  model.isOffline = state === "cut";
  model.offlineSince = since + model.skew;
  model.offlineWhy = why;
  const pill = $("link");
  pill.dataset.state = state;
  pill.textContent = { open: "Live", cut: "No connection", connecting: "Connecting" }[state] ?? state;
  for (const id of model.symbols.keys()) dirty.rows.add(id);
  dirty.health = dirty.head = true;
  if (state === "open") refreshWatchlist();
}

// ---- what is asked for

async function refreshWatchlist() {
  let entries;
  try {
    entries = await api.watchlist();
  } catch (error) {
    if (error.status === 401) askForKey();
    else if (!model.isOffline) say(error.message);
    return;
  }
  const before = [...model.symbols.values()].map(({ id, tier }) => `${id} ${tier}`).join();
  model.setEntries(entries);
  if ([...model.symbols.values()].map(({ id, tier }) => `${id} ${tier}`).join() !== before) watchlist.build(model);
  for (const id of model.symbols.keys()) dirty.rows.add(id);
  const ids = [...model.symbols.keys()];
  wire.want("watch", { symbols: ids, channels: ["ticks", "quality"], timeframes: [] });
  wire.want("books", { symbols: ids.filter((id) => model.symbols.get(id).depth), channels: ["book"], timeframes: [] });
  if (!current() && ids.length) choose(ids[0], { isFirst: true });
  else if (current() && chart.symbol !== chosen.id) choose(chosen.id, { isFirst: true });
  if (!ids.length) {
    $("empty").hidden = false;
    $("empty").textContent = "The watchlist is empty. Add a symbol, written market:SYMBOL.";
  }
}

function choose(id, { isFirst = false } = {}) {
  chosen.id = id;
  kept.write("symbol", id);
  watchlist.mark(id);
  if (!isFirst) show("chart");
  begin();
}

function setTimeframe(timeframe) {
  chosen.timeframe = timeframe;
  kept.write("timeframe", timeframe);
  begin();
}

/** Begin the chart anew with what is chosen. */
async function begin() {
  const one = current();
  if (!one) return;
  chart.symbol = one.id;
  one.barKind = "real";
  noOlder = false;
  for (const button of $("timeframes").children) button.setAttribute("aria-pressed", String(button.value === chosen.timeframe));
  // Whose calendar a market follows, the sidecar knows; else the viewer's own clock does.
  const zone = one.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  chart.reset(zone, chosen.timeframe);
  chart.place = zone.split("/").at(-1).replaceAll("_", " ");
  drawZone();
  $("name").textContent = one.symbol;
  $("fullname").textContent = one.name ?? "";
  $("catalysts-of").textContent = one.symbol;
  $("tier").value = String(one.tier);
  document.title = `${one.symbol} · SCIZOR`;
  dirty.head = true;
  // Daily bars are not made of live trades: they stand as they are stored.
  const isLive = chosen.timeframe !== "1d";
  wire.want("chart", { symbols: isLive ? [one.id] : [], channels: ["bars", "indicators"], timeframes: [chosen.timeframe] });
  await Promise.all([loadBars(one), loadCatalysts(one)]);
}

async function loadBars(one, end) {
  const asked = `${one.id} ${chosen.timeframe}`;
  loading = asked;
  try {
    const answer = await api.bars(one, chosen.timeframe, HISTORY, end);
    if (asked !== `${chosen.id} ${chosen.timeframe}`) return;
    chart.take(answer.bars, { isLive: false });
    if (end && answer.bars.length === 0) noOlder = true;
    const isEmpty = !end && answer.bars.length === 0 && chart.bars.length === 0;
    $("empty").hidden = !isEmpty;
    if (isEmpty) $("empty").textContent = answer.empty_reason ?? "No bars are stored for this symbol and timeframe.";
  } catch (error) {
    if (error.status !== 401 && !model.isOffline) say(error.message);
  } finally {
    if (loading === asked) loading = null;
  }
}

function loadOlder() {
  const one = current();
  if (!one || loading || noOlder || !chart.bars.length || chart.bars.length > MOST_BARS) return;
  loadBars(one, new Date((chart.bars[0].at - 1) * 1000).toISOString());
}

async function loadCatalysts(one) {
  const days = chosen.timeframe === "1d" ? 730 : 30;
  let events = [];
  try {
    events = await api.catalysts(one, new Date(model.now() - days * 86400000).toISOString());
  } catch {
    // The chart does without; the list says so.
    if (one.id === chosen.id) fillCatalysts([], "Catalysts could not be read.");
    return;
  }
  if (one.id !== chosen.id) return;
  chart.setCatalysts(events);
  fillCatalysts(events, `None in ${days} days.`);
}

// ---- what is drawn

function frame() {
  // First, so that a fault in one frame is not the last one.
  requestAnimationFrame(frame);
  const begin = performance.now();
  chart.frame();
  if (chart.bars.length) $("empty").hidden = true;
  for (const id of dirty.rows) {
    const one = model.symbols.get(id);
    if (one) watchlist.draw(one, model);
  }
  dirty.rows.clear();
  for (const id of dirty.books) {
    const one = model.symbols.get(id);
    if (one) depth.draw(one, model, model.isOffline || model.cutOf(one) !== null);
  }
  dirty.books.clear();
  if (dirty.head && current()) drawHead(current(), model);
  if (dirty.health) {
    drawFeeds($("feeds"), $("feedlist"), model);
    drawAlerts($("alerts"), $("alerts-count"), model);
    tiles.draw([...ownFigures(model.stream), ...(model.kpis ?? [])]);
    drawBanner(model);
  }
  dirty.head = dirty.health = false;
  spent[frames % spent.length] = performance.now() - begin;
  frames += 1;
}

let silence;
/** Show a short message for some seconds. */
function say(text) {
  const box = $("toast");
  box.textContent = text.trim();
  box.hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => { box.hidden = true; }, 8000);
}

// ---- what people do

function show(view) {
  document.body.dataset.view = view;
  for (const tab of $("tabs").children) tab.setAttribute("aria-pressed", String(tab.dataset.view === view));
}

function askForKey() {
  const dialog = $("key-dialog");
  if (dialog.open) return;
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "ok") return;
    api.setKey($("key-input").value);
    wire.again();
    refreshWatchlist();
  }, { once: true });
}

async function attempt(work) {
  try {
    await work();
    await refreshWatchlist();
  } catch (error) {
    say(error.message);
  }
}

function makeControls() {
  $("timeframes").append(...TIMEFRAMES.map(([value, text], i) => {
    const button = Object.assign(document.createElement("button"), { type: "button", value, textContent: text, title: `Key ${i + 1}` });
    button.addEventListener("click", () => setTimeframe(value));
    return button;
  }));
  $("indicators").append(...INDICATORS.map(({ id, label, lines }) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.dataset.line = lines[0];
    button.setAttribute("aria-pressed", String(indicators.includes(id)));
    button.addEventListener("click", () => {
      indicators = indicators.includes(id) ? indicators.filter((each) => each !== id) : [...indicators, id];
      button.setAttribute("aria-pressed", String(indicators.includes(id)));
      kept.write("indicators", indicators);
      chart.setIndicators(indicators);
    });
    return button;
  }));
  $("theme").addEventListener("click", () => window.switchTheme());
  $("tolive").addEventListener("click", () => chart.toLive());
  for (const tab of $("tabs").children) tab.addEventListener("click", () => show(tab.dataset.view));
  $("add").addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    const [market, ...rest] = form.symbol.value.trim().split(":");
    attempt(async () => {
      await api.addEntry(market.toLowerCase(), rest.join(":").toUpperCase(), Number(form.tier.value));
      form.reset();
    });
  });
  $("tier").addEventListener("change", () => attempt(() => api.changeEntry(current(), Number($("tier").value))));
  $("remove").addEventListener("click", () => {
    $("entry").open = false;
    attempt(() => api.removeEntry(current()));
  });
  document.addEventListener("click", (event) => {
    if (!$("entry").contains(event.target)) $("entry").open = false;
  });
  document.addEventListener("keydown", onKey);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const timeframe = TIMEFRAMES[Number(event.key) - 1];
  if (timeframe) setTimeframe(timeframe[0]);
  else if (event.key === "/") $("filter").focus();
  else if (event.key === "t") window.switchTheme();
  else if (event.key === "ArrowDown") watchlist.step(1);
  else if (event.key === "ArrowUp") watchlist.step(-1);
  else return;
  event.preventDefault();
}

async function readFigures() {
  try {
    const answer = await api.metrics();
    model.stream = answer.stream;
    model.kpis = answer.kpis ?? model.kpis;
    dirty.health = true;
  } catch {
    // They come over the wire soon.
  }
}

/** Whose clock the chart shows, and how long the running bar still has. */
function drawZone() {
  const minutes = { "1m": 1, "5m": 5, "15m": 15 }[chosen.timeframe];
  if (!minutes) {
    set($("zone"), "session dates");
    return;
  }
  const left = minutes * 60 - (Math.floor(model.now() / 1000) % (minutes * 60));
  const running = chart.bars.at(-1)?.state === "forming" && !model.isOffline && !model.cutOf(current());
  set($("zone"), `times: ${chart.place ?? "UTC"}${running ? ` · bar ends in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : ""}`);
}

function everySecond() {
  drawZone();
  set($("clock"), `${clock(model.now())} UTC`);
  for (const one of model.symbols.values()) watchlist.drawAge(one, model);
  depth.drawMissing(model);
  depth.drawEmpty();
  dirty.head = true;
  dirty.health = true;
}

makeControls();
show("chart");
setInterval(everySecond, 1000);
setInterval(refreshWatchlist, WATCHLIST_MS);
setInterval(() => current() && !document.hidden && loadCatalysts(current()), CATALYSTS_MS);
refreshWatchlist();
readFigures();
requestAnimationFrame(frame);
// For tests and for people who look at the console.
window.scizor = { model, wire, chart, chosen, spent };
