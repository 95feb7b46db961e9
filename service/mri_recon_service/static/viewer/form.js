// What is asked for: the scan, the sampling, the methods and their options, as the fields of POST /v1/compare.

import { request } from "./api.js";
import { $, make } from "./dom.js";
import { label } from "./result.js";

const USUAL = ["zero-filled", "cs-wavelet", "unet", "unrolled"];

export class Form {
  constructor() {
    this.file = null;
    this.methods = [];
    $("pick").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => $("file").files[0] && this.take($("file").files[0]));
    $("mask-kind").addEventListener("change", () => this.#showMask());
    $("acceleration").addEventListener("input", () => this.#showChips());
    for (const chip of document.querySelectorAll("[data-acceleration]")) {
      chip.addEventListener("click", () => {
        $("acceleration").value = chip.dataset.acceleration;
        this.#showChips();
      });
    }
    this.#showChips();
  }

  /** Use this file. */
  take(file, name = file.name) {
    this.file = { blob: file, name };
    $("file-name").textContent = name;
    const steps = file.size < 1024 ? 0 : file.size < 2 ** 20 ? 1 : 2;
    $("file-hint").textContent = `${(file.size / 1024 ** steps).toFixed(steps && 1)} ${["bytes", "KiB", "MiB"][steps]}`;
    $("drop").classList.add("has-file");
    $("welcome-file").textContent = name;
    $("welcome-empty").hidden = true;
    $("welcome-ready").hidden = false;
  }

  /** Fetch the embedded sample and use it. */
  async takeSample() {
    const response = await request("v1/sample", { cache: "default" });
    const name = /filename="?([^";]+)/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "sample.h5";
    this.take(await response.blob(), name);
    $("file-hint").textContent = "Simulated from the Colin27 average brain, 8 coils, 4 slices";
  }

  /** List the service's methods; resolves to the research-only notice. */
  async load() {
    const models = await (await request("v1/models")).json();
    this.methods = models.methods;
    const usual = USUAL.filter((name) => models.methods.some((method) => method.name === name));
    const order = (name) => (usual.includes(name) ? usual.indexOf(name) : usual.length);
    const sorted = [...models.methods].sort((a, b) => order(a.name) - order(b.name));
    $("methods").replaceChildren(...sorted.map((method) => methodBlock(method, usual.includes(method.name))));
    return models.research_only;
  }

  get chosen() {
    return [...$("methods").querySelectorAll("input[name=method]:checked")].map((input) => input.value);
  }

  /** What is missing before anything can be sent, in words, and where; null where nothing is. */
  missing() {
    if (!this.file) return { text: "Choose a scan first: a file, or the sample.", element: $("sample") };
    if (!this.chosen.length) return { text: "Choose at least one method.", element: $("methods").querySelector("input") };
    const drawn = ["random", "equispaced"].includes($("mask-kind").value);
    if (drawn && !(Number($("acceleration").value) >= 1)) {
      return { text: "Give an acceleration of at least 1, e.g. 4.", element: $("acceleration") };
    }
    if ($("mask-kind").value === "upload" && !$("mask-file").files[0]) {
      return { text: "Choose the file of the mask.", element: $("mask-file") };
    }
    return null;
  }

  /** The multipart form of a comparison of the chosen methods, or of one of them alone. */
  data({ only = null } = {}) {
    const form = new FormData();
    const add = (name, value) => value !== "" && form.append(name, value);
    add("axes", $("axes").value.trim());
    add("variable", $("variable").value.trim());
    const kind = $("mask-kind").value;
    if (kind === "file") form.append("mask", "file");
    else if (kind === "upload") form.append("mask", $("mask-file").files[0]);
    else {
      form.append("mask_kind", kind);
      add("acceleration", $("acceleration").value);
      add("center_fraction", $("center").value);
      add("seed", $("seed").value);
    }
    if ($("check").checked) form.append("check", "holdout");
    if (only) form.append("method", only);
    else form.append("methods", this.chosen.join(","));
    for (const input of $("methods").querySelectorAll("[data-option]")) {
      const { method, option } = input.dataset;
      if (only === null && this.chosen.includes(method)) add(`${method}.${option}`, input.value.trim());
      if (only === method) add(option, input.value.trim());
    }
    form.append("file", this.file.blob, this.file.name);
    return form;
  }

  #showMask() {
    const kind = $("mask-kind").value;
    $("drawn").hidden = kind === "file" || kind === "upload";
    $("mask-file-field").hidden = kind !== "upload";
  }

  #showChips() {
    for (const chip of document.querySelectorAll("[data-acceleration]")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.acceleration === $("acceleration").value));
    }
  }
}

function methodBlock(method, checked) {
  const box = make("input", { type: "checkbox", name: "method", value: method.name, checked });
  const options = Object.entries(method.options);
  const more = make("div", { className: "method-options", hidden: true, id: `options-${method.name}` },
    make("p", { className: "hint" }, method.summary), ...options.map(([name, usual]) => optionField(method.name, name, usual)));
  const toggle = make("button", { type: "button", className: "quiet", "aria-expanded": "false", "aria-controls": more.id,
    "aria-label": `Options of ${label(method.name)}` }, "Options");
  toggle.addEventListener("click", () => {
    more.hidden = !more.hidden;
    toggle.setAttribute("aria-expanded", String(!more.hidden));
  });
  return make("div", { className: "method" },
    make("div", { className: "method-head" }, make("label", { title: method.summary }, box, label(method.name)), toggle), more);
}

function optionField(method, option, usual) {
  const text = usual === null ? "automatic" : String(usual);
  const field = typeof usual === "boolean"
    ? make("select", {}, ...[["", `${text} (usual)`], [String(!usual), String(!usual)]].map(([value, shown]) => make("option", { value }, shown)))
    : make("input", { placeholder: text, autocomplete: "off", spellcheck: false });
  Object.assign(field.dataset, { method, option });
  return make("label", { className: "field" }, make("span", {}, option), field);
}
