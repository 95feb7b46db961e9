// One run: send the scan, follow the job, show each image when it is done, cancel, fetch what came out.

import { Problem, followJob, request, upload } from "./api.js";
import { showNotice, clearBanner } from "./banner.js";
import { $, announce } from "./dom.js";
import { Result, label } from "./result.js";
import { short } from "./pixels.js";
import { plainly } from "./words.js";

export const NPZ = "application/x-npz";
const SEEN_MS = 900; // how long the end of the bar is seen

export class Run {
  /** `shows.part(result, job, waiting)`, `shows.done(result, job)` and `shows.stopped(job)` are called as they come. */
  constructor(shows) {
    this.shows = shows;
    this.abort = null;
    this.job = null;
    for (const id of ["cancel", "overall-cancel"]) $(id).addEventListener("click", () => this.cancel());
  }

  get busy() {
    return this.abort !== null;
  }

  /** Send a comparison and follow it; `seconds` are the estimated times of its methods. Resolves to whether it ended well. */
  async compare(form, methods, { seconds = new Map(), key = null } = {}) {
    const begin = async () => {
      const headers = { Prefer: "respond-async", Accept: NPZ, ...(key ? { "Idempotency-Key": key } : {}) };
      const answer = await upload("v1/compare", form, {
        headers, signal: this.abort.signal,
        onUpload: (share) => this.#show({ title: "Sending the scan", count: share === null ? "" : `${Math.round(100 * share)} %` }),
      });
      return answer.status === 202 ? JSON.parse(await answer.body.text()) : { id: null, body: await answer.body.arrayBuffer() };
    };
    return this.#run(methods, seconds, begin);
  }

  /** Follow a job that runs already, or fetch its result. */
  async attach(job) {
    const methods = (job.request.fields.methods ?? "").split(",").filter(Boolean);
    return this.#run(methods, new Map(), async () => job);
  }

  /** Stop: the upload at once, a job between two iterations. */
  async cancel() {
    if (!this.busy) return;
    for (const id of ["cancel", "overall-cancel"]) $(id).disabled = true;
    this.#show({ title: "Cancelling", count: "" });
    announce("Cancelling");
    if (!this.job) return this.abort.abort();
    try {
      await request(`v1/jobs/${this.job.id}`, { method: "DELETE" });
    } catch (error) {
      for (const id of ["cancel", "overall-cancel"]) $(id).disabled = false;
      showNotice(`The job could not be cancelled: ${error.message}`);
    }
  }

  async #run(methods, seconds, begin) {
    this.abort = new AbortController();
    Object.assign(this, { job: null, started: performance.now(), share: 0, methods, result: null, parts: Promise.resolve(), taken: new Set(), said: new Map() });
    const times = methods.map((name) => seconds.get(name));
    this.weights = times.every((time) => time > 0) ? times : methods.map((name) => (name === "zero-filled" ? 0.05 : 1));
    this.#begin();
    const clock = setInterval(() => this.#time(), 200);
    let ended = false;
    try {
      const job = await begin();
      if (job.id === null) { // answered at once
        this.shows.done(Result.read(job.body), null);
        return (ended = true);
      }
      this.job = job;
      const end = job.status === "succeeded" ? job : await this.#follow();
      await this.parts;
      if (end.status === "cancelled") {
        this.shows.stopped(this.job);
        return false;
      }
      // A failed job answers with its own problem here.
      const response = await request(`v1/jobs/${this.job.id}/result`, { headers: { Accept: NPZ }, signal: this.abort.signal });
      this.shows.done(Result.read(await response.arrayBuffer()), end);
      return (ended = true);
    } catch (error) {
      this.shows.stopped(this.job);
      if (error.name === "AbortError") return false;
      throw error;
    } finally {
      clearInterval(clock);
      this.abort = null;
      this.#end(ended);
    }
  }

