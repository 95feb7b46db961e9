// The bar above the images, the line below them, and the keyboard.

import { probed } from "./drawing.js";
import { FIRE, GRAY, short } from "./pixels.js";
import { $, announce, fill, make } from "./dom.js";
import { label } from "./result.js";

const SCALES = [1, 2, 5, 10, 20, 50, 100];

export function startControls(store, stage, { toggleTheme, openHelp }) {
  for (const name of ["layout", "tool", "show"]) {
    for (const input of document.getElementsByName(name)) {
      input.addEventListener("change", () => store.set({ [name]: input.value }));
    }
  }
  for (const name of ["left", "right", "single"]) {
    $(name).addEventListener("change", () => store.set({ [name]: $(name).value }));
  }
  $("against").addEventListener("change", () => {
    store.set({ against: $("against").value });
    usualScale(store);
  });
  $("scale").addEventListener("change", () => {
    const choice = $("scale").value;
    if (choice === "auto") usualScale(store);
    else if (choice !== "custom") store.set({ scale: Number(choice), scaleChoice: choice });
  });
  $("zoom-in").addEventListener("click", () => stage.zoom(1.25));
  $("zoom-out").addEventListener("click", () => stage.zoom(0.8));
  $("fit").addEventListener("click", () => stage.fit());
  $("smooth").addEventListener("change", () => store.set({ smooth: $("smooth").checked }));
  $("show-kspace").addEventListener("change", () => store.set({ showKspace: $("show-kspace").checked }));
  $("slice").addEventListener("input", () => store.set({ slice: Number($("slice").value) }));
  $("window-reset").addEventListener("click", () => reset(store));
  for (const id of ["window-width", "window-level"]) {
    $(id).addEventListener("change", () => {
      const width = Number($("window-width").value), level = Number($("window-level").value);
      if (width > 0 && Number.isFinite(level)) store.set({ window: { low: level - width / 2, high: level + width / 2 } });
      else showWindow(store.values);
    });
  }
  store.subscribe((changed, state) => {
    if (!state.result) return;
    const any = (...names) => names.some((name) => changed.has(name));
    if (changed.has("result")) showResult(state);
    if (any("slice", "result")) showSlice(state);
    if (any("slice", "against", "result") && !any("scale") && state.scaleChoice === "auto") usualScale(store);
    if (any("zoom")) $("zoom-value").textContent = `${short(state.zoom, 3)}×`;
    showChoices(state);
    showWindow(state);
    showReadout(state);
    $("stage").dataset.tool = state.tool;
  });
  document.addEventListener("keydown", (event) => onKey(event, store, stage, { toggleTheme, openHelp }));
}

function usualScale(store) {
  const { result, against, slice } = store.values;
  store.set({ scale: result.differenceScale(against, slice), scaleChoice: "auto" });
}

function reset(store) {
  const { result, slice, show } = store.values;
  if (!result) return;
  if (show === "difference") usualScale(store);
  else store.set({ window: result.window(slice) });
}

function showResult(state) {
  const { result } = state;
  const names = result.ids.map((id) => [id, label(id)]);
  for (const name of ["left", "right", "single"]) fill($(name), names, state[name]);
  fill($("against"), result.comparands.map((id) => [id, label(id)]), state.against);
  $("slice").max = String(result.slices - 1);
  $("slice-field").hidden = result.slices < 2;
  $("zoom-value").textContent = `${short(state.zoom, 3)}×`;
}

function showSlice({ slice, result }) {
  $("slice").value = String(slice);
  $("slice").setAttribute("aria-valuetext", `slice ${slice} of 0 to ${result.slices - 1}`);
  $("slice-value").textContent = `${slice} (0–${result.slices - 1})`;
}

