// What is asked for: the scan, the sampling, the methods and their options, as the fields of POST /v1/compare.

import { request } from "./api.js";
import { $, make } from "./dom.js";
import { label } from "./result.js";
import { callFile, plainly } from "./words.js";

const USUAL = ["zero-filled", "cs-wavelet", "unet", "unrolled"];
const DRAWN = ["random", "equispaced"];

export class Form {
  /** `changed(what)` is called with "file", "reading" (how the scan is read, and which mask), "mask" or "methods". */
  constructor(changed) {
    this.file = null;
    this.methods = [];
    this.changed = changed;
    $("pick").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => {
      const [file] = $("file").files;
      $("file").value = ""; // the same file may be chosen again
      if (file) this.take(file);
    });
    $("mask-kind").addEventListener("change", () => {
      this.#showMask();
      changed("reading");
    });
    for (const id of ["axes", "variable", "mask-file", "check"]) $(id).addEventListener("change", () => changed("reading"));
    for (const id of ["acceleration", "center", "seed"]) $(id).addEventListener("input", () => changed("mask"));
    $("acceleration").addEventListener("input", () => this.#showChips());
    $("methods").addEventListener("input", () => changed("methods"));
    for (const chip of document.querySelectorAll("[data-acceleration]")) {
      chip.addEventListener("click", () => {
        $("acceleration").value = chip.dataset.acceleration;
        this.#showChips();
        changed("mask");
      });
    }
    this.#showChips();
  }

  /** Use this file; the mask and the axes that belonged to the last one are given up. */
  take(file, name = file.name, hint = sizeOf(file)) {
    if (this.file) for (const id of ["axes", "variable"]) $(id).value = "";
    this.file = { blob: file, name, sample: false };
    $("file-name").textContent = name;
    $("file-hint").textContent = hint;
    $("drop").classList.add("has-file");
    $("welcome-file").textContent = name;
    $("welcome-empty").hidden = true;
    $("welcome-ready").hidden = false;
    callFile(name);
    this.showTimes(new Map());
    if (!DRAWN.includes($("mask-kind").value)) this.setMask("random", false);
    this.changed("file");
  }

