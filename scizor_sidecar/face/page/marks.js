// Drawn below the candles: where sessions begin, and catalysts as lettered dots.

const LETTERS = { earnings: "E", dividend: "D", split: "S", insider: "I", merger: "M", holding: "H" };

export const letterOf = (type) => LETTERS[type] ?? (type[0] ?? "N").toUpperCase();

const RADIUS = 8;

export class Marks {
  constructor(coloursOf) {
    this.coloursOf = coloursOf;
    this.items = [];
    this.sessions = [];
    this.drawn = [];
    const renderer = { draw: (target) => this.draw(target) };
    this.views = [{ renderer: () => renderer, zOrder: () => "top" }];
    const below = { draw: (target) => this.drawSessions(target) };
    this.views.push({ renderer: () => below, zOrder: () => "bottom" });
  }

  attached({ chart, requestUpdate }) {
    this.chart = chart;
    this.redraw = requestUpdate;
  }

  paneViews() {
    return this.views;
  }

  /** @param items catalysts with `time` (of the bar they stand at); @param sessions chart times. */
  set(items, sessions) {
    this.items = items;
    this.sessions = sessions;
    this.redraw?.();
  }

  drawSessions(target) {
    if (!this.chart || !this.sessions.length) return;
    const scale = this.chart.timeScale();
    target.useBitmapCoordinateSpace(({ context: pen, bitmapSize, horizontalPixelRatio: hr }) => {
      pen.strokeStyle = this.coloursOf().session;
      pen.lineWidth = Math.max(1, Math.floor(hr));
      pen.setLineDash([3 * hr, 4 * hr]);
      const spacing = scale.options().barSpacing;
      for (const time of this.sessions) {
        const x = scale.timeToCoordinate(time);
        if (x === null || x < 0) continue;
        const at = Math.round((x - spacing / 2) * hr) + 0.5;
        pen.beginPath();
        pen.moveTo(at, 0);
        pen.lineTo(at, bitmapSize.height);
        pen.stroke();
      }
      pen.setLineDash([]);
    });
  }

  draw(target) {
    this.drawn = [];
    if (!this.chart || !this.items.length) return;
    const scale = this.chart.timeScale();
    const colours = this.coloursOf();
    target.useBitmapCoordinateSpace(({ context: pen, bitmapSize, horizontalPixelRatio: hr, verticalPixelRatio: vr }) => {
      const stacked = new Map();
      for (const item of this.items) {
        const x = scale.timeToCoordinate(item.time);
        if (x === null || x < -RADIUS) continue;
        const level = stacked.get(item.time) ?? 0;
        stacked.set(item.time, level + 1);
        const y = bitmapSize.height / vr - RADIUS - 4 - level * (2 * RADIUS + 3);
        this.drawn.push({ x, y, item });
        pen.beginPath();
        pen.arc(x * hr, y * vr, RADIUS * hr, 0, 7);
        const strong = item.impact >= 7;
        pen.fillStyle = strong ? colours.note : colours.ground;
        pen.fill();
        pen.lineWidth = 1.5 * hr;
        pen.strokeStyle = colours.note;
        pen.setLineDash(item.sample ? [2 * hr, 2 * hr] : []);
        pen.stroke();
        pen.setLineDash([]);
        pen.fillStyle = strong ? colours.ground : colours.note;
        pen.font = `600 ${Math.round(10 * hr)}px system-ui, sans-serif`;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(letterOf(item.type), x * hr, (y + 0.5) * vr);
      }
    });
  }

  /** The catalysts under a point of the pane. */
  at(x, y) {
    return this.drawn.filter((each) => Math.hypot(each.x - x, each.y - y) <= RADIUS + 3);
  }
}
