// What is seen, in the address of the page: a link opens the same run, slice, window and images again.

import { MAX_ZOOM, PRESETS } from "./store.js";

const LAYOUTS = ["grid", "swipe", "single"], SHOWS = ["image", "phase", "difference"];
const ID = /^[0-9a-zA-Z_-]{1,64}$/;

/** The part of the address behind "#" for a state; "" where no kept run is shown. */
export function linkOf(state) {
  const { job, beside, result } = state;
  if (!job || !result) return "";
  const query = new URLSearchParams({ run: job });
  if (beside) query.set("beside", beside);
  query.set("slice", String(state.slice + 1));
  query.set("layout", state.layout);
  query.set("show", state.show);
  query.set("window", state.windowChoice === "custom" ? [state.window.low, state.window.high].map((one) => Number(one.toPrecision(6))).join() : state.windowChoice);
  if (state.show === "difference") {
    query.set("to", state.against);
    query.set("scale", state.scaleChoice === "custom" ? String(state.scale) : state.scaleChoice);
  }
  if (state.layout === "single") query.set("image", state.single);
  if (state.layout === "swipe") query.set("images", `${state.left},${state.right}`);
  if (state.zoom > 1) query.set("place", [state.zoom, state.centre.x, state.centre.y].map((one) => Number(one.toFixed(4))).join());
  if (state.invert) query.set("invert", "1");
  return `#${query}`;
}

/** {run, beside, view} of the part of an address behind "#"; null where it names no run. */
export function readLink(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const run = query.get("run"), beside = query.get("beside");
  if (!run || !ID.test(run)) return null;
  return { run, beside: beside && ID.test(beside) ? beside : null, view: query };
}

/** What a link says of the view, as far as this result has it. */
export function viewFrom(query, result) {
  const view = {}, number = Number(query.get("slice"));
  if (Number.isInteger(number) && number >= 1 && number <= result.slices) view.slice = number - 1;
  if (LAYOUTS.includes(query.get("layout"))) view.layout = query.get("layout");
  const show = query.get("show");
  if (SHOWS.includes(show) && (show !== "phase" || result.phase.size)) view.show = show;
  const window = query.get("window") ?? "", [low, high] = window.split(",").map(Number);
  if (window in PRESETS) view.preset = window;
  else if (high > low && Number.isFinite(low) && Number.isFinite(high)) Object.assign(view, { window: { low, high }, windowChoice: "custom" });
  if (result.comparands.includes(query.get("to"))) view.against = query.get("to");
  const scale = query.get("scale") ?? "", value = Number(scale);
  if (/^auto[0-9.]*$/.test(scale)) view.scaleChoice = scale;
  else if (value > 0 && value <= 100) Object.assign(view, { scale: value, scaleChoice: Number.isInteger(value) ? scale : "custom" });
  if (result.ids.includes(query.get("image"))) view.single = query.get("image");
  const [left, right] = (query.get("images") ?? "").split(",");
  if (result.ids.includes(left) && result.ids.includes(right)) Object.assign(view, { left, right });
  const [zoom, x, y] = (query.get("place") ?? "").split(",").map(Number);
  if (zoom >= 1 && zoom <= MAX_ZOOM && [x, y].every((one) => one >= 0 && one <= 1)) Object.assign(view, { zoom, centre: { x, y } });
  if (query.get("invert") === "1") view.invert = true;
  return view;
}
