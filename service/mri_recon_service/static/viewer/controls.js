// The bar above the images, the line below them, and the keyboard.

import { probed } from "./drawing.js";
import { FIRE, GRAY, short } from "./pixels.js";
import { $, announce, fill, make } from "./dom.js";
import { EXPECTED_ERROR, label, magnitudeText } from "./result.js";
import { CENTRED, PRESETS, gainOf, windowOf } from "./store.js";

const SCALES = [1, 2, 5, 10, 20, 50, 100], GAINS = [0.25, 0.5, 1, 2, 4, 8];
const FRAME_MS = 125; // eight slices a second

export function startControls(store, stage, { toggleTheme, openHelp }) {
  for (const name of ["layout", "tool", "show"]) {
    for (const input of document.getElementsByName(name)) {
      input.addEventListener("change", () => store.set({ [name]: input.value }));
    }
  }
  for (const name of ["left", "right", "single"]) {
    $(name).addEventListener("change", () => store.set({ [name]: $(name).value }));
  }
  for (const [id, name] of [["smooth", "smooth"], ["show-kspace", "showKspace"], ["overlay", "overlay"], ["invert", "invert"], ["tones", "tones"]]) {
    $(id).addEventListener("change", () => store.set({ [name]: $(id).checked }));
  }
  $("against").addEventListener("change", () => {
    store.set({ against: $("against").value });
    automaticScale(store, "auto");
  });
  $("scale").addEventListener("change", () => {
    const choice = $("scale").value;
    if (choice.startsWith("auto")) automaticScale(store, choice);
    else if (choice !== "custom") store.set({ scale: Number(choice), scaleChoice: choice });
  });
  $("zoom-in").addEventListener("click", () => stage.zoom(1.25));
  $("zoom-out").addEventListener("click", () => stage.zoom(0.8));
  $("fit").addEventListener("click", () => stage.fit());
  $("slice").addEventListener("input", () => store.set({ slice: Number($("slice").value) - 1 }));
  $("play").addEventListener("click", () => store.set({ playing: !store.values.playing }));
  $("preset").addEventListener("change", () => takePreset(store, $("preset").value));
  for (const id of ["window-width", "window-level"]) {
    $(id).addEventListener("change", () => {
      const width = Number($("window-width").value), level = Number($("window-level").value);
      if (width > 0 && Number.isFinite(level)) store.set({ window: { low: level - width / 2, high: level + width / 2 }, windowChoice: "custom" });
      else showWindow(store.values);
    });
  }
  startMenu();
  startCine(store);
  keysToImages();
  store.subscribe((changed, state) => {
    if (!state.result) return;
    const any = (...names) => names.some((name) => changed.has(name));
    if (changed.has("result")) showResult(state);
    if (any("slice", "result")) showSlice(state);
    if (any("against", "result") && !any("scale") && state.scaleChoice.startsWith("auto")) automaticScale(store, state.scaleChoice);
    if (any("zoom")) $("zoom-value").textContent = `${short(state.zoom, 3)}×`;
    showChoices(store.values);
    showWindow(store.values);
    showReadout(store.values);
    $("stage").dataset.tool = state.tool;
  });
  document.addEventListener("keydown", (event) => onKey(event, store, stage, { toggleTheme, openHelp }));
}

/** What is less often used opens in a menu, which closes where it is left. */
function startMenu() {
  const open = (shown) => {
    $("menu-items").hidden = !shown;
    $("menu-open").setAttribute("aria-expanded", String(shown));
  };
  $("menu-open").addEventListener("click", () => open($("menu-items").hidden));
  document.addEventListener("pointerdown", (event) => !$("menu").contains(event.target) && open(false));
  $("menu").addEventListener("focusout", (event) => event.relatedTarget && !$("menu").contains(event.relatedTarget) && open(false));
  $("menu").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    open(false);
    $("menu-open").focus();
  });
}

/** After a click or a tap on the bars the keys belong to the images again; who came there by keyboard stays there. */
function keysToImages() {
  for (const id of ["tools", "status"]) {
    $(id).addEventListener("click", (event) => {
      // A key on a button or a radio is a click without a place.
      const byPointer = event.detail > 0, field = event.target.closest("select, input:not([type=radio], [type=checkbox], [type=range])");
      if (byPointer && !field && !$("menu").contains(event.target)) $("stage").focus({ preventScroll: true });
    });
  }
}

