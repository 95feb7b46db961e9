// What went wrong, at the top of the images: what happened, what to do.

import { request } from "./api.js";
import { $, announce, make } from "./dom.js";
import { worded } from "./words.js";

let cures = null;
const actions = new Map();

/** `run()` does what the action of an error is called, behind a button that says `text`. */
export function offerAction(name, text, run) {
  actions.set(name, { text, run });
}

async function cureOf(code) {
  try {
    cures ??= new Map((await (await request("problems")).json()).map((one) => [one.code, one.cure]));
  } catch {
    return null;
  }
  return cures.get(code) ?? null;
}

/** Show an error until it is closed or the next one comes. */
export async function showError(error) {
  if (error.name === "AbortError") return;
  const { title, detail, advice, action, readings = [], fields = [], request: id } = worded(error);
  const cure = advice ?? (error.document ? await cureOf(error.document.code) : null);
  const offered = actions.get(action), choose = actions.get("axes");
  show([
    make("strong", {}, title),
    cure ? make("span", {}, cure) : make("span", {}, detail),
    fields.length ? make("ul", {}, ...fields.map((text) => make("li", {}, text))) : null,
    offered ? make("button", { type: "button", onclick: () => {
      clearBanner();
      offered.run();
    } }, offered.text) : null,
    readings.length && choose ? make("div", { className: "row" }, ...readings.map((axes) => make("button", { type: "button", onclick: () => {
      clearBanner();
      choose.run(axes);
    } }, axes))) : null,
    cure ? make("p", { className: "cure" }, `The service says: ${detail}`) : null,
    id ? make("p", { className: "cure" }, `Request ${id}`) : null,
  ], false);
}

/** Say something that is no error. */
export function showNotice(text) {
  show([make("span", {}, text)], true);
  announce(text);
}

export function clearBanner() {
  $("banner").hidden = true;
}

function show(parts, calm) {
  const close = make("button", { type: "button", className: "quiet", onclick: clearBanner }, "Close");
  $("banner").classList.toggle("calm", calm);
  $("banner").replaceChildren(make("div", {}, ...parts.filter((part) => part !== null)), close);
  $("banner").hidden = false;
}