  /** Fetch the embedded sample and use it. */
  async takeSample() {
    const response = await request("v1/sample", { cache: "default" });
    const name = /filename="?([^";]+)/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "sample.h5";
    this.take(await response.blob(), name, "Simulated from the Colin27 average brain, 8 coils, 4 slices");
    this.file.sample = true;
  }

  /** List the service's methods; resolves to the research-only notice. */
  async load() {
    const text = await (await request("v1/models")).text(), models = JSON.parse(text);
    this.catalogue = text;
    this.methods = models.methods;
    this.formats = models.formats;
    const usual = USUAL.filter((name) => models.methods.some((method) => method.name === name));
    const order = (name) => (usual.includes(name) ? usual.indexOf(name) : usual.length);
    const sorted = [...models.methods].sort((a, b) => order(a.name) - order(b.name));
    $("methods").replaceChildren(...sorted.map((method) => methodBlock(method, usual.includes(method.name))));
    return models.research_only;
  }

  get names() {
    return this.methods.map(({ name }) => name);
  }

  get chosen() {
    return [...$("methods").querySelectorAll("input[name=method]:checked")].map((input) => input.value);
  }

  get drawn() {
    return DRAWN.includes($("mask-kind").value);
  }

  setMask(kind, tell = true) {
    $("mask-kind").value = kind;
    this.#showMask();
    if (tell) this.changed("reading");
  }

  setAxes(text) {
    $("axes").value = text;
    $("reading").open = true;
    this.changed("reading");
  }

  /** Show the estimated times of the methods, {method: seconds}. */
  showTimes(seconds) {
    for (const block of $("methods").querySelectorAll(".method")) {
      const time = seconds.get(block.dataset.method);
      block.querySelector(".method-time").textContent = time === undefined || time === null ? "" : `about ${roughly(time)}`;
    }
  }

  /** What is missing before anything can be sent, in words, and where; null where nothing is. */
  missing() {
    if (!this.file) return { text: "Choose a scan first: a file, or the sample.", element: $("sample") };
    if (!this.chosen.length) return { text: "Choose at least one method.", element: $("methods").querySelector("input") };
    if (this.drawn && !(Number($("acceleration").value) >= 1)) {
      return { text: "Give an acceleration of at least 1, e.g. 4.", element: $("acceleration") };
    }
    if ($("mask-kind").value === "upload" && !$("mask-file").files[0]) {
      return { text: "Choose the file of the mask.", element: $("mask-file") };
    }
    return null;
  }

  /** The fields of the mask alone: what GET /v1/masks takes. */
  maskFields() {
    const fields = { mask_kind: $("mask-kind").value, acceleration: $("acceleration").value, center_fraction: $("center").value, seed: $("seed").value };
    return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));
  }

  /** The fields of a comparison of the chosen methods, without its files. */
  fields() {
    const kind = $("mask-kind").value;
    const fields = { axes: $("axes").value.trim(), variable: $("variable").value.trim() };
    if (kind === "file" || kind === "from-zeros") fields.mask = kind;
    else if (this.drawn) Object.assign(fields, this.maskFields());
    if ($("check").checked) fields.check = "holdout";
    fields.methods = this.chosen.join(",");
    for (const input of $("methods").querySelectorAll("[data-option]")) {
      const { method, option } = input.dataset;
      if (this.chosen.includes(method)) fields[`${method}.${option}`] = input.value.trim();
    }
    return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));
  }

  /** The multipart form of these fields and of the files. */
  data(fields = this.fields()) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    if ($("mask-kind").value === "upload" && $("mask-file").files[0]) form.append("mask", $("mask-file").files[0]);
    form.append("file", this.file.blob, this.file.name);
    return form;
  }

  /** Set the form as a run was asked for, by its fields. */
  restore(fields) {
    const put = (id, value) => ($(id).value = value ?? "");
    put("axes", fields.axes);
    put("variable", fields.variable);
    if (fields.acceleration !== undefined) put("acceleration", fields.acceleration);
    put("center", fields.center_fraction);
    put("seed", fields.seed ?? "0");
    $("check").checked = fields.check === "holdout";
    $("mask-kind").value = fields.mask ?? fields.mask_kind ?? (fields.acceleration === undefined ? "file" : "random");
    const methods = (fields.methods ?? "").split(",");
    for (const input of $("methods").querySelectorAll("input[name=method]")) input.checked = methods.includes(input.value);
    for (const input of $("methods").querySelectorAll("[data-option]")) input.value = fields[`${input.dataset.method}.${input.dataset.option}`] ?? "";
    this.#showMask();
    this.#showChips();
  }

  #showMask() {
    $("drawn").hidden = !this.drawn;
    $("mask-file-field").hidden = $("mask-kind").value !== "upload";
  }

  #showChips() {
    for (const chip of document.querySelectorAll("[data-acceleration]")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.acceleration === $("acceleration").value));
    }
  }
}

/** An estimate as the range that it is, half to twice: 1 s, 5 to 20 s, 1 to 4 min. A busy machine takes longer. */
export function roughly(seconds) {
  if (seconds < 0.75) return "1 s";
  const [unit, size] = seconds < 90 ? ["s", 1] : ["min", 60];
  const [low, high] = [seconds / 2, seconds * 2].map((one) => Math.max(1, Number((one / size).toPrecision(1))));
  return `${low === high ? low : `${low} to ${high}`} ${unit}`;
}

function sizeOf(file) {
  const steps = file.size < 1024 ? 0 : file.size < 2 ** 20 ? 1 : 2;
  return `${(file.size / 1024 ** steps).toFixed(steps && 1)} ${["bytes", "KiB", "MiB"][steps]}`;
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
  const block = make("div", { className: "method" },
    make("div", { className: "method-head" }, make("label", { title: method.summary }, box, label(method.name), make("span", { className: "method-time" })), toggle), more);
  block.dataset.method = method.name;
  return block;
}

function optionField(method, option, usual) {
  const text = usual === null ? "automatic" : String(usual);
  const field = typeof usual === "boolean"
    ? make("select", {}, ...[["", `${text} (usual)`], [String(!usual), String(!usual)]].map(([value, shown]) => make("option", { value }, shown)))
    : make("input", { placeholder: text, autocomplete: "off", spellcheck: false });
  Object.assign(field.dataset, { method, option });
  return make("label", { className: "field", title: option }, make("span", {}, plainly(option)), field);
}