function startCine(store) {
  let timer = null;
  store.subscribe((changed, { playing, result }) => {
    if (!changed.has("playing") && !changed.has("result")) return;
    const runs = playing && result?.slices > 1;
    $("play").setAttribute("aria-pressed", String(runs));
    $("play").textContent = runs ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", runs ? "Stop at this slice" : "Play the slices");
    if (runs && timer === null) {
      timer = setInterval(() => store.set({ slice: (store.values.slice + 1) % store.values.result.slices }), FRAME_MS);
    } else if (!runs && timer !== null) {
      clearInterval(timer);
      timer = null;
    }
  });
}

function automaticScale(store, choice) {
  const { result, against } = store.values;
  const scale = Number((result.differenceScale(against) / gainOf(choice)).toPrecision(3));
  store.set({ scale, scaleChoice: choice });
}

export function takePreset(store, choice) {
  const { result } = store.values;
  if (result && PRESETS[choice]) store.set({ window: windowOf(choice, result), windowChoice: choice });
}

/** Everything as at first: the usual window or scale, the whole image. */
function reset(store) {
  if (!store.values.result) return;
  takePreset(store, "usual");
  automaticScale(store, "auto");
  store.set(CENTRED);
}

function showResult(state) {
  const { result } = state;
  const names = result.ids.map((id) => [id, label(id)]);
  for (const name of ["left", "right", "single"]) fill($(name), names, state[name]);
  fill($("against"), result.comparands.map((id) => [id, label(id)]), state.against);
  $("slice").max = String(result.slices);
  $("slice-field").hidden = result.slices < 2;
  $("zoom-value").textContent = `${short(state.zoom, 3)}×`;
  const phase = document.querySelector("input[name=show][value=phase]");
  phase.disabled = !result.phase.size;
  phase.parentElement.title = result.phase.size ? "" : "No method of this run yields a phase";
}

function showSlice({ slice, result }) {
  $("slice").value = String(slice + 1);
  $("slice").setAttribute("aria-valuetext", `slice ${slice + 1} of ${result.slices}`);
  $("slice-value").textContent = `${slice + 1} of ${result.slices}`;
}

function showChoices(state) {
  for (const name of ["layout", "tool", "show"]) {
    for (const input of document.getElementsByName(name)) input.checked = input.value === state[name];
  }
  for (const choice of document.querySelectorAll("[data-when]")) {
    choice.hidden = choice.dataset.when !== state.layout || !state.result.ids.length;
  }
  for (const name of ["left", "right", "single", "against"]) $(name).value = state[name];
  for (const [id, name] of [["smooth", "smooth"], ["show-kspace", "showKspace"], ["overlay", "overlay"], ["invert", "invert"], ["tones", "tones"]]) $(id).checked = state[name];
  const custom = state.scaleChoice === "custom" ? [["custom", `0 to ${short(state.scale, 3)} %`]] : [];
  const gains = GAINS.map((gain) => [gain === 1 ? "auto" : `auto${gain}`, gain === 1 ? "Usual" : `Gain ${gain}×`]);
  const options = [...gains, ...custom, ...SCALES.map((value) => [String(value), `0 to ${value} %`])];
  if (options.map((pair) => pair.join()).join() !== $("scale").dataset.options) {
    fill($("scale"), options, state.scaleChoice);
    $("scale").dataset.options = options.map((pair) => pair.join()).join();
  }
  $("scale").value = state.scaleChoice;
  const windows = [...Object.entries(PRESETS).map(([id, { name }]) => [id, name]), ...(state.windowChoice === "custom" ? [["custom", "As set"]] : [])];
  if (String(windows.length) !== $("preset").dataset.count) {
    fill($("preset"), windows, state.windowChoice);
    $("preset").dataset.count = String(windows.length);
  }
  $("preset").value = state.windowChoice;
}

function showWindow(state) {
  const difference = state.show === "difference", phase = state.show === "phase";
  const { low, high } = phase ? { low: -180, high: 180 } : difference ? { low: 0, high: state.scale } : state.window;
  $("window-fields").hidden = difference || phase;
  $("difference-fields").hidden = !difference;
  if (!difference && !phase) {
    for (const [id, value] of [["window-width", high - low], ["window-level", (high + low) / 2]]) {
      if (document.activeElement !== $(id)) $(id).value = short(value, 4);
      $(id).step = short(state.result.usual / 50, 1);
    }
  }
  const canvas = $("scale-canvas"), context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(difference ? FIRE : state.invert && !phase ? GRAY.slice().reverse() : GRAY);
  context.putImageData(image, 0, 0);
  const unit = difference ? "%" : phase ? "°" : "";
  const ticks = [low, (low + high) / 2, high].map((value) => short(value, 3) + unit);
  $("scale-ticks").replaceChildren(...ticks.map((text) => make("span", {}, text)));
  canvas.setAttribute("aria-label", `${difference ? "Colours" : "Grays"} from ${ticks[0]} to ${ticks[2]}`);
  const shown = state.against === "trust" ? EXPECTED_ERROR : "|difference|";
  $("scale-unit").textContent = difference ? `${shown}, % of maximum` : phase ? "phase" : magnitudeText(state.result);
}

