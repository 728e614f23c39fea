// Numbers and times as people read them.

const group = new Map();

function formatter(decimals) {
  if (!group.has(decimals)) {
    group.set(decimals, new Intl.NumberFormat("en", {
      minimumFractionDigits: decimals, maximumFractionDigits: decimals,
    }));
  }
  return group.get(decimals);
}

/** Digits after the point that a price of this size needs. */
export function decimalsOf(price) {
  const size = Math.abs(price);
  if (!Number.isFinite(size) || size >= 2) return 2;
  if (size >= 0.1) return 3;
  if (size >= 0.01) return 4;
  return 6;
}

export function price(value, decimals = decimalsOf(value)) {
  return Number.isFinite(value) ? formatter(decimals).format(value) : "–";
}

export function signed(value, decimals) {
  if (!Number.isFinite(value)) return "–";
  const text = formatter(decimals).format(Math.abs(value));
  if (Number(text.replaceAll(",", "")) === 0) return text;
  return (value > 0 ? "+" : "−") + text;
}

/** 1,234 as 1.23k; what is below a thousand as it is. */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return (value / size).toPrecision(3) + unit;
  }
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

/** Seconds as 4s, 3m, 2h or 5d. */
export function age(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

const clocks = new Map();

/** A time of an instant (milliseconds) in a zone. */
export function clock(ms, zone = "UTC", options = { hour: "2-digit", minute: "2-digit", second: "2-digit" }) {
  const key = zone + JSON.stringify(options);
  if (!clocks.has(key)) {
    clocks.set(key, new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", timeZone: zone, ...options }));
  }
  return clocks.get(key).format(ms);
}

const offsets = new Map();

/** Seconds that a zone is ahead of UTC at an instant (seconds); looked up once for each quarter hour. */
export function offsetSeconds(zone, seconds) {
  if (zone === "UTC") return 0;
  const quarter = Math.floor(seconds / 900) * 900;
  const key = `${zone} ${quarter}`;
  let found = offsets.get(key);
  if (found === undefined) {
    const text = clock(quarter * 1000, zone, {
      year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    });
    const [day, month, year, hour, minute, second] = text.match(/\d+/g).map(Number);
    found = Date.UTC(year, month - 1, day, hour, minute, second) / 1000 - quarter;
    if (offsets.size > 20000) offsets.clear();
    offsets.set(key, found);
  }
  return found;
}

/** Milliseconds of what the wire sends: microseconds as a number, or ISO 8601. */
export function instant(value) {
  if (typeof value === "number") return value / 1000;
  return Date.parse(value);
}
