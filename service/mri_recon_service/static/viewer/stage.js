// The images: tiles in a grid, one alone, or two under a divider; zoom, place and slice are the same in all of them.

import { Painter, isDifference, placement, probed } from "./drawing.js";
import { listen } from "./gestures.js";
import { label, measured } from "./result.js";
import { CENTRED, MAX_ZOOM } from "./store.js";

const GAP = 8, CAPTION_WIDTH = 230; // narrower tiles cut the numbers off

export class Stage {
  constructor(root, store) {
    this.root = root;
    this.store = store;
    this.painter = new Painter();
    this.tiles = new Map();
    this.pending = false;
    new ResizeObserver(() => this.#arrange()).observe(root);
    store.subscribe((changed) => {
      const any = (...names) => names.some((name) => changed.has(name));
      if (any("result", "layout", "showKspace")) this.#build();
      else if (any("slice", "single", "left", "right", "split", "show", "against")) this.#captions();
      if (any("probe", "slice", "show", "against", "left", "right", "single", "layout", "result")) this.#values();
      this.redraw();
    });
  }

  /** Ids of the tiles of the present layout. */
  get shown() {
    const { result, layout, showKspace, single } = this.store.values;
    if (!result) return [];
    if (layout === "swipe") return ["swipe"];
    if (layout === "single") return [single];
    return [...result.ids, ...(showKspace && result.kspace ? ["kspace"] : [])];
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
  zoom(factor, tile = [...this.tiles.values()][0], x = null, y = null) {
    const state = this.store.values;
    if (!state.result || !tile) return;
    const zoom = Math.min(MAX_ZOOM, Math.max(1, state.zoom * factor));
    const { clientWidth: width, clientHeight: height } = tile.canvas;
    const size = this.#size(tile.id), before = placement(size, state, width, height);
    const [px, py] = [x ?? width / 2, y ?? height / 2];
    const after = (before.scale * zoom) / state.zoom;
    // The point under the pointer stays where it is.
    const centre = {
      x: (px - before.left) / before.scale / size.width + (width / 2 - px) / after / size.width,
      y: (py - before.top) / before.scale / size.height + (height / 2 - py) / after / size.height,
    };
    this.store.set({ zoom, centre: clamped(centre, size, after, width, height) });
  }

  /** Move what is seen by CSS pixels. */
  pan(dx, dy, tile = [...this.tiles.values()][0]) {
    const state = this.store.values;
    if (!state.result || !tile) return;
    const { clientWidth: width, clientHeight: height } = tile.canvas;
    const size = this.#size(tile.id), { scale } = placement(size, state, width, height);
    const centre = { x: state.centre.x - dx / scale / size.width, y: state.centre.y - dy / scale / size.height };
    this.store.set({ centre: clamped(centre, size, scale, width, height) });
  }

  fit() {
    this.store.set(CENTRED);
  }

  /** Window and level by a drag; in a difference, its scale. */
  window(dx, dy) {
    const state = this.store.values;
    if (!state.result) return;
    if (state.show === "difference") {
      const scale = Number((state.scale * Math.exp(dx / 200)).toPrecision(3));
      this.store.set({ scale: Math.min(100, Math.max(0.01, scale)), scaleChoice: "custom" });
      return;
    }
    const step = peak(state.result) / 500;
    const width = Math.max(step / 10, state.window.high - state.window.low + dx * step);
    const level = (state.window.high + state.window.low) / 2 - dy * step;
    this.store.set({ window: { low: level - width / 2, high: level + width / 2 } });
  }

  slice(step) {
    const { result, slice } = this.store.values;
    if (result) this.store.set({ slice: Math.min(result.slices - 1, Math.max(0, slice + step)) });
  }

  /** Put the probe on the pixel under a place of a tile; null takes it away. */
  probe(tile, x, y) {
    const state = this.store.values;
    if (x === null || tile.id === "kspace") {
      if (state.tool !== "probe") this.store.set({ probe: null });
      return;
    }
    const size = this.#size(tile.id);
    const { scale, left, top } = placement(size, state, tile.canvas.clientWidth, tile.canvas.clientHeight);
    const column = Math.floor((x - left) / scale), row = Math.floor((y - top) / scale);
    const inside = column >= 0 && row >= 0 && column < size.width && row < size.height;
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

  #size(id) {
    const { result } = this.store.values;
    return id === "kspace" ? result.kspace : result;
  }

  #build() {
    this.tiles.clear();
    this.root.replaceChildren();
    for (const id of this.shown) {
      const tile = this.#tile(id);
      this.tiles.set(id, tile);
      this.root.append(tile.element);
    }
    if (this.shown[0] === "swipe") this.#divider(this.tiles.get("swipe"));
    this.#captions();
    this.#arrange();
  }

  #tile(id) {
    const element = make("figure", "tile");
    element.dataset.tile = id;
    const well = make("div", "well"), canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    const value = make("span", "value");
    value.hidden = true;
    well.append(canvas, value);
    const caption = make("figcaption", "caption");
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
      hover: (x, y) => this.store.values.tool !== "probe" && this.probe(tile, x, y),
    }, () => this.store.values.tool);
    return tile;
  }

  #divider(tile) {
    const handle = make("div", "divider");
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", "Divider between the left and the right image");
    handle.setAttribute("aria-valuemin", "0");
    handle.setAttribute("aria-valuemax", "100");
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
    let longest = 0;
    for (const [id, tile] of this.tiles) {
      // What is shown of a single tile may change without a new layout.
      const shown = state.layout === "single" ? state.single : id;
      tile.id = shown;
      tile.element.dataset.tile = shown;
      const ids = shown === "swipe" ? [state.left, state.right] : [shown];
      tile.caption.replaceChildren(...ids.map((one) => this.#caption(one, state)));
      longest = Math.max(longest, ...ids.map((one) => remarkText(state.result.remarks(one)).length * ids.length));
      tile.canvas.setAttribute("aria-label", describe(shown, state));
      if (shown === "swipe") this.#showDivider(tile, state);
    }
    if (longest !== this.longest) {
      this.longest = longest;
      this.#arrange();
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

  #caption(id, state) {
    const block = make("div", "caption-part"), line = make("div", "caption-line");
    const name = make("strong");
    name.textContent = id === "kspace" ? "k-space" : label(id);
    const numbers = make("span", "numbers");
    const row = state.result.row(id);
    if (row && row.nmse !== null) numbers.textContent = `${measured(row).psnr} dB · SSIM ${measured(row).ssim}`;
    else if (row) numbers.textContent = "no reference";
    else if (id === "kspace") numbers.textContent = `R = ${state.result.receipt.realised_acceleration.toFixed(2)}, log scale`;
    line.append(name, numbers);
    block.append(line);
    const remarks = state.result.remarks(id);
    if (remarks.length) {
      const note = make("p", `remark ${remarks[0].kind}`);
      note.textContent = remarkText(remarks);
      note.title = note.textContent;
      block.append(note);
    }
    return block;
  }

  /** As many columns as make the images largest. */
  #arrange() {
    const { result } = this.store.values;
    if (!result || !this.tiles.size) return;
    const { clientWidth: width, clientHeight: height } = this.root;
    const count = this.tiles.size;
    let best = { size: 0 };
    for (let columns = 1; columns <= count; columns += 1) {
      const rows = Math.ceil(count / columns);
      const w = (width - GAP * (columns - 1)) / columns;
      // A caption has a line of name and numbers, and up to three of remarks.
      const lines = this.longest ? Math.min(3, Math.ceil((this.longest * 6.4) / w)) : 0;
      const caption = 28 + 16 * lines, h = (height - GAP * (rows - 1)) / rows - caption;
      const size = Math.min(w / result.width, h / result.height) * (w < CAPTION_WIDTH ? 0.75 : 1);
      if (size > best.size * 1.02) best = { size, columns, caption, lines };
    }
    this.root.style.setProperty("--columns", String(best.columns ?? 1));
    this.root.style.setProperty("--caption", `${best.caption ?? 28}px`);
    this.root.style.setProperty("--lines", String(best.lines ?? 0));
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

/** The largest magnitude of any volume: what a full drag of the window spans. */
export function peak(result) {
  return Math.max(...[...result.volumes.values()].map((volume) => volume.maximum)) || 1;
}

/** Remarks in one line. */
export function remarkText(remarks) {
  return (remarks[0]?.kind === "warning" ? "⚠ " : "") + remarks.map((remark) => remark.text).join("; ");
}

function clamped(centre, size, scale, width, height) {
  const along = (value, pixels, extent) => {
    const half = extent / (2 * scale * pixels);
    return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, value));
  };
  return { x: along(centre.x, size.width, width), y: along(centre.y, size.height, height) };
}

function describe(id, state) {
  if (id === "kspace") return "Undersampled k-space, logarithm of the magnitude over the coils";
  if (id === "swipe") return `${label(state.left)} on the left and ${label(state.right)} on the right, slice ${state.slice}`;
  const what = !isDifference(id, state) ? label(id)
    : state.against === "trust" ? `map of trust of ${label(id)}` : `difference of ${label(id)} to ${label(state.against)}`;
  return `${what}, slice ${state.slice}`;
}

function make(tag, className = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return element;
}
