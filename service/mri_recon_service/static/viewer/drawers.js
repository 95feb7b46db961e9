// What opens between the images and their scale: the numbers of a region or a line, and the histogram.

import { shownOf, valuesOf } from "./drawing.js";
import { $, make } from "./dom.js";
import { areaOf, lengthOf, pixelsInside, profile, statistics } from "./measure.js";
import { fixed, histogram, short } from "./pixels.js";
import { label } from "./result.js";
import { titleOf } from "./stage.js";
import { PRESETS } from "./store.js";
import { takePreset } from "./controls.js";

const COLOURS = ["#ffffff", "#58b8ff", "#f0b35a", "#6fd39b", "#ff8ad0", "#c39bff", "#ffe14d", "#ff7a5c", "#7de3e1", "#b8d062"];
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
    if (any("result", "slice", "mark", "tool", "show", "against")) showMark(state, () => store.set({ mark: null }));
    if (any("result", "slice", "tones", "window", "show")) showHistogram(state);
  });
}

function showMark(state, close) {
  const { mark, result, tool } = state, drawer = $("measured"), asks = { line: "a line: its length and profile", ellipse: "a region: its statistics" }[tool];
  // It opens with the tool and keeps its height: nothing moves under the pointer while a mark is drawn.
  drawer.hidden = !mark && !asks;
  if (!mark) {
    if (asks) drawer.replaceChildren(make("p", { className: "hint" }, `Drag on an image to draw ${asks}.`));
    return;
  }
  const shown = result.ids.map((id) => ({ id, value: valuesOf(id, state) })).filter(({ id, value }) => value && shownOf(id, state) !== "phase");
  const head = make("div", { className: "pane-head" }, make("h2", {}, headOf(mark, result, state.slice)),
    make("button", { type: "button", className: "quiet", onclick: close }, "Clear"));
  if (!shown.length) {
    drawer.replaceChildren(head, make("p", { className: "hint" }, "Phases are not averaged: choose Image or Difference."));
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
    const numbers = found ? [found.mean, found.sd, found.least, found.largest].map((one) => fixed(one, 4) + unit) : ["–", "–", "–", "–"];
    return make("tr", { "data-measured": id }, make("th", { scope: "row" }, titleOf(id, state)), ...numbers.map((text) => make("td", {}, text)));
  };
  return make("div", { className: "scrolled", tabIndex: 0, role: "region", "aria-label": "Statistics of the region" }, make("table", {},
    make("thead", {}, make("tr", {}, ...["Image", "Mean", "SD", "Least", "Largest"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...shown.map(cells))));
}

function plotOf(mark, shown, state) {
  const { width, height } = state.result;
  const lines = shown.map(({ id, value }) => ({ id, values: profile(value, mark, width, height) }));
  const canvas = make("canvas", { className: "profile", role: "img", width: 1200, height: 260 });
  const top = Math.max(...lines.flatMap(({ values }) => [...values])) || 1;
  canvas.setAttribute("aria-label", `Profile along the line, from 0 to ${short(top, 3)}: ${lines.map(({ id }) => titleOf(id, state)).join(", ")}`);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, 1200, 260);
  context.font = "20px sans-serif";
  context.fillStyle = "#b9c2cf";
  const unit = state.show === "difference" ? " %" : "";
  context.fillText(short(top, 3) + unit, 8, 24);
  context.fillText("0", 8, 252);
  lines.forEach(({ values }, number) => {
    context.strokeStyle = COLOURS[number % COLOURS.length];
    context.lineWidth = 3;
    context.beginPath();
    values.forEach((value, i) => context.lineTo((1200 * i) / (values.length - 1), 250 - (230 * value) / top));
    context.stroke();
  });
  const legend = make("ul", { className: "plot-legend" }, ...lines.map(({ id }, number) => {
    const swatch = make("i", {});
    swatch.style.backgroundColor = COLOURS[number % COLOURS.length];
    return make("li", {}, swatch, titleOf(id, state));
  }));
  return make("div", { className: "plot" }, canvas, legend);
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