function showChoices(state) {
  for (const name of ["layout", "tool", "show"]) {
    for (const input of document.getElementsByName(name)) input.checked = input.value === state[name];
  }
  for (const choice of document.querySelectorAll("[data-when]")) {
    choice.hidden = choice.dataset.when !== state.layout;
  }
  for (const name of ["left", "right", "single", "against"]) $(name).value = state[name];
  $("smooth").checked = state.smooth;
  $("show-kspace").checked = state.showKspace;
  const custom = state.scaleChoice === "custom" ? [["custom", `0 to ${short(state.scale, 3)} %`]] : [];
  const usual = state.scaleChoice === "auto" ? `usual: 0 to ${short(state.scale, 3)} %` : "usual";
  const options = [["auto", usual], ...custom, ...SCALES.map((value) => [String(value), `0 to ${value} %`])];
  if (options.map((pair) => pair.join()).join() !== $("scale").dataset.options) {
    fill($("scale"), options, state.scaleChoice);
    $("scale").dataset.options = options.map((pair) => pair.join()).join();
  }
  $("scale").value = state.scaleChoice;
}

function showWindow(state) {
  const difference = state.show === "difference";
  const { low, high } = difference ? { low: 0, high: state.scale } : state.window;
  $("window-fields").hidden = difference;
  $("difference-fields").hidden = !difference;
  if (!difference) {
    for (const [id, value] of [["window-width", high - low], ["window-level", (high + low) / 2]]) {
      if (document.activeElement !== $(id)) $(id).value = short(value, 4);
      $(id).step = short((state.result.window(state.slice).high || 1) / 50, 1);
    }
  }
  const canvas = $("scale-canvas"), context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(difference ? FIRE : GRAY);
  context.putImageData(image, 0, 0);
  const unit = difference ? "%" : "";
  const ticks = [low, (low + high) / 2, high].map((value) => short(value, 3) + unit);
  $("scale-ticks").replaceChildren(...ticks.map((text) => make("span", {}, text)));
  canvas.setAttribute("aria-label", `${difference ? "Colours" : "Grays"} from ${ticks[0]} to ${ticks[2]}`);
  const shown = state.against === "trust" ? "map of trust" : "|difference|";
  $("scale-unit").textContent = difference ? `${shown}, % of maximum` : "magnitude";
}

function showReadout(state) {
  const { probe } = state;
  $("readout").textContent = probe ? `row ${probe.row}, column ${probe.column}` : "";
}

function onKey(event, store, stage, { toggleTheme, openHelp }) {
  const target = event.target, state = store.values;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = target.matches?.("select, textarea, input:not([type=radio], [type=checkbox], [type=range])");
  if (typing) return;
  if (event.key === "?") return void openHelp();
  if (event.key.toLowerCase() === "l") return void toggleTheme();
  if (!state.result) return;
  const by = event.shiftKey ? 10 : 1;
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrows) {
    // Sliders, radio buttons and scrolled panes need the arrows themselves.
    if (target !== document.body && !target.closest("#stage")) return;
    const [x, y] = [arrows[0] * by, arrows[1] * by];
    event.preventDefault();
    if (state.tool === "pan") stage.pan(-16 * x, -16 * y);
    else if (state.tool === "window") stage.window(4 * x, 4 * y);
    else {
      stage.moveProbe(y, x);
      const { probe, result } = store.values;
      const values = result.ids.map((id) => `${label(id)} ${probed(id, store.values)}`).join(", ");
      announce(`row ${probe.row}, column ${probe.column}: ${values}`, 700);
    }
    return;
  }
  const actions = {
    g: () => store.set({ layout: "grid" }),
    s: () => store.set({ layout: "swipe" }),
    o: () => store.set({ layout: "single" }),
    escape: () => store.set({ layout: "grid" }),
    d: () => store.set({ show: state.show === "image" ? "difference" : "image" }),
    m: () => store.set({ tool: "pan" }),
    w: () => store.set({ tool: "window" }),
    p: () => store.set({ tool: "probe" }),
    "+": () => stage.zoom(1.25),
    "=": () => stage.zoom(1.25),
    "-": () => stage.zoom(0.8),
    0: () => stage.fit(),
    pageup: () => stage.slice(-1),
    pagedown: () => stage.slice(1),
    r: () => reset(store),
    i: () => store.set({ smooth: !state.smooth }),
    k: () => store.set({ showKspace: !state.showKspace }),
  };
  const action = actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
  const { layout, show, slice } = store.values;
  if (layout !== state.layout || show !== state.show) announce(`${layout}, ${show}`);
  else if (slice !== state.slice) announce(`slice ${slice}`);
}
