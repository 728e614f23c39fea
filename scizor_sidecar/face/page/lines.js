// Indicator lines: the sidecar's values where it has sent them, else worked out from the bars here.

/** What can be drawn: each line's name is that of its value on the wire. */
export const INDICATORS = [
  { id: "sma_20", label: "SMA 20", lines: ["sma_20"] },
  { id: "sma_50", label: "SMA 50", lines: ["sma_50"] },
  { id: "sma_200", label: "SMA 200", lines: ["sma_200"] },
  { id: "ema_20", label: "EMA 20", lines: ["ema_20"] },
  { id: "bands", label: "Bollinger", lines: ["bb_high", "bb_mid", "bb_low"] },
  { id: "vwap", label: "VWAP", lines: ["vwap"] },
];

function mean(bars, span) {
  const out = new Float64Array(bars.length).fill(NaN);
  let sum = 0;
  for (let i = 0; i < bars.length; i += 1) {
    sum += bars[i].c;
    if (i >= span) sum -= bars[i - span].c;
    if (i >= span - 1) out[i] = sum / span;
  }
  return out;
}

/** Shown once what came before the first bar here weighs less than a thousandth. */
function exponential(bars, span) {
  const out = new Float64Array(bars.length).fill(NaN);
  const share = 2 / (span + 1);
  const shownFrom = Math.ceil(Math.log(0.001) / Math.log(1 - share));
  let value = NaN;
  for (let i = 0; i < bars.length; i += 1) {
    value = i === 0 ? bars[i].c : value + share * (bars[i].c - value);
    if (i >= shownFrom) out[i] = value;
  }
  return out;
}

function bands(bars, side) {
  const middle = mean(bars, 20);
  const out = new Float64Array(bars.length).fill(NaN);
  for (let i = 19; i < bars.length; i += 1) {
    let squares = 0;
    for (let back = 0; back < 20; back += 1) squares += (bars[i - back].c - middle[i]) ** 2;
    out[i] = middle[i] + side * 2 * Math.sqrt(squares / 20);
  }
  return out;
}

/** Begins with a session: nothing before the first session whose beginning is among the bars. */
function sessionVwap(bars) {
  const out = new Float64Array(bars.length).fill(NaN);
  let turnover = 0;
  let volume = 0;
  let whole = false;
  for (let i = 0; i < bars.length; i += 1) {
    const bar = bars[i];
    if (i > 0 && bar.day !== bars[i - 1].day) {
      turnover = volume = 0;
      whole = true;
    }
    turnover += ((bar.h + bar.l + bar.c) / 3) * (bar.v || 0);
    volume += bar.v || 0;
    if (whole && volume > 0) out[i] = turnover / volume;
  }
  return out;
}

const WORKED_OUT = {
  sma_20: (bars) => mean(bars, 20),
  sma_50: (bars) => mean(bars, 50),
  sma_200: (bars) => mean(bars, 200),
  ema_20: (bars) => exponential(bars, 20),
  bb_high: (bars) => bands(bars, 1),
  bb_mid: (bars) => mean(bars, 20),
  bb_low: (bars) => bands(bars, -1),
  vwap: sessionVwap,
};

/**
 * One value for each bar, NaN where there is none.
 * @param {string} name as on the wire
 * @param {object[]} bars oldest first, with `day`, the exchange's date
 * @param {Map<number, object>} served second of a closed bar -> its values
 */
export function lineOf(name, bars, served) {
  const out = WORKED_OUT[name](bars);
  if (served.size) {
    for (let i = 0; i < bars.length; i += 1) {
      const value = bars[i].state === "forming" ? undefined : served.get(bars[i].at)?.[name];
      if (typeof value === "number") out[i] = value;
    }
  }
  return out;
}
