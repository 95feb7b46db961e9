// The images: tiles in a grid, one alone, or two under a divider; zoom, place and slice are the same in all of them.

import { Painter, placement, probed, roomOf, shownOf } from "./drawing.js";
import { make } from "./dom.js";
import { listen } from "./gestures.js";
import { isSmall } from "./measure.js";
import { label, measured } from "./result.js";
import { CENTRED, MAX_ZOOM } from "./store.js";

const GAP = 8, CAPTION = 36, LINE = 18, NARROW = 260; // pixels: a narrower tile needs more lines for its caption
const TELEPHONE = window.matchMedia("(max-width: 699px)");
const COMPACT = 260, BARE = 22; // a lower stage has captions of a name alone

export class Stage {
  constructor(root, store) {
    this.root = root;
    this.store = store;
    this.painter = new Painter();
    this.tiles = new Map();
    this.pending = false;
    new ResizeObserver(() => this.#arrange()).observe(root);
    TELEPHONE.addEventListener("change", () => this.#arrange());
    store.subscribe((changed) => {
      const any = (...names) => names.some((name) => changed.has(name));
      if (any("result", "layout", "showKspace", "waiting")) this.#build();
      else if (any("slice", "single", "left", "right", "split", "show", "against")) this.#captions();
      if (any("probe", "slice", "show", "against", "left", "right", "single", "layout", "result")) this.#values();
      this.redraw();
    });
  }

  /** Ids of the tiles of the present layout; in the grid also of methods that are not done. */
  get shown() {
    const { result, layout, showKspace, single, waiting } = this.store.values;
    if (!result) return [];
    if (layout === "swipe" && result.ids.length) return ["swipe"];
    if (layout === "single" && result.ids.length) return [single];
    return [...result.ids, ...[...waiting.keys()].filter((id) => !result.ids.includes(id)), ...(showKspace && result.kspace ? ["kspace"] : [])];
  }

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.#draw();
    });
  }

  /** Zoom about a place of a tile, in its CSS pixels; about the middle without one. */
  zoom(factor, tile = this.#firstImage, x = null, y = null) {
    const state = this.store.values;
    if (!state.result || !tile || tile.id === "kspace") return;
    const zoom = Math.min(MAX_ZOOM, Math.max(1, state.zoom * factor));
    const { clientWidth: width, clientHeight: tall } = tile.canvas, height = roomOf(tile.id, state, width, tall);
    const before = placement(tile.id, state, width, tall), grown = zoom / state.zoom;
    const [px, py] = [x ?? width / 2, y ?? height / 2];
    const after = { sx: before.sx * grown, sy: before.sy * grown }, { result } = state;
    // The point under the pointer stays where it is.
    const centre = {
      x: (px - before.left) / before.sx / result.width + (width / 2 - px) / after.sx / result.width,
      y: (py - before.top) / before.sy / result.height + (height / 2 - py) / after.sy / result.height,
    };
    this.store.set({ zoom, centre: clamped(centre, result, after, width, height) });
  }

  /** Move what is seen by CSS pixels. */
  pan(dx, dy, tile = this.#firstImage) {
    const state = this.store.values;
    if (!state.result || !tile || tile.id === "kspace") return;
    const { clientWidth: width, clientHeight: tall } = tile.canvas, { result } = state;
    const place = placement(tile.id, state, width, tall), height = roomOf(tile.id, state, width, tall);
    const centre = { x: state.centre.x - dx / place.sx / result.width, y: state.centre.y - dy / place.sy / result.height };
    this.store.set({ centre: clamped(centre, result, place, width, height) });
  }

  fit() {
    this.store.set(CENTRED);
  }

  /** Window and level by a drag; in a difference, its scale; of phases there is none. */
  window(dx, dy) {
    const state = this.store.values;
    if (!state.result || state.show === "phase") return;
    if (state.show === "difference") {
      const scale = Number((state.scale * Math.exp(dx / 200)).toPrecision(3));
      this.store.set({ scale: Math.min(100, Math.max(0.01, scale)), scaleChoice: "custom" });
      return;
    }
    const step = state.result.peak / 500;
    const width = Math.max(step / 10, state.window.high - state.window.low + dx * step);
    const level = (state.window.high + state.window.low) / 2 - dy * step;
    this.store.set({ window: { low: level - width / 2, high: level + width / 2 }, windowChoice: "custom" });
  }

  slice(step) {
    const { result, slice } = this.store.values;
    if (result) this.store.set({ slice: Math.min(result.slices - 1, Math.max(0, slice + step)) });
  }

  /** Put the probe on the pixel under a place of a tile; null takes it away. */
  probe(tile, x, y) {
    const state = this.store.values;
    if (!state.result) return;
    if (x === null || tile.id === "kspace") {
      if (state.tool !== "probe") this.store.set({ probe: null });
      return;
    }
    const point = this.#pixel(tile, { x, y }), { result } = state;
    const column = Math.floor(point.x), row = Math.floor(point.y);
    const inside = column >= 0 && row >= 0 && column < result.width && row < result.height;
    const same = inside && state.probe?.row === row && state.probe.column === column;
    if (!same) this.store.set({ probe: inside ? { row, column } : null });
  }

  moveProbe(rows, columns) {
    const { result, probe } = this.store.values;
    if (!result) return;
    const from = probe ?? { row: result.height >> 1, column: result.width >> 1 };
    const kept = (value, size) => Math.min(size - 1, Math.max(0, value));
    this.store.set({
      probe: probe ? { row: kept(from.row + rows, result.height), column: kept(from.column + columns, result.width) } : from,
    });
  }

  /** Draw a line or an ellipse between two places of a tile. */
  mark(tile, from, to) {
    const { result, tool } = this.store.values;
    if (!result || tile.id === "kspace") return;
    const kept = ({ x, y }) => ({ x: Math.min(result.width, Math.max(0, x)), y: Math.min(result.height, Math.max(0, y)) });
    const mark = { kind: tool, a: kept(this.#pixel(tile, from)), b: kept(this.#pixel(tile, to)) };
    this.store.set({ mark: isSmall(mark) ? null : mark });
  }

  /** Move the mark by pixels of the image, or make one in the middle. */
  moveMark(rows, columns) {
    const { result, tool, mark } = this.store.values;
    if (!result) return;
    const [x, y] = [result.width / 2, result.height / 2], r = Math.min(result.width, result.height) / 10;
    if (mark?.kind !== tool) {
      this.store.set({ mark: { kind: tool, a: { x: x - r, y: tool === "line" ? y : y - r }, b: { x: x + r, y: tool === "line" ? y : y + r } } });
      return;
    }
    const within = (value, size) => value >= 0 && value <= size;
    const moved = ({ x: left, y: top }) => ({ x: left + columns, y: top + rows });
    const [a, b] = [moved(mark.a), moved(mark.b)];
    if ([a, b].every((one) => within(one.x, result.width) && within(one.y, result.height))) this.store.set({ mark: { ...mark, a, b } });
  }

  get #firstImage() {
    return [...this.tiles.values()].find(({ id }) => id !== "kspace");
  }

  /** Place in pixels of the image of a place in CSS pixels of a tile. */
  #pixel(tile, { x, y }) {
    const place = placement(tile.id, this.store.values, tile.canvas.clientWidth, tile.canvas.clientHeight);
    return { x: (x - place.left) / place.sx, y: (y - place.top) / place.sy };
  }

  #build() {
    const shown = this.shown, { waiting, result } = this.store.values;
    const kinds = shown.map((id) => (waiting.has(id) && !result?.volumes.has(id) ? `waiting ${id}` : id)).join("|");
    if (kinds !== this.kinds) {
      this.kinds = kinds;
      this.tiles.clear();
      this.root.replaceChildren();
      for (const id of shown) {
        if (waiting.has(id) && !result.volumes.has(id)) {
          this.root.append(waitingTile(id));
          continue;
        }
        const tile = this.#tile(id);
        this.tiles.set(id, tile);
        this.root.append(tile.element);
      }
      if (shown[0] === "swipe") this.#divider(this.tiles.get("swipe"));
    }
    for (const [id, text] of waiting) {
      const said = this.root.querySelector(`[data-waiting="${CSS.escape(id)}"] .waiting-text`);
      if (said && said.textContent !== text) said.textContent = text;
    }
    this.#captions();
    this.#arrange();
  }

  #tile(id) {
    const element = make("figure", { className: "tile" });
    element.dataset.tile = id;
    const well = make("div", { className: "well" }), canvas = make("canvas", { role: "img" });
    const value = make("span", { className: "value", hidden: true });
    well.append(canvas, value);
    const caption = make("figcaption", { className: "caption" });
    element.append(well, caption);
    const tile = { id, element, well, canvas, caption, value };
    const alone = () => {
      const { layout } = this.store.values;
      if (id === "kspace" || id === "swipe") return;
      this.store.set(layout === "single" ? { layout: "grid" } : { layout: "single", single: tile.id });
    };
    canvas.addEventListener("dblclick", alone);
    listen(canvas, {
      pan: (dx, dy) => this.pan(dx, dy, tile),
      window: (dx, dy) => id !== "kspace" && this.window(dx, dy),
      zoom: (factor, x, y) => this.zoom(factor, tile, x, y),
      slice: (step) => this.slice(step),
      probe: (x, y) => this.probe(tile, x, y),
      mark: (from, to) => {
        this.store.set({ drawing: true });
        this.mark(tile, from, to);
      },
      released: () => this.store.set({ drawing: false }),
      hover: (x, y) => this.store.values.tool !== "probe" && this.probe(tile, x, y),
    }, () => this.store.values.tool);
    return tile;
  }

  #divider(tile) {
    const handle = make("div", { className: "divider", tabIndex: 0, role: "slider", "aria-label": "Divider between the left and the right image",
      "aria-valuemin": "0", "aria-valuemax": "100" });
    const move = (split) => this.store.set({ split: Math.min(1, Math.max(0, split)) });
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = tile.well.getBoundingClientRect();
      move((event.clientX - box.left) / box.width);
    });
    handle.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.1 : 0.02, { split } = this.store.values;
      const to = { ArrowLeft: split - step, ArrowDown: split - step, ArrowRight: split + step, ArrowUp: split + step, Home: 0, End: 1 };
      if (!(event.key in to)) return;
      event.preventDefault();
      event.stopPropagation();
      move(to[event.key]);
    });
    tile.well.append(handle);
    tile.handle = handle;
  }

  #captions() {
    const state = this.store.values;
    if (!state.result) return;
    for (const [id, tile] of this.tiles) {
      // What is shown of a single tile may change without a new layout.
      const shown = state.layout === "single" ? state.single : id;
      tile.id = shown;
      tile.element.dataset.tile = shown;
      const ids = shown === "swipe" ? [state.left, state.right] : [shown];
      tile.caption.replaceChildren(...ids.map((one) => captionOf(one, state)));
      tile.canvas.setAttribute("aria-label", describe(shown, state));
      if (shown === "swipe") this.#showDivider(tile, state);
    }
  }

  #showDivider({ handle }, { split, left, right }) {
    handle.style.left = `${100 * split}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(100 * split)));
    handle.setAttribute("aria-valuetext", `${Math.round(100 * split)} %: ${label(left)} on the left, ${label(right)} on the right`);
  }

  /** What the probe reads, on each image. */
  #values() {
    const state = this.store.values;
    for (const { id, value } of this.tiles.values()) {
      value.hidden = !state.probe || id === "kspace";
      if (value.hidden) continue;
      value.textContent = id === "swipe" ? `${probed(state.left, state)} | ${probed(state.right, state)}` : probed(id, state);
    }
  }

  /** As many columns as make the images largest; on a telephone one, as wide as the screen, to be scrolled. */
  #arrange() {
    const { result } = this.store.values, count = this.root.children.length;
    if (!result || !count) return;
    const isColumn = TELEPHONE.matches && count > 1;
    this.root.classList.toggle("column", isColumn);
    this.root.style.setProperty("--aspect", String(result.width / (result.height * result.aspect)));
    if (isColumn) {
      this.root.classList.remove("compact");
      this.redraw();
      return;
    }
    const { clientWidth: width, clientHeight: height } = this.root;
    const compact = height < COMPACT && count > 1;
    let best = { size: 0, columns: Math.min(count, 3) };
    for (let columns = 1; columns <= count; columns += 1) {
      const rows = Math.ceil(count / columns);
      const w = (width - GAP * (columns - 1)) / columns;
      const caption = compact ? BARE : CAPTION + (w < NARROW ? LINE : 0) + (w < NARROW / 2 ? LINE : 0);
      const size = Math.min(w / result.width, (height / rows - caption) / (result.height * result.aspect)) * (w < NARROW / 3 ? 0.5 : 1);
      if (size > best.size * 1.1) best = { size, columns };
    }
    this.root.classList.toggle("compact", compact);
    this.root.style.setProperty("--columns", String(best.columns));
    this.root.style.setProperty("--rows", String(Math.ceil(count / best.columns)));
    this.redraw();
  }

  #draw() {
    const state = this.store.values;
    if (!state.result) return;
    const ratio = window.devicePixelRatio || 1;
    for (const { id, canvas, well } of this.tiles.values()) {
      const { clientWidth: width, clientHeight: height } = well;
      if (!width || !height) continue;
      const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      const context = canvas.getContext("2d");
      context.setTransform(wide / width, 0, 0, high / height, 0, 0);
      this.painter.draw(context, id, state, width, height);
    }
  }
}

/** Name, numbers of the slice and remarks, under an image. */
function captionOf(id, state) {
  const { slice } = state;
  const block = make("div", { className: "caption-part" });
  const name = make("strong", {}, titleOf(id, state)), numbers = make("span", { className: "numbers" }, numbersOf(id, state));
  block.append(make("div", { className: "caption-line" }, name, numbers));
  for (const { kind, list } of remarkGroups(state.result, id)) {
    const note = make("p", { className: `remark ${kind}` }, remarkText(list));
    note.title = list.map(({ text }) => text).join("; ");
    block.append(note);
  }
  block.dataset.slice = String(slice + 1);
  return block;
}

/** What a tile shows, in words: never only the name of a method where it is not its image. */
export function titleOf(id, state) {
  if (id === "kspace") return "k-space";
  const kind = shownOf(id, state);
  if (kind === "phase") return `${label(id)}, phase`;
  if (kind === "difference") return state.against === "trust" ? `${label(id)}, expected error` : `|${label(id)} − ${label(state.against)}|`;
  return state.show === "difference" && kind === "image" ? `${label(id)}, image` : label(id);
}

/** The numbers of an image on the shown slice. */
export function numbersOf(id, { result, slice, show }) {
  if (id === "kspace") return `R = ${result.receipt.realised_acceleration.toFixed(2)}, log scale`;
  const row = result.row(id), numbers = result.numbers(id, slice);
  if (!row || show === "phase") return "";
  if (row.nmse === null && row.psnr === null) return "no reference";
  const shown = measured(numbers ?? row);
  return `${numbers && result.slices > 1 ? "slice " : ""}${shown.psnr} dB · SSIM ${shown.ssim}`;
}

function waitingTile(id) {
  const element = make("figure", { className: "tile" });
  element.dataset.waiting = id;
  element.append(make("div", { className: "well waiting" }, make("span", { className: "waiting-text" }, "waiting")),
    make("figcaption", { className: "caption" }, make("div", { className: "caption-part" }, make("div", { className: "caption-line" }, make("strong", {}, label(id)), make("span", { className: "numbers" }, "not done")))));
  return element;
}

/** What must be said of an image, its warnings apart from the rest: [{kind, list}], without empty lists. */
export function remarkGroups(result, id) {
  const remarks = result.remarks(id);
  return ["warning", "info"].map((kind) => ({ kind, list: remarks.filter((one) => one.kind === kind) })).filter(({ list }) => list.length);
}

/** Remarks in one line. */
export function remarkText(remarks) {
  return (remarks[0]?.kind === "warning" ? "⚠ " : "") + remarks.map((remark) => remark.short ?? remark.text).join("; ");
}

function clamped(centre, size, place, width, height) {
  const along = (value, pixels, extent, scale) => {
    const half = extent / (2 * scale * pixels);
    return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, value));
  };
  return { x: along(centre.x, size.width, width, place.sx), y: along(centre.y, size.height, height, place.sy) };
}

function describe(id, state) {
  const where = `slice ${state.slice + 1} of ${state.result.slices}`;
  if (id === "kspace") return `Undersampled k-space, logarithm of the magnitude over the coils, ${where}`;
  if (id === "swipe") return `${titleOf(state.left, state)} on the left and ${titleOf(state.right, state)} on the right, ${where}`;
  return `${titleOf(id, state)}, ${where}`;
}
