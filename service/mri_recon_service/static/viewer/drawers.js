// What opens between the images and their scale: the numbers of a region or a line, and the histogram.

import { shownOf, valuesOf } from "./drawing.js";
import { $, make } from "./dom.js";
import { areaOf, lengthOf, pixelsInside, statistics } from "./measure.js";
import { fixed, histogram, short } from "./pixels.js";
import { label } from "./result.js";
import { titleOf } from "./stage.js";
import { PRESETS } from "./store.js";
import { takePreset } from "./controls.js";
import { plotOf } from "./plot.js";

const BINS = 128;

export function startDrawers(store) {
  $("presets").replaceChildren(...Object.entries(PRESETS).map(([id, { name, key }]) => {
    const button = make("button", { type: "button", onclick: () => takePreset(store, id) }, `${name} `, make("kbd", {}, key));
    button.dataset.preset = id;
    return button;
  }));
  new ResizeObserver(() => showHistogram(store.values)).observe($("histogram"));
  store.subscribe((changed, state) => {
    if (!state.result) return;
    const any = (...names) => names.some((name) => changed.has(name));
    if (any("result", "slice", "mark", "drawing", "show", "against")) showMark(state, () => store.set({ mark: null }));
    if (any("result", "slice", "tones", "window", "show")) showHistogram(state);
  });
}

function showMark(state, close) {
  const { mark, result, drawing, show } = state, drawer = $("measured");
  // It opens when the pointer has let go: the images keep their size and place while a mark is drawn.
  if (!drawing) drawer.hidden = !mark;
  if (drawer.hidden || !mark) return;
  // Magnitudes and differences have different units: the image of which the others show the difference is left out.
  const wanted = show === "difference" ? "difference" : "image";
  const shown = result.ids.filter((id) => shownOf(id, state) === wanted).map((id) => ({ id, value: valuesOf(id, state) }));
  const head = make("div", { className: "pane-head" }, make("h2", {}, headOf(mark, result, state.slice)),
    make("button", { type: "button", className: "quiet", onclick: close }, "Clear"));
  if (!shown.length) {
    drawer.replaceChildren(head, make("p", { className: "hint" }, show === "phase" ? "Phases are not averaged: choose Image or Difference." : "No image here has this difference."));
    return;
  }
  drawer.replaceChildren(head, mark.kind === "line" ? plotOf(mark, shown, state) : tableOf(mark, shown, state));
}

function headOf(mark, { geometry, width, height }, slice) {
  const at = `slice ${slice + 1}`;
  if (mark.kind === "line") {
    const { value, unit } = lengthOf(mark, geometry);
    return `Distance ${value.toFixed(1)} ${unit}, ${at}`;
  }
  const count = pixelsInside(mark, width, height).length, area = areaOf(count, geometry);
  return `Region of ${count} pixels${area === null ? "" : `, ${short(area, 3)} mm²`}, ${at}`;
}

function tableOf(mark, shown, state) {
  const { width, height } = state.result, pixels = pixelsInside(mark, width, height);
  const cells = ({ id, value }) => {
    const found = statistics(value, pixels), unit = shownOf(id, state) === "difference" ? " %" : "";
    const numbers = found ? [found.mean, found.sd, found.least, found.largest].map((one) => (unit ? `${one.toFixed(2)}${unit}` : fixed(one, 4))) : ["–", "–", "–", "–"];
    return make("tr", { "data-measured": id }, make("th", { scope: "row" }, titleOf(id, state)), ...numbers.map((text) => make("td", {}, text)));
  };
  return make("div", { className: "scrolled", tabIndex: 0, role: "region", "aria-label": "Statistics of the region" }, make("table", {},
    make("thead", {}, make("tr", {}, ...["Image", "Mean", "SD", "Min", "Max"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...shown.map(cells))));
}

/** How often each magnitude stands in the slice, with the window over it. */
function showHistogram(state) {
  const { result, slice, window, tones, show, windowChoice } = state;
  const open = tones && show === "image" && result?.ids.length > 0;
  $("histogram").hidden = !open;
  if (!open) return;
  for (const button of $("presets").children) button.setAttribute("aria-pressed", String(button.dataset.preset === windowChoice));
  const id = result.hasReference ? "reference" : result.ids[0];
  const counts = histogram(result.volumes.get(id).slice(slice), result.peak, BINS);
  const canvas = $("histogram-canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [BINS * 6, 120];
  $("histogram-ticks").replaceChildren(...["0", "magnitude; how often it occurs, logarithmic", short(result.peak, 3)].map((text) => make("span", {}, text)));
  canvas.setAttribute("aria-label", `Histogram of ${label(id)}, 0 to ${short(result.peak, 3)}, window ${short(window.low, 3)} to ${short(window.high, 3)}`);
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, 120);
  const at = (value) => (value / result.peak) * canvas.width;
  context.fillStyle = "rgba(88, 184, 255, 0.28)";
  context.fillRect(at(window.low), 0, Math.max(2, at(window.high) - at(window.low)), 120);
  const most = Math.log1p(Math.max(...counts));
  context.fillStyle = "#e9ecf1";
  counts.forEach((count, bin) => {
    const tall = (Math.log1p(count) / most) * 112;
    context.fillRect(bin * 6, 120 - tall, 5, tall);
  });
}
