// The profile along a line: a curve for each image, an axis of length, and what stands under the pointer.

import { make } from "./dom.js";
import { lengthOf, profile } from "./measure.js";
import { fixed, short } from "./pixels.js";
import { titleOf } from "./stage.js";

const COLOURS = ["#ffffff", "#58b8ff", "#f0b35a", "#6fd39b", "#ff8ad0", "#c39bff", "#ffe14d", "#ff7a5c", "#7de3e1", "#b8d062"];
const INK = "#b9c2cf", FONT = "11px system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
const LEFT = 52, RIGHT = 14, TOP = 10, BOTTOM = 20; // CSS pixels round the curves, for the numbers of the axes

/** The curves of `shown`, [{id, value}], along a mark; redrawn whenever their place gets another width. */
export function plotOf(mark, shown, state) {
  const { width, height, geometry } = state.result, length = lengthOf(mark, geometry);
  const unit = state.show === "difference" ? " %" : "";
  const curves = shown.map(({ id, value }, number) => ({ title: titleOf(id, state), values: profile(value, mark, width, height), colour: COLOURS[number % COLOURS.length] }));
  const top = Math.max(...curves.flatMap(({ values }) => [...values])) || 1;
  const canvas = make("canvas", { className: "profile", role: "img" });
  canvas.setAttribute("aria-label", `Profile along ${short(length.value, 3)} ${length.unit}, from 0 to ${short(top, 3)}${unit}: ${curves.map(({ title }) => title).join(", ")}`);
  const numbers = curves.map(() => make("span", { className: "numbers" }));
  const place = make("span", { className: "numbers plot-place" }, "");
  const legend = make("ul", { className: "plot-legend" }, ...curves.map(({ title, colour }, number) => {
    const swatch = make("i", {});
    swatch.style.backgroundColor = colour;
    return make("li", {}, swatch, title, numbers[number]);
  }), make("li", {}, place));
  const draw = (share = null) => drawCurves(canvas, curves, { top, unit, length, share });
  const read = (share) => {
    draw(share);
    place.textContent = share === null ? "" : `at ${(share * length.value).toFixed(1)} ${length.unit}`;
    curves.forEach(({ values }, number) => {
      numbers[number].textContent = share === null ? "" : ` ${fixed(values[Math.round(share * (values.length - 1))], 3)}${unit}`;
    });
  };
  canvas.addEventListener("pointermove", (event) => {
    const { left, width: wide } = canvas.getBoundingClientRect();
    read(Math.min(1, Math.max(0, (event.clientX - left - LEFT) / (wide - LEFT - RIGHT))));
  });
  canvas.addEventListener("pointerleave", () => read(null));
  new ResizeObserver(() => canvas.isConnected && draw()).observe(canvas);
  return make("div", { className: "plot" }, canvas, legend);
}

function drawCurves(canvas, curves, { top, unit, length, share }) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  // As many pixels as the screen has: letters are neither stretched nor blurred.
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d"), bottom = height - BOTTOM, room = width - LEFT - RIGHT;
  context.scale(ratio, ratio);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.font = FONT;
  context.lineWidth = 1;
  const write = (text, x, y, align) => {
    context.fillStyle = INK;
    context.textAlign = align;
    context.fillText(text, x, y);
  };
  const line = (x1, y1, x2, y2, colour) => {
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    context.stroke();
  };
  for (const [part, value] of [[0, 0], [0.5, top / 2], [1, top]]) {
    const y = bottom - part * (bottom - TOP);
    line(LEFT, Math.round(y) + 0.5, width - RIGHT, Math.round(y) + 0.5, "#2b323c");
    write(short(value, 3) + unit, LEFT - 6, y + 4, "right");
  }
  for (const [part, align] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
    write(`${short(part * length.value, 3)} ${length.unit}`, LEFT + part * room, height - 6, align);
  }
  // The first, which is the reference where there is one, lies above the others.
  for (const { values, colour } of [...curves].reverse()) {
    context.strokeStyle = colour;
    context.lineWidth = 1.4;
    context.beginPath();
    values.forEach((value, i) => context.lineTo(LEFT + (room * i) / (values.length - 1), bottom - ((bottom - TOP) * value) / top));
    context.stroke();
  }
  if (share !== null) line(LEFT + share * room, TOP, LEFT + share * room, bottom, "rgba(255, 255, 255, 0.7)");
}
