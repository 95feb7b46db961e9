// The runs that the service keeps for this client: open one, put it beside the one that is shown, delete it.

import { request } from "./api.js";
import { showError } from "./banner.js";
import { $, make } from "./dom.js";
import { label } from "./result.js";

const NAMES = "mri-recon-names", MOST_NAMES = 200;

/** Remember on this machine what a scan is called: the service is not told, since names of files may name patients. */
export function rememberName(sha256, name) {
  if (!sha256) return;
  const names = Object.entries(names_()).filter(([one]) => one !== sha256).slice(1 - MOST_NAMES);
  localStorage.setItem(NAMES, JSON.stringify(Object.fromEntries([...names, [sha256, name]])));
}

/** What the scan of a job is called here, or the beginning of its checksum. */
export function nameOf(job) {
  const { sha256, file } = job.request;
  return names_()[sha256] ?? `${file.replace(/^upload/, `scan ${sha256.slice(0, 8)}`)}`;
}

function names_() {
  try {
    return JSON.parse(localStorage.getItem(NAMES) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/** What a run was asked for, in a few words. */
export function askedOf(fields) {
  const mask = fields.mask === "from-zeros" ? "zeros not sampled" : fields.mask === "file" ? "own mask"
    : fields.acceleration ? `R = ${fields.acceleration}${fields.mask_kind === "equispaced" ? " equispaced" : ""}, seed ${fields.seed ?? 0}` : "a mask file";
  return `${mask}${fields.check ? ", checked" : ""}`;
}

export class Runs {
  /** `on.open(job)` and `on.beside(job)` are called with the job's document; `on.shown()` gives {job, beside}. */
  constructor(on) {
    this.on = on;
    this.jobs = [];
    this.next = null;
    $("runs-refresh").addEventListener("click", () => this.refresh());
    $("runs-older").addEventListener("click", () => this.#load(this.next));
  }

  async refresh() {
    this.jobs = [];
    await this.#load("v1/jobs?limit=20");
  }

  show() {
    const { job: shown, beside } = this.on.shown();
    const items = this.jobs.map((job) => this.#item(job, shown, beside));
    $("runs").replaceChildren(...(items.length ? items : [make("li", { className: "hint" }, "No run is kept. Each run that you start is listed here.")]));
    $("runs-older").hidden = !this.next;
  }

  async #load(path) {
    try {
      const list = await (await request(path.replace(/^\//, ""))).json();
      this.jobs.push(...list.jobs);
      this.next = list.next;
    } catch (error) {
      showError(error);
    }
    this.show();
  }

  #item(job, shown, beside) {
    const { fields } = job.request, kept = job.status === "succeeded" && !job.expired, live = ["queued", "running"].includes(job.status);
    const methods = (fields.methods ?? fields.method ?? "").split(",").filter(Boolean).map(label).join(", ");
    const comparison = job.kind === "comparison", here = [shown, beside].includes(job.id);
    const button = (text, run, name) => make("button", { type: "button", onclick: run, "aria-label": `${name} ${nameOf(job)}, ${stateOf(job)}` }, text);
    return make("li", { className: `run-item${here ? " shown" : ""}`, "data-run": job.id },
      make("strong", {}, nameOf(job)),
      make("span", {}, `${askedOf(fields)} · ${methods}`),
      make("span", { className: `run-state ${job.status}` }, `${stateOf(job)}${beside ? (job.id === shown ? " · A" : job.id === beside ? " · B" : "") : ""}`),
      make("div", { className: "row" },
        comparison && (kept || live) && (job.id !== shown || beside) ? button(live ? "Follow" : "Open", () => this.on.open(job), "Open") : null,
        comparison && kept && shown && !here ? button("Beside", () => this.on.beside(job), "Put beside the run that is shown") : null,
        live ? null : button("Delete", () => this.#delete(job), "Delete")));
  }

  async #delete(job) {
    try {
      await request(`v1/jobs/${job.id}`, { method: "DELETE" });
      this.jobs = this.jobs.filter((one) => one !== job);
    } catch (error) {
      showError(error);
    }
    this.show();
  }
}

function stateOf(job) {
  const at = (text) => new Date(text).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
  if (job.status === "succeeded") return job.expired ? `done ${at(job.finished)}, expired` : `done ${at(job.finished)}, kept until ${at(job.expires)}`;
  if (job.status === "failed") return `failed: ${job.problem?.title ?? ""}`;
  if (job.status === "cancelled") return "cancelled";
  return job.status === "running" ? "runs" : `waits, place ${job.position ?? ""}`;
}