function showReadout(state) {
  const { probe, mark, tool } = state, asks = mark ? "" : ({ line: "drag to draw a line", ellipse: "drag to draw a region" }[tool] ?? "");
  $("readout").textContent = probe ? `row ${probe.row}, column ${probe.column}` : asks;
}

function onKey(event, store, stage, { toggleTheme, openHelp }) {
  const target = event.target, state = store.values;
  if (event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = target.matches?.("select, textarea, input:not([type=radio], [type=checkbox], [type=range])");
  if (typing) return;
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.ctrlKey && !(arrows && event.shiftKey)) return;
  if (event.key === "?") return void openHelp();
  if (event.key.toLowerCase() === "l") return void toggleTheme();
  if (!state.result) return;
  // Sliders, radio buttons, buttons and scrolled panes need these keys themselves.
  const own = target !== document.body && !target.closest("#stage");
  if (arrows) {
    if (own) return;
    event.preventDefault();
    if (event.shiftKey) dragByKeys(store, stage, arrows, event.ctrlKey ? 10 : 1);
    else if (arrows[1]) stage.slice(arrows[1]);
    else step(store, arrows[0]);
    told(store, state);
    return;
  }
  if ([" ", "Home", "End"].includes(event.key) && own) return;
  const tool = (name) => () => store.set({ tool: name });
  const toggle = (name) => () => store.set({ [name]: !state[name] });
  const show = (name) => () => store.set({ show: state.show === name ? "image" : name });
  const actions = {
    g: () => store.set({ layout: "grid" }), s: () => store.set({ layout: "swipe" }), o: () => store.set({ layout: "single" }),
    escape: () => store.set({ layout: "grid", mark: null }),
    d: show("difference"), f: () => state.result.phase.size && show("phase")(),
    m: tool("pan"), w: tool("window"), p: tool("probe"), e: tool("line"), a: tool("ellipse"),
    "+": () => stage.zoom(1.25), "-": () => stage.zoom(0.8), "=": () => stage.fit(), 0: () => stage.fit(),
    home: () => store.set({ slice: 0 }), end: () => store.set({ slice: state.result.slices - 1 }),
    pageup: () => stage.slice(-1), pagedown: () => stage.slice(1),
    " ": () => reset(store), r: () => reset(store),
    c: toggle("playing"), i: toggle("invert"), q: toggle("smooth"), k: toggle("showKspace"), t: toggle("tones"),
    ...Object.fromEntries(Object.entries(PRESETS).map(([id, { key }]) => [key, () => takePreset(store, id)])),
  };
  const action = actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
  told(store, state);
}

/** Left and right show the previous and the next image alone. */
function step(store, by) {
  const { result, single, layout } = store.values, { ids } = result;
  if (!ids.length) return;
  const at = ids.indexOf(single);
  store.set({ layout: "single", single: layout === "single" ? ids[(at + by + ids.length) % ids.length] : single });
}

function dragByKeys(store, stage, [right, down], by) {
  const { tool } = store.values, [x, y] = [right * by, down * by];
  if (tool === "pan") stage.pan(-16 * x, -16 * y);
  else if (tool === "window") stage.window(4 * x, 4 * y);
  else if (tool === "probe") stage.moveProbe(y, x);
  else stage.moveMark(y, x);
}

function told(store, before) {
  const { layout, show, slice, probe, result, single } = store.values;
  if (probe && probe !== before.probe) {
    const values = result.ids.map((id) => `${label(id)} ${probed(id, store.values)}`).join(", ");
    announce(`row ${probe.row}, column ${probe.column}: ${values}`, 700);
  } else if (layout !== before.layout || show !== before.show) announce(`${layout}, ${show}`);
  else if (single !== before.single) announce(label(single));
  else if (slice !== before.slice) announce(`slice ${slice + 1}`);
}
