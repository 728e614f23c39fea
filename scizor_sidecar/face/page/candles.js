// Candles that show what they are: solid where real, hatched or hollow where not.

import { customSeriesDefaultOptions } from "./vendor/lightweight-charts.mjs";
import { kindOf } from "./model.js";

const patterns = new Map();

/** A tile of lines: diagonal for simulated bars, level for sampled ones. */
function pattern(context, kind, colour, ratio) {
  const key = `${kind} ${colour} ${ratio}`;
  let found = patterns.get(key);
  if (!found) {
    const size = Math.max(4, Math.round(4 * ratio));
    const tile = document.createElement("canvas");
    tile.width = tile.height = size;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = Math.max(1, 1.25 * ratio);
    pen.beginPath();
    if (kind === "sampled") {
      pen.moveTo(0, size / 2);
      pen.lineTo(size, size / 2);
    } else {
      for (const shift of [-size, 0, size]) {
        pen.moveTo(shift, size);
        pen.lineTo(shift + size, 0);
      }
    }
    pen.stroke();
    found = context.createPattern(tile, "repeat");
    patterns.set(key, found);
  }
  return found;
}

class Renderer {
  constructor() {
    this.data = null;
    this.colours = null;
  }

  draw(target, toY) {
    const { data, colours } = this;
    if (!data?.visibleRange || !colours) return;
    target.useBitmapCoordinateSpace((scope) => {
      const { context: pen, horizontalPixelRatio: hr, verticalPixelRatio: vr } = scope;
      const wick = Math.max(1, Math.floor(hr));
      let body = Math.max(wick, Math.floor(data.barSpacing * 0.78 * hr));
      if (body > 1 && (body - wick) % 2) body -= 1;
      const { from, to } = data.visibleRange;
      for (let i = from; i < to; i += 1) {
        const { x, originalData: bar } = data.bars[i];
        const rises = bar.c >= bar.o;
        const kind = kindOf(bar);
        const colour = rises ? colours.up : colours.down;
        const centre = Math.round(x * hr);
        const left = centre - Math.floor(body / 2);
        const yHigh = Math.round(toY(bar.h) * vr);
        const yLow = Math.round(toY(bar.l) * vr);
        const yTop = Math.round(toY(Math.max(bar.o, bar.c)) * vr);
        const yBottom = Math.max(Math.round(toY(Math.min(bar.o, bar.c)) * vr), yTop + Math.max(1, Math.floor(vr)));
        const wickLeft = centre - Math.floor(wick / 2);
        pen.fillStyle = colour;
        if (yTop > yHigh) pen.fillRect(wickLeft, yHigh, wick, yTop - yHigh);
        if (yLow > yBottom) pen.fillRect(wickLeft, yBottom, wick, yLow - yBottom);
        const height = yBottom - yTop;
        if (kind === "real" && bar.state !== "forming") {
          pen.fillRect(left, yTop, body, height);
        } else if (kind === "real") {
          pen.globalAlpha = 0.45;
          pen.fillRect(left, yTop, body, height);
          pen.globalAlpha = 1;
          this.outline(pen, colour, left, yTop, body, height, hr, []);
        } else {
          pen.fillStyle = colours.ground;
          pen.fillRect(left, yTop, body, height);
          if (kind !== "provisional" && body >= 4 * hr) {
            pen.fillStyle = pattern(pen, kind, colour, hr);
            pen.fillRect(left, yTop, body, height);
          }
          this.outline(pen, colour, left, yTop, body, height, hr, kind === "provisional" && body >= 5 * hr ? [2 * hr, 2 * hr] : []);
        }
        if (bar.state === "revised" && body >= 3 * hr) {
          const dot = Math.max(2, Math.round(Math.min(2.5 * hr, body / 2)));
          pen.fillStyle = colours.note;
          pen.beginPath();
          pen.arc(centre + (wick % 2) / 2, yHigh - dot - 3 * vr, dot, 0, 7);
          pen.fill();
        }
      }
    });
  }

  outline(pen, colour, left, top, width, height, ratio, dash) {
    const line = Math.max(1, Math.floor(ratio));
    if (width <= 2 * line || height <= 2 * line) {
      pen.fillStyle = colour;
      pen.fillRect(left, top, width, Math.min(height, line * 2));
      return;
    }
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.setLineDash(dash);
    pen.strokeRect(left + line / 2, top + line / 2, width - line, height - line);
    pen.setLineDash([]);
  }
}

export class CandleView {
  constructor() {
    this.pen = new Renderer();
  }

  set colours(colours) {
    this.pen.colours = colours;
  }

  renderer() {
    return this.pen;
  }

  update(data) {
    this.pen.data = data;
  }

  priceValueBuilder(bar) {
    return [bar.h, bar.l, bar.c];
  }

  isWhitespace(bar) {
    return bar.c === undefined;
  }

  defaultOptions() {
    return customSeriesDefaultOptions;
  }
}
