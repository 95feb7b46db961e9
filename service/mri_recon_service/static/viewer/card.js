// The card of a scan: what is in the file, the mask it would get and how long its methods would take, before any run.

import { Problem, request, upload } from "./api.js";
import { $, make } from "./dom.js";
import { drawStrip } from "./drawing.js";
import { roughly } from "./form.js";
import { fixed, short } from "./pixels.js";
import { maskCaption } from "./result.js";
import { worded } from "./words.js";

const PAUSE_MS = 150; // typing is over

export class Card {
  constructor(form) {
    this.form = form;
    this.scan = null;
    this.seconds = new Map();
    this.asked = null;
    this.timer = null;
  }

  /** What the fields of the form say has changed: a new look at the file, the mask alone, or only the time. */
  changed(what) {
    if (!this.form.file) return;
    clearTimeout(this.timer);
    if (what === "file") {
      this.scan = null;
      this.seconds = new Map();
      this.#block(null);
      this.#showTime();
      $("card").hidden = false;
      $("card").replaceChildren(make("p", { className: "hint" }, "Reading the scan…"));
      $("live-mask").hidden = true;
    }
    if (what === "methods") this.#showTime();
    else if (what === "mask" && this.scan && this.form.drawn) this.timer = setTimeout(() => this.#drawMask(), PAUSE_MS);
    else this.timer = setTimeout(() => this.#look(), what === "file" ? 0 : PAUSE_MS);
  }

  /** Look at a file that a run was quicker than. */
  resume() {
    if (this.form.file && !this.scan) this.changed("reading");
  }

  /** Give up a look at the file: the run reads it itself. */
  stop() {
    clearTimeout(this.timer);
    this.asked?.abort();
    this.#block(null);
  }

  async #look() {
    this.asked?.abort();
    const asked = (this.asked = new AbortController()), { form } = this;
    if ($("mask-kind").value === "upload" && !$("mask-file").files[0]) return;
    const fields = { ...form.fields(), methods: form.names.join(",") };
    for (const name of Object.keys(fields)) if (name.includes(".")) delete fields[name]; // times are those of usual options
    try {
      const answer = await upload("v1/validate", form.data(fields), { signal: asked.signal });
      const seen = JSON.parse(await answer.body.text());
      if (asked.signal.aborted) return;
      this.scan = seen.scan;
      this.seconds = new Map(seen.methods.map(({ method, seconds }) => [method, seconds]));
      form.showTimes(this.seconds);
      if (this.#choosesOwnMask(seen)) return;
      this.#show(seen);
      this.#showTime();
      this.#showMask(seen.mask);
    } catch (error) {
      if (asked.signal.aborted || error.name === "AbortError") return;
      this.scan = null;
      this.#showMask(null);
      this.seconds = new Map();
      form.showTimes(this.seconds);
      this.#showTime();
      if (error instanceof Problem) this.#block(error);
      $("card").replaceChildren(this.#trouble(error));
    }
  }

  /** Nothing can be started with a scan or a mask that the service has refused: what to do stands in place of the button. */
  #block(error) {
    for (const button of document.querySelectorAll("button[type=submit][form=form]")) button.disabled = error !== null;
    $("welcome-go").hidden = error !== null;
    $("welcome-trouble").replaceChildren(...(error === null ? [] : [this.#trouble(error)]));
  }

  /** An undersampled scan that knows its mask takes it without a question. */
  #choosesOwnMask({ scan }) {
    if (!this.form.drawn || scan.fully_sampled || !scan.own_mask) return false;
    this.form.setMask("file");
    return true;
  }

  #show({ scan, problem }) {
    const refused = problem && problem.code !== "too-much-memory" ? new Problem(problem, problem.status) : null;
    this.#block(refused);
    const { slices, coils, readout, phase, geometry, support_columns: columns } = scan;
    const facts = [
      ["Format", scan.format],
      ["Slices, coils", `${slices}, ${coils}`],
      ["Matrix", `${readout} × ${phase} (readout × phase)` + (columns < phase ? `, ${columns} columns acquired` : "")],
      ["Sampling", scan.fully_sampled ? "full" : scan.own_mask ? `undersampled, ${maskCaption(scan.own_mask)}` : "undersampled, no mask in the file"],
      ["Noise, SD", scan.noise_sigma === null ? "not known" : `${fixed(scan.noise_sigma, 3)} (units of the file)`],
      ["Voxel", geometry ? `${geometry.voxel_size.map((one) => short(one, 3)).join(" × ")} mm` : "size not known"],
      ["Orientation", !geometry ? "not known" : geometry.description],
      ["Reference", scan.reference],
    ];
    $("card").hidden = false;
    $("card").replaceChildren(
      refused ? this.#trouble(refused) : "",
      make("dl", { className: "facts" }, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
      scan.axes_assumed ? this.#axes(scan) : "",
      ...scan.warnings.filter((text) => !scan.axes_assumed || !text.startsWith("The axes are assumed")).map((text) => make("div", { className: "note warning" }, make("p", {}, text))),
      scan.note ? make("p", { className: "hint" }, scan.note) : "",
    );
  }

  /** Axes that nothing in the file names: what was assumed, and the other readings, one click each. */
  #axes({ axes }) {
    const words = axes.split(/\s+/);
    const swapped = (a, b) => words.map((word) => ({ [a]: b, [b]: a })[word] ?? word).join(" ");
    const readings = [["Swap readout and phase", swapped("readout", "phase")]];
    if (words.includes("coil") !== words.includes("slice")) readings.push([words.includes("coil") ? "Slices, not coils" : "Coils, not slices", swapped("coil", "slice")]);
    else if (words.includes("coil")) readings.push(["Swap slices and coils", swapped("coil", "slice")]);
    return make("div", { className: "note warning" }, make("p", {}, `Axes assumed: ${axes}`),
      make("div", { className: "row" }, ...readings.map(([text, other]) => make("button", { type: "button", title: other, onclick: () => this.form.setAxes(other) }, text))));
  }

  /** What is wrong, what to do about it in one click, and what the service said. */
  #trouble(error) {
    const { title, advice, detail } = worded(error);
    return make("div", { className: "note error" }, make("strong", {}, title), make("p", {}, advice ?? detail),
      ...this.#actions(error), advice ? make("p", { className: "hint" }, detail) : "");
  }

  #actions(error) {
    const { readings } = worded(error);
    if (readings) {
      return [make("div", { className: "row" }, ...readings.map((axes) =>
        make("button", { type: "button", "data-axes": axes, onclick: () => this.form.setAxes(axes) }, axes)))];
    }
    if (worded(error).action !== "from-zeros") return [];
    return [make("div", { className: "row" },
      make("button", { type: "button", "data-cure": "zeros", onclick: () => this.form.setMask("from-zeros") }, "Count zeros as not sampled"),
      make("button", { type: "button", onclick: () => {
        this.form.setMask("upload");
        $("mask-file").click();
      } }, "Choose a mask file"))];
  }

  /** Draw the mask that the form asks for now: of the same support, without sending the scan again. */
  async #drawMask() {
    const { phase, support } = this.scan;
    try {
      const query = new URLSearchParams({ width: String(phase), support, ...this.form.maskFields() });
      const receipt = await (await request(`v1/masks?${query}`)).json();
      this.#showMask(receipt);
      this.#block(null);
    } catch (error) {
      if (error instanceof Problem) this.#block(error);
      this.#showMask(null, worded(error).detail);
    }
  }

  #showMask(receipt, trouble = "") {
    $("live-mask").hidden = receipt === null && !trouble;
    $("live-strip").hidden = !receipt?.lines;
    $("live-caption").textContent = receipt ? maskCaption(receipt) : trouble;
    if (!receipt?.lines) return;
    const data = new Uint8Array(receipt.width);
    for (const line of receipt.lines) data[line] = 1;
    drawStrip($("live-strip"), { mask: { shape: [receipt.width], data }, receipt });
    $("live-strip").setAttribute("aria-label", `The mask: ${maskCaption(receipt)}`);
  }

  #showTime() {
    const times = this.form.chosen.map((name) => this.seconds.get(name));
    const known = times.length > 0 && times.every((time) => typeof time === "number");
    $("run").textContent = known ? `Reconstruct (about ${roughly(times.reduce((sum, one) => sum + one, 0))})` : "Reconstruct";
  }
}
