// One tile: an image, its phase, a difference or k-space, drawn at the shared zoom into a rectangle of a canvas.

import { lettersOf, scaleBar } from "./geometry.js";
import { FIRE, GRAY, degrees, fixed, paint } from "./pixels.js";

const NARROW = 240, STRIP = 18; // pixels: under a narrower image its marks have a strip of their own
const ACCENT = "#58b8ff", CENTRE = "#f0b35a", MARK = "#ffe14d";
const FONT = "600 12px system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

export class Painter {
  constructor() {
    this.bitmaps = new Map();
  }

  /** The picture of one volume at its own resolution; painted again only when what it shows has changed. */
  bitmap(id, state) {
    const { result, slice, against, scale, floor, invert } = state;
    const kind = shownOf(id, state), gain = result.gain(id), window = { low: state.window.low * gain, high: state.window.high * gain };
    const volume = kind === "kspace" ? result.kspace : kind === "phase" ? result.phase.get(id) : result.volumes.get(id);
    const settings = { kspace: [floor], phase: [], difference: [against, scale], image: [window.low, window.high, invert] }[kind];
    const key = [slice, kind, ...settings].join();
    const sources = [volume, kind === "difference" ? (result.trust.get(id) ?? null) : null, kind === "difference" ? (result.volumes.get(against) ?? null) : null];
    const known = this.bitmaps.get(id);
    if (known?.key === key && known.sources.every((one, i) => one === sources[i])) return known.canvas;
    const values = volume.slice(slice);
    const direct = (i) => values[i];
    const { width, height } = volume;
    let canvas;
    if (kind === "kspace") canvas = paint(width, height, direct, floor, 0, GRAY);
    else if (kind === "phase") canvas = paint(width, height, direct, 0, 255, GRAY);
    else if (kind === "difference") canvas = paint(width, height, result.difference(id, against, slice), 0, scale, FIRE);
    else canvas = paint(width, height, direct, window.low, window.high, invert ? GRAY.slice().reverse() : GRAY);
    this.bitmaps.set(id, { key, sources, canvas });
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
    marks(context, id, state, width, height);
    if (id !== "kspace") overlay(context, id, state, width, height);
  }

  #image(context, id, state, width, height, [from, to]) {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, roomOf(id, state, width, height));
    context.clip();
    const place = placement(id, state, width, height);
    if (shownOf(id, state) === null) {
      message(context, missingText(id, state), (from + to) / 2, height / 2, to - from);
    } else {
      const bitmap = this.bitmap(id, state);
      context.imageSmoothingEnabled = state.smooth;
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, place.left, place.top, bitmap.width * place.sx, bitmap.height * place.sy);
    }
    if (id === "kspace" && state.lines) this.#lines(context, state, place);
    if (id !== "kspace" && state.mark) drawMark(context, state.mark, place);
    if (id !== "kspace" && state.probe) crosshair(context, state.probe, place);
    context.restore();
  }

  #lines(context, { result }, place) {
    const { height } = result.kspace;
    if (result.mask.shape.length === 1) {
      // A band at both ends of the columns, so that the data between them keep their grays.
      const band = Math.max(4, 0.035 * height * place.sy);
      for (const run of runs(result)) {
        context.fillStyle = run.centre ? CENTRE : ACCENT;
        const left = place.left + run.from * place.sx, width = run.length * place.sx;
        context.fillRect(left, place.top, width, band);
        context.fillRect(left, place.top + height * place.sy - band, width, band);
      }
    } else {
      context.globalAlpha = 0.35;
      context.drawImage(this.#pattern(result), place.left, place.top, result.kspace.width * place.sx, height * place.sy);
    }
    context.globalAlpha = 1;
  }

  #pattern(result) {
    const known = this.bitmaps.get("pattern");
    if (known?.mask === result.mask) return known.canvas;
    const { data, shape } = result.mask;
    const colours = Uint32Array.from(GRAY, (_, level) => (level ? 0xffffb858 : 0));
    const canvas = paint(shape[1], shape[0], (i) => data[i], 0, 1, colours);
    this.bitmaps.set("pattern", { mask: result.mask, canvas });
    return canvas;
  }
}

/** What a tile shows now: "kspace", "image", "phase" or "difference"; null where it has no such thing to show. */
export function shownOf(id, state) {
  const { result, show, against } = state;
  if (id === "kspace" || id === "swipe") return id;
  if (show === "phase") return result.phase.has(id) ? "phase" : null;
  if (show !== "difference") return "image";
  if (result.differs(id, against)) return "difference";
  if (against === "trust" || (result.apart && id[0] !== against[0])) return null;
  return "image"; // the image of which the others show the difference
}

function missingText(id, { show, against }) {
  if (show === "phase") return "No phase is known";
  return against === "trust" ? "No expected error is known" : "Another scan: no difference";
}

/** The function of a pixel's index that gives what a tile shows there, in its units; null where it shows nothing. */
export function valuesOf(id, state) {
  const { result, slice, against } = state, kind = shownOf(id, state);
  if (kind === null || kind === "kspace") return null;
  if (kind === "difference") return result.difference(id, against, slice);
  const values = (kind === "phase" ? result.phase : result.volumes).get(id).slice(slice);
  return kind === "phase" ? (i) => degrees(values[i]) : (i) => values[i];
}

/** The value under the probe as it is printed: a magnitude, degrees, or a difference in per cent. */
export function probed(id, state) {
  const { result, probe } = state, value = valuesOf(id, state);
  if (!value) return "–";
  const one = value(probe.row * result.width + probe.column), kind = shownOf(id, state);
  return kind === "difference" ? `${one.toFixed(2)} %` : kind === "phase" ? `${one.toFixed(0)}°` : fixed(one);
}