  #follow() {
    return followJob(this.job.id, {
      signal: this.abort.signal,
      onStatus: (job) => {
        if (job.status === "queued") this.#show({ title: job.position ? `Waiting, place ${job.position}` : "Waiting", count: "" });
        if (job.status === "running" && job.progress) this.#progress(job.progress);
        else if (job.status === "running") this.#show({ title: "Reading the scan", count: "" });
      },
      onProgress: (progress) => this.#progress(progress),
      onLost: (wait) => showNotice(`No connection to the service. Its work goes on; trying again in ${Math.max(1, Math.round(wait / 1000))} s.`),
      onBack: () => {
        clearBanner();
        announce("Connected again");
      },
    });
  }

  #progress(progress) {
    const { method, stage, iteration, total, objective, relative_gap: gap, fraction = null, parts = [] } = progress;
    for (const name of parts) this.#take(name);
    if ($("cancel").disabled) return;
    const at = Math.max(0, this.methods.indexOf(method)), own = stage === "done" ? 1 : fraction ?? (total ? iteration / total : 0);
    const done = this.weights.slice(0, at).reduce((sum, one) => sum + one, 0) + this.weights[at] * own;
    // The stages of a method count from 0 again: what was reached stays.
    this.share = Math.max(this.share, Math.min(0.99, done / this.weights.reduce((sum, one) => sum + one, 0)));
    [...$("progress-steps").children].forEach((step, index) => {
      step.className = index < at || (index === at && stage === "done") ? "done" : index === at ? "now" : "";
    });
    const doing = stage && !["iterate", "done"].includes(stage) ? `: ${plainly(stage)}` : "";
    // Where slices end early, `total` falls: the share of the work that is done does not.
    const told = fraction !== null ? `${iteration} (${Math.round(100 * fraction)} %)` : total ? `${iteration} of ${total}` : iteration ? String(iteration) : "";
    const count = stage === "done" ? "" : told;
    this.said = new Map([[method, stage === "done" ? "done" : count || plainly(stage ?? "")]]);
    this.#show({ title: `${label(method)}${doing}`, count, objective, gap });
    announce(`${label(method)}, ${told || "running"}`, 5000);
    if (this.result) this.shows.part(this.result, this.job, this.#waiting());
  }

  /** Fetch a part once, one after the other: the images come in their order. */
  #take(name) {
    if (this.taken.has(name)) return;
    this.taken.add(name);
    const { job, abort } = this;
    this.parts = this.parts.then(async () => {
      try {
        const response = await request(`v1/jobs/${job.id}/parts/${encodeURIComponent(name)}`, { signal: abort.signal });
        const buffer = await response.arrayBuffer();
        if (this.job !== job || abort.signal.aborted) return;
        this.result = this.result ? this.result.with(buffer) : Result.read(buffer);
        this.shows.part(this.result, job, this.#waiting());
      } catch (error) {
        // A job that has just ended has no parts: its result comes. A lost connection is told by the events.
        if (error.name !== "AbortError" && error instanceof Problem && error.document.status >= 500) throw error;
      }
    }).catch(() => {});
  }

  /** The methods that are not done, with what is said of them. */
  #waiting() {
    return new Map(this.methods.filter((name) => !this.result?.volumes.has(name)).map((name) => [name, this.said.get(name) ?? "waiting"]));
  }

  #begin() {
    clearBanner();
    $("progress-steps").replaceChildren(...this.methods.map((name) => Object.assign(document.createElement("li"), { textContent: label(name) })));
    for (const id of ["progress", "cancel", "overall", "welcome-busy"]) $(id).hidden = false;
    for (const id of ["run", "welcome-ready", "welcome-empty"]) $(id).hidden = true;
    this.#show({ title: "Sending the scan", count: "" });
    announce("Sending the scan");
  }

  #end(well) {
    for (const id of ["cancel", "overall-cancel"]) $(id).disabled = false;
    $("cancel").hidden = true;
    $("run").hidden = false;
    $("welcome-ready").hidden = $("drop").classList.contains("has-file") ? false : true;
    $("welcome-empty").hidden = $("drop").classList.contains("has-file");
    $("welcome-busy").hidden = true;
    const hide = () => !this.busy && ["progress", "overall"].forEach((id) => ($(id).hidden = true));
    if (!well) return hide();
    this.share = 1;
    this.#show({ title: "Done", count: "" });
    for (const step of $("progress-steps").children) step.className = "done";
    setTimeout(hide, SEEN_MS);
  }

  #show({ title, count, objective = null, gap = null }) {
    const percent = `${Math.round(100 * this.share)} %`;
    $("progress-title").textContent = title;
    $("welcome-step").textContent = count ? `${title}, ${count}` : `${title}…`;
    $("progress-count").textContent = count;
    $("overall-text").textContent = `${title}${count ? `, ${count}` : ""} · ${percent}`;
    for (const id of ["progress-bar", "overall-bar"]) {
      if (this.share > 0) $(id).value = this.share;
      else $(id).removeAttribute("value");
    }
    // Few methods have them.
    for (const [id, value] of [["progress-objective", objective], ["progress-gap", gap]]) $(id).parentElement.hidden = value === null;
    $("progress-objective").textContent = objective === null ? "–" : short(objective, 5);
    $("progress-gap").textContent = gap === null ? "–" : short(gap, 3);
  }

  #time() {
    $("progress-time").textContent = `${((performance.now() - this.started) / 1000).toFixed(1)} s`;
  }
}
