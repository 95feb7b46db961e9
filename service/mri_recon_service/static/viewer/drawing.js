// One tile: an image, a difference or k-space, drawn at the shared zoom into a rectangle of a canvas.

import { FIRE, GRAY, fixed, paint } from "./pixels.js";

const ACCENT = "#58b8ff", CENTRE = "#f0b35a";

export class Painter {
  constructor() {
    this.bitmaps = new Map();
  }

  /** The picture of one volume at its own resolution; painted again only when what it shows has changed. */
  bitmap(id, state) {
    const { result, slice, window, show, against, scale, floor } = state;
    const volume = id === "kspace" ? result.kspace : result.volumes.get(id);
    const difference = isDifference(id, state);
    const shown = id === "kspace" ? [floor] : difference ? ["d", against, scale] : [window.low, window.high];
    const key = [slice, show, ...shown].join();
    const known = this.bitmaps.get(id);
    if (known?.key === key && known.result === result) return known.canvas;
    const values = volume.slice(slice);
    const direct = (i) => values[i];
    const { width, height } = volume;
    let canvas;
    if (id === "kspace") canvas = paint(width, height, direct, floor, 0, GRAY);
    else if (difference) canvas = paint(width, height, result.difference(id, against, slice), 0, scale, FIRE);
    else canvas = paint(width, height, direct, window.low, window.high, GRAY);
    this.bitmaps.set(id, { key, result, canvas });
    return canvas;
  }

  /** Draw a tile into (0, 0, width, height) of a context. */
  draw(context, id, state, width, height) {
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (id === "swipe") {
      const at = state.split * width;
      this.#image(context, state.left, state, width, height, [0, at]);
      this.#image(context, state.right, state, width, height, [at, width]);
      context.fillStyle = "rgba(255, 255, 255, 0.85)";
      context.fillRect(Math.round(at) - 0.5, 0, 1, height);
    } else {
      this.#image(context, id, state, width, height, [0, width]);
    }
  }

  #image(context, id, state, width, height, [from, to]) {
    const bitmap = this.bitmap(id, state);
    const place = placement(bitmap, state, width, height);
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    context.imageSmoothingEnabled = state.smooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, place.left, place.top, bitmap.width * place.scale, bitmap.height * place.scale);
    if (id === "kspace" && state.lines) this.#lines(context, state, place);
    if (id !== "kspace" && state.probe) crosshair(context, state.probe, place);
    context.restore();
  }

  #lines(context, { result }, place) {
    const { height } = result.kspace;
    if (result.mask.shape.length === 1) {
      // A band at both ends of the columns, so that the data between them keep their grays.
      const band = Math.max(4, 0.035 * height * place.scale);
      for (const run of runs(result)) {
        context.fillStyle = run.centre ? CENTRE : ACCENT;
        const left = place.left + run.from * place.scale, width = run.length * place.scale;
        context.fillRect(left, place.top, width, band);
        context.fillRect(left, place.top + height * place.scale - band, width, band);
      }
    } else {
      context.globalAlpha = 0.35;
      context.drawImage(this.#pattern(result), place.left, place.top, result.kspace.width * place.scale, height * place.scale);
    }
    context.globalAlpha = 1;
  }

  #pattern(result) {
    const known = this.bitmaps.get("pattern");
    if (known?.result === result) return known.canvas;
    const { data, shape } = result.mask;
    const colours = Uint32Array.from(GRAY, (_, level) => (level ? 0xffffb858 : 0));
    const canvas = paint(shape[1], shape[0], (i) => data[i], 0, 1, colours);
    this.bitmaps.set("pattern", { result, canvas });
    return canvas;
  }
}

/** Whether a tile shows a difference now: the reference of the difference stays an image. */
export function isDifference(id, state) {
  return state.show === "difference" && id !== "kspace" && state.result.differs(id, state.against);
}

/** The value under the probe as it is printed: a magnitude, or a difference in per cent. */
export function probed(id, state) {
  const { result, slice, probe, against } = state;
  const i = probe.row * result.width + probe.column;
  if (isDifference(id, state)) return `${result.difference(id, against, slice)(i).toFixed(2)} %`;
  return fixed(result.volumes.get(id).slice(slice)[i]);
}

/** Where a picture of width x height pixels lies in a tile: its upper left corner, and screen pixels a pixel. */
export function placement(bitmap, { zoom, centre }, width, height) {
  const scale = Math.min(width / bitmap.width, height / bitmap.height) * zoom;
  return {
    scale,
    left: width / 2 - centre.x * bitmap.width * scale,
    top: height / 2 - centre.y * bitmap.height * scale,
  };
}

/** Neighbouring sampled columns as one piece: {from, length, centre}. */
export function runs(result) {
  const columns = result.mask.data, { center_start: start, num_low_frequencies: count } = result.receipt;
  // The centre is so many sampled columns from its first one on: a dead column inside it does not count.
  const pieces = [];
  let left = start === null || start === undefined ? 0 : count;
  for (let column = 0; column < columns.length; column += 1) {
    if (!columns[column]) continue;
    const last = pieces.at(-1), centre = left > 0 && column >= start;
    if (centre) left -= 1;
    if (last && last.from + last.length === column && last.centre === centre) last.length += 1;
    else pieces.push({ from: column, length: 1, centre });
  }
  return pieces;
}

function crosshair(context, { row, column }, place) {
  const x = place.left + (column + 0.5) * place.scale, y = place.top + (row + 0.5) * place.scale;
  context.lineWidth = 1;
  for (const [colour, shift] of [["rgba(0, 0, 0, 0.7)", 1], [ACCENT, 0]]) {
    context.strokeStyle = colour;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * dx + shift, y + 5 * dy + shift);
      context.lineTo(x + 13 * dx + shift, y + 13 * dy + shift);
    }
    context.stroke();
  }
}