/**
 * Where a tile's picture lies: its upper left corner, and screen pixels for a column (sx) and a row (sy). Pixels have
 * the shape that the scan's header gives them. k-space stays whole: it is no place in the image.
 */
export function placement(id, state, width, height) {
  const { result, zoom, centre, left } = state;
  const kspace = id === "kspace", size = kspace ? result.kspace : result;
  const aspect = kspace ? 1 : result.runOf(id === "swipe" ? left : id).aspect;
  const [enlarged, { x, y }] = kspace ? [1, { x: 0.5, y: 0.5 }] : [zoom, centre];
  const room = roomOf(id, state, width, height);
  const sx = Math.min(width / size.width, room / (size.height * aspect)) * enlarged, sy = sx * aspect;
  return { sx, sy, left: width / 2 - x * size.width * sx, top: room / 2 - y * size.height * sy };
}

/** Height that a tile has for its image: a narrow one keeps a strip below for its marks, which would hide anatomy. */
export function roomOf(id, { result, overlay: wanted }, width, height) {
  const run = result.runOf(id), marked = run.simulated || (wanted && run.geometry);
  return width < NARROW && marked ? height - STRIP : height;
}

/** Neighbouring sampled columns as one piece: {from, length, centre}. */
export function runs({ mask, receipt }) {
  const columns = mask.data, { center_start: start, num_low_frequencies: count } = receipt;
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

/** The mask as a strip, one row high where it is of columns. */
export function drawStrip(canvas, { mask, receipt }) {
  const pattern = mask.shape.length > 1, [height, width] = pattern ? mask.shape : [1, mask.shape[0]];
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("pattern", pattern);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  if (!pattern) {
    for (const run of runs({ mask, receipt })) {
      context.fillStyle = run.centre ? CENTRE : ACCENT;
      context.fillRect(run.from, 0, run.length, 1);
    }
    return;
  }
  context.fillStyle = ACCENT;
  for (let i = 0; i < mask.data.length; i += 1) if (mask.data[i]) context.fillRect(i % width, Math.floor(i / width), 1, 1);
}

/** The mark of simulated data, of each image that a tile shows. */
function marks(context, id, state, width, height) {
  const { result, left, right, layout } = state;
  // Beside one or two images their names stand in the upper corners.
  const y = roomOf(id, state, width, height) < height ? height - 5 : layout === "grid" ? 16 : 68;
  for (const [one, at, align] of id === "swipe" ? [[left, 7, "left"], [right, width - 7, "right"]] : [[id, 7, "left"]]) {
    if (result.runOf(one).simulated) text(context, "SIMULATED", at, y, align, { colour: CENTRE, narrow: width < NARROW });
  }
}

/** Letters of the patient's sides and the bar of the scale; of two images only what holds for both. */
function overlay(context, id, state, width, height) {
  const { result } = state;
  if (!state.overlay || width < 90 || shownOf(id, state) === null) return;
  const [geometry, other] = (id === "swipe" ? [state.left, state.right] : [id, id]).map((one) => result.runOf(one).geometry);
  if (JSON.stringify(geometry) !== JSON.stringify(other)) return;
  const letters = lettersOf(geometry);
  const room = roomOf(id, state, width, height), narrow = room < height;
  if (letters) {
    text(context, letters.left, 6, room / 2 + 4, "left", { narrow });
    text(context, letters.right, width - 6, room / 2 + 4, "right", { narrow });
    text(context, letters.top, width / 2, narrow ? 12 : 16, "center", { narrow });
    text(context, letters.bottom, width / 2, room - (narrow ? 3 : 7), "center", { narrow });
  }
  const place = placement(id, state, width, height), bar = scaleBar(geometry, place.sx, narrow ? width / 6 : Math.min(110, width / 4));
  if (!bar) return;
  const right = width - (narrow ? 6 : 10), y = height - (narrow ? 8 : 10);
  for (const [colour, thick] of [["rgba(0, 0, 0, 0.8)", 5], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.beginPath();
    context.moveTo(right - bar.pixels, y);
    context.lineTo(right, y);
    context.stroke();
  }
  if (narrow) text(context, bar.text, right - bar.pixels - 5, y + 3, "right", { narrow });
  else text(context, bar.text, right, y - 6, "right");
}

function text(context, words, x, y, align, { colour = "#fff", narrow = false } = {}) {
  context.font = narrow ? FONT.replace("12px", "10px") : FONT;
  context.textAlign = align;
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.85)";
  context.strokeText(words, x, y);
  context.fillStyle = colour;
  context.fillText(words, x, y);
}

function message(context, words, x, y, room) {
  context.font = FONT;
  context.textAlign = "center";
  context.fillStyle = "#b9c2cf";
  context.fillText(words, x, y, Math.max(20, room - 16));
}

function drawMark(context, { kind, a, b }, place) {
  const [ax, ay, bx, by] = [place.left + a.x * place.sx, place.top + a.y * place.sy, place.left + b.x * place.sx, place.top + b.y * place.sy];
  for (const [colour, thick] of [["rgba(0, 0, 0, 0.75)", 4], [MARK, 1.6]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.beginPath();
    if (kind === "line") {
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
    } else {
      context.ellipse((ax + bx) / 2, (ay + by) / 2, Math.abs(ax - bx) / 2, Math.abs(ay - by) / 2, 0, 0, 2 * Math.PI);
    }
    context.stroke();
  }
}

function crosshair(context, { row, column }, place) {
  const x = place.left + (column + 0.5) * place.sx, y = place.top + (row + 0.5) * place.sy;
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
