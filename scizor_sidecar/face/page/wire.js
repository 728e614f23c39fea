// The WebSocket: keeps it open, says when it is not, and asks for what is wanted again after a cut.

const PING_MS = 1200;
// A ping without an answer for so long means that the connection is dead, whatever the socket says.
const ANSWER_MS = 2600;
const LONGEST_PAUSE_MS = 5000;

// Twenty frames a second, each with all that has come: more than is drawn need not be sent.
const HOW = { format: "json", batch: true, interval_ms: 50 };

// A message to the sidecar may have 64 KiB.
const SYMBOLS_AT_ONCE = 200;

/** What is subscribed to as one: {symbols, timeframes, channels}. */
const keysOf = (group) => {
  const keys = [];
  for (const channel of group.channels) {
    for (const symbol of group.symbols) {
      if (channel === "bars" || channel === "indicators") {
        for (const timeframe of group.timeframes) keys.push(`${channel}|${symbol}|${timeframe}`);
      } else {
        keys.push(`${channel}|${symbol}`);
      }
    }
  }
  return keys;
};

export class Wire {
  /**
   * @param {string} url
   * @param {{message: (m: object) => void, state: (state: string, since: number, why: string) => void, key: () => string | null, needsKey: () => void}} told
   */
  constructor(url, told) {
    this.url = url;
    this.told = told;
    this.groups = new Map();
    this.sequences = new Map();
    this.counts = { messages: 0, skipped: 0, reconnects: 0 };
    this.pause = 500;
    this.heard = 0;
    this.pinged = 0;
    this.lastData = Date.now();
    this.state = "connecting";
    this.socket = null;
    this.open();
    setInterval(() => this.watch(), 300);
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  /** Replace one group of subscriptions. */
  want(name, group) {
    const before = this.groups.get(name);
    if (before && JSON.stringify(before) === JSON.stringify(group)) return;
    this.groups.set(name, group);
    if (before) for (const key of keysOf(before)) this.sequences.delete(key);
    if (!this.isReady) return;
    if (before) this.ask("unsubscribe", before);
    this.ask("subscribe", group);
  }

  /** Subscribe, after what was seen last, or unsubscribe. */
  ask(op, group) {
    for (let at = 0; at < group.symbols.length; at += SYMBOLS_AT_ONCE) {
      const part = { ...group, symbols: group.symbols.slice(at, at + SYMBOLS_AT_ONCE) };
      if (op === "unsubscribe") {
        this.send({ op, ...part });
        continue;
      }
      const seen = keysOf(part).filter((key) => this.sequences.has(key));
      const resume = Object.fromEntries(seen.map((key) => [key, this.sequences.get(key)]));
      this.send({ op, ...part, resume, ...HOW });
    }
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  open() {
    clearTimeout(this.timer);
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.isReady = false;
    this.heard = this.pinged = 0;
    this.begun = performance.now();
    socket.onmessage = (event) => socket === this.socket && this.take(event.data);
    socket.onclose = (event) => socket === this.socket && this.closed(event.reason || `code ${event.code}`, event.code);
  }

  /** Say the key where one is asked for, then ask again for all that is wanted. */
  greet({ auth }) {
    if (auth === "needed") {
      const key = this.told.key();
      if (key) this.send({ op: "auth", key });
      else this.told.needsKey();
      return;
    }
    if (this.isReady) return;
    this.isReady = true;
    this.pause = 500;
    for (const group of this.groups.values()) this.ask("subscribe", group);
    this.change("open", "");
  }

  take(text) {
    this.heard = performance.now();
    this.lastData = Date.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this.counts.skipped += 1;
      return;
    }
    // A frame may hold several messages.
    for (const each of Array.isArray(message) ? message : [message]) {
      this.counts.messages += 1;
      if (each.key !== undefined && each.seq !== undefined) this.sequences.set(each.key, each.seq);
      if (each.type === "hello") this.greet(each);
      this.told.message(each);
    }
  }

  /** Ping, and end a connection that does not answer. */
  watch() {
    const now = performance.now();
    if (this.socket?.readyState === WebSocket.CONNECTING && now - this.begun > 4000) {
      this.closed("no answer");
      return;
    }
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const waits = this.pinged > this.heard;
    if (waits && now - this.pinged > ANSWER_MS) {
      this.closed("silent");
    } else if (!waits && now - this.pinged > PING_MS) {
      this.pinged = now;
      this.send({ op: "ping" });
    }
  }

  closed(why, code = 0) {
    const old = this.socket;
    this.socket = null;
    this.isReady = false;
    old?.close();
    this.counts.reconnects += 1;
    this.change("cut", why);
    if (code === 4401) this.told.needsKey();
    this.timer = setTimeout(() => this.open(), this.pause * (0.7 + 0.6 * Math.random()));
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
  }

  retryNow() {
    if (this.socket === null) this.open();
  }

  /** Connect anew, for example with another key. */
  again() {
    const old = this.socket;
    this.socket = null;
    old?.close();
    this.pause = 500;
    this.open();
  }

  change(state, why) {
    if (state === this.state) return;
    this.state = state;
    this.told.state(state, this.lastData, why);
  }
}
