// One run: send the scan, follow the job, cancel it, fetch what came out.

import { followJob, request, upload } from "./api.js";
import { showNotice, clearBanner } from "./banner.js";
import { $, announce } from "./dom.js";
import { label } from "./result.js";
import { short } from "./pixels.js";

export const NPZ = "application/x-npz";

export class Run {
  constructor() {
    this.abort = null;
    this.job = null;
    $("cancel").addEventListener("click", () => this.cancel());
  }

  get busy() {
    return this.abort !== null;
  }

  /** Send a comparison and wait for its end: an ArrayBuffer of the npz, or null where it was cancelled. */
  async compare(form, methods) {
    this.abort = new AbortController();
    this.job = null;
    this.started = performance.now();
    this.#begin(methods);
    const clock = setInterval(() => this.#time(), 200);
    try {
      const answer = await upload("v1/compare", form, {
        headers: { Prefer: "respond-async", Accept: NPZ },
        signal: this.abort.signal,
        onUpload: (share) => this.#show({ title: "Sending the scan", share, count: share === null ? "" : `${Math.round(100 * share)} %` }),
      });
      if (answer.status !== 202) return await answer.body.arrayBuffer();
      this.job = JSON.parse(await answer.body.text());
      const end = await this.#follow(methods);
      if (end.status === "cancelled") return null;
      // A failed job answers with its own problem here.
      const response = await request(`v1/jobs/${this.job.id}/result`, { headers: { Accept: NPZ } });
      return await response.arrayBuffer();
    } catch (error) {
      if (error.name === "AbortError") return null;
      throw error;
    } finally {
      clearInterval(clock);
      this.abort = null;
      $("progress").hidden = true;
      $("cancel").hidden = true;
      $("cancel").disabled = false;
      $("run").hidden = false;
      $("welcome-ready").hidden = false;
      $("welcome-busy").hidden = true;
    }
  }

  /** Stop: the upload at once, a job between two iterations. */
  async cancel() {
    if (!this.busy) return;
    $("cancel").disabled = true;
    this.#show({ title: "Cancelling", share: null, count: "" });
    announce("Cancelling");
    if (!this.job) return this.abort.abort();
    try {
      await request(`v1/jobs/${this.job.id}`, { method: "DELETE" });
    } catch (error) {
      $("cancel").disabled = false;
      showNotice(`The job could not be cancelled: ${error.message}`);
    }
  }

  #follow(methods) {
    return followJob(this.job.id, {
      signal: this.abort.signal,
      onStatus: (job) => {
        if (job.status === "queued") this.#show({ title: job.position ? `Waiting, place ${job.position}` : "Waiting", share: null, count: "" });
        if (job.status === "running" && job.progress) this.#progress(job.progress, methods);
        else if (job.status === "running") this.#show({ title: "Reading the scan", share: null, count: "" });
      },
      onProgress: (progress) => this.#progress(progress, methods),
      onLost: (wait) => showNotice(`No connection to the service. Its work goes on; trying again in ${Math.max(1, Math.round(wait / 1000))} s.`),
      onBack: () => {
        clearBanner();
        announce("Connected again");
      },
    });
  }

  #progress({ method, stage, iteration, total, objective, relative_gap: gap }, methods) {
    if ($("cancel").disabled) return;
    const at = methods.indexOf(method);
    [...$("progress-steps").children].forEach((step, index) => {
      step.className = index < at ? "done" : index === at ? "now" : "";
    });
    const doing = stage && stage !== "iterate" ? `: ${stage}` : "";
    this.#show({
      title: `${label(method)}${doing}`,
      share: total ? iteration / total : null,
      count: total ? `${iteration} of ${total}` : iteration ? String(iteration) : "",
      objective,
      gap,
    });
    announce(`${label(method)}, ${total ? `${iteration} of ${total}` : "running"}`, 5000);
  }

  #begin(methods) {
    clearBanner();
    $("progress-steps").replaceChildren(...methods.map((name) => Object.assign(document.createElement("li"), { textContent: label(name) })));
    $("progress").hidden = false;
    $("welcome-ready").hidden = true;
    $("welcome-busy").hidden = false;
    $("run").hidden = true;
    $("cancel").hidden = false;
    this.#show({ title: "Sending the scan", share: null, count: "" });
    announce("Sending the scan");
  }

  #show({ title, share, count, objective = null, gap = null }) {
    $("progress-title").textContent = title;
    $("welcome-step").textContent = count ? `${title}, ${count}` : `${title}…`;
    $("progress-count").textContent = count;
    if (share === null) $("progress-bar").removeAttribute("value");
    else $("progress-bar").value = share;
    $("progress-objective").textContent = objective === null ? "–" : short(objective, 5);
    $("progress-gap").textContent = gap === null ? "–" : short(gap, 3);
  }

  #time() {
    $("progress-time").textContent = `${((performance.now() - this.started) / 1000).toFixed(1)} s`;
  }
}
