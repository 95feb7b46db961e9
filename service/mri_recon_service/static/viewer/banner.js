// What went wrong, at the top of the page: what happened, what to do.

import { Problem, Unreachable, request } from "./api.js";
import { $, announce, make } from "./dom.js";

let cures = null;

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
  const document = error instanceof Problem ? error.document : null;
  const title = document?.title ?? (error instanceof Unreachable ? "No connection to the service" : "The viewer failed");
  const detail = document?.detail ?? error.message;
  const cure = document ? await cureOf(document.code) : error instanceof Unreachable ? "Check that the service runs, then try again." : null;
  const fields = (document?.errors ?? []).map((one) =>
    make("li", {}, typeof one === "string" ? one : `${one.field ?? (one.loc ?? []).join(".")}: ${one.message ?? one.msg ?? ""}`));
  show([
    make("strong", {}, title),
    make("span", {}, detail),
    fields.length ? make("ul", {}, ...fields) : null,
    cure ? make("p", { className: "cure" }, cure) : null,
    document?.request_id ? make("p", { className: "cure" }, `Request ${document.request_id}`) : null,
  ], false);
}

/** Say something that passes by itself. */
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
  $("banner").replaceChildren(make("div", {}, ...parts), close);
  $("banner").hidden = false;
}
