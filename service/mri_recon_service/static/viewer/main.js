// The viewer, put together.

import { onKeyNeeded, request } from "./api.js";
import { clearBanner, offerAction, showError, showNotice } from "./banner.js";
import { Card } from "./card.js";
import { startControls, takePreset } from "./controls.js";
import { $, announce, make, save } from "./dom.js";
import { startDrawers } from "./drawers.js";
import { pictureOf } from "./export.js";
import { Form } from "./form.js";
import { linkOf, readLink, viewFrom } from "./link.js";
import { enableTabs, fillResults, fillShared, openTab, showImages, startTabs } from "./panes.js";
import { Pair, Result, isFromZeros, label } from "./result.js";
import { NPZ, Run } from "./run.js";
import { Runs, askedOf, nameOf, rememberName } from "./runs.js";
import { Stage } from "./stage.js";
import { NOTHING, Store, gainOf, viewOf } from "./store.js";

const THEME = "mri-recon-theme", LINK_MS = 250;
const FORMATS = [
  { suffix: ".h5", name: "HDF5" },
  { suffix: ".dcm.zip", name: "DICOM series" },
  { suffix: ".dcm", name: "DICOM, one file" },
  { suffix: ".nii.gz", name: "NIfTI" },
  { suffix: ".mrd", name: "ISMRMRD images" },
  { suffix: ".mat", name: "MATLAB" },
];

const store = new Store(NOTHING);
const stage = new Stage($("stage"), store);
const form = new Form((what) => {
  card.changed(what);
  showStale();
});
const card = new Card(form);
const run = new Run({ part: showPart, done: showDone, stopped: showStopped });
const runs = new Runs({ open: (job) => openRun(job.id), beside: (job) => openBeside(job.id), shown: () => store.values });
/** What is shown: the document of its job, what it was asked for, its file, and of two runs the first alone. */
let shown = { job: null, asked: null, file: null, name: "", result: null };
let second = null;
let pendingView = null;
let notice = $("mark").textContent;
let linkTimer = null;

startTabs((name) => name === "runs" && runs.refresh());
startControls(store, stage, { toggleTheme, openHelp: () => $("help").showModal() });
startDrawers(store);
showTheme(localStorage.getItem(THEME) ?? "dark");
$("theme").addEventListener("click", toggleTheme);
$("help-open").addEventListener("click", () => $("help").showModal());
$("sample").addEventListener("click", openSample);
$("welcome-sample").addEventListener("click", openSample);
$("welcome-pick").addEventListener("click", () => $("file").click());
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  reconstruct();
});
$("save-png").addEventListener("click", async () => save(await pictureOf({ ...store.values, name: $("scan-name").textContent, remarks: remarks() }, stage.tiles, notice), `${stem()}.png`));
$("save-npz").addEventListener("click", saveArrays);
$("save-json").addEventListener("click", () => {
  const text = JSON.stringify(store.values.result.metadata, null, 2);
  save(new Blob([text], { type: "application/json" }), `${stem()}.json`);
});
$("save-format").addEventListener("change", nameSaveButtons);
offerAction("from-zeros", "Count zeros as not sampled", () => {
  form.setMask("from-zeros");
  reconstruct();
});
offerAction("axes", "", (axes) => {
  form.setAxes(axes);
  reconstruct();
});
onKeyNeeded(askForKey);
acceptDrops();
store.subscribe((changed, state) => {
  if (changed.has("slice") && state.result && !changed.has("result")) fillResults(state.result, store);
  clearTimeout(linkTimer);
  linkTimer = setTimeout(writeLink, LINK_MS);
});
window.addEventListener("hashchange", () => {
  const link = readLink(location.hash);
  if (link && (link.run !== store.values.job || link.beside !== store.values.beside)) followLink(link);
});
start();

async function start() {
  try {
    notice = await form.load();
    $("mark").textContent = notice;
    offerFormats();
    const link = readLink(location.hash);
    if (link) await followLink(link);
  } catch (error) {
    showError(error);
    const again = () => {
      clearBanner();
      start();
    };
    $("methods").replaceChildren(make("p", { className: "hint" }, "The service's methods are not known."),
      make("button", { type: "button", onclick: again }, "Ask again"));
  }
}

/** The sample, reconstructed at once. The service keeps its result: opened again, nothing is computed twice. */
async function openSample() {
  if (run.busy) return;
  clearBanner();
  try {
    if (!form.file?.sample) await form.takeSample();
    await reconstruct({ keep: true });
  } catch (error) {
    showError(error);
  }
}

async function reconstruct({ keep = false } = {}) {
  if (run.busy) return;
  const missing = form.missing();
  if (missing) {
    openTab("scan");
    showError(Object.assign(new Error(missing.text), { title: "Something is missing" }));
    missing.element?.focus();
    return;
  }
  card.stop();
  const fields = form.fields(), { file } = form;
  shown = { ...shown, next: { asked: askedNow(), file: file.blob, name: file.name } };
  pendingView = null;
  showImages();
  const key = keep && form.catalogue ? `sample-${hashOf(form.catalogue + JSON.stringify(fields))}` : null;
  try {
    await run.compare(form.data(fields), form.chosen, { seconds: card.seconds, key });
  } catch (error) {
    // The kept run of the sample may have been cancelled, have failed or expired.
    const gone = ["job-cancelled", "result-expired", "worker-lost", "timed-out", "job-not-found"].includes(error.document?.code);
    if (key && gone) await reconstruct();
    else showError(error);
  }
}

/** Open a run that the service keeps, or follow one that is not done. */
async function openRun(id, view = null) {
  if (run.busy) {
    showNotice("A run goes on. Cancel it, or wait for its end, before another one is opened.");
    return;
  }
  clearBanner();
  try {
    const job = await (await request(`v1/jobs/${id}`)).json();
    if (job.kind !== "comparison") throw Object.assign(new Error("This run is of one method: fetch its file from the service."), { title: "This run has no comparison" });
    form.restore(job.request.fields);
    pendingView = view;
    shown = { ...shown, next: { asked: askedNow(), file: null, name: nameOf(job) } };
    showImages();
    await run.attach(job);
  } catch (error) {
    writeLink(); // the address names what is shown, not what could not be opened
    showError(error);
  }
}

async function openBeside(id, view = null) {
  clearBanner();
  try {
    const job = await (await request(`v1/jobs/${id}`)).json();
    const response = await request(`v1/jobs/${id}/result`, { headers: { Accept: NPZ } });
    const pair = new Pair(shown.result, Result.read(await response.arrayBuffer()), { sameScan: isSameScan(job) });
    second = { job, name: nameOf(job) };
    store.set({ ...viewOf(pair, { ...store.values, layout: "grid" }), beside: id, waiting: new Map() });
    if (view) applyView(view);
    fill();
    showImages();
    runs.show();
    announce(`A: ${shown.name}, B: ${second.name}`);
  } catch (error) {
    showError(error);
  }
}

async function followLink({ run: id, beside, view }) {
  await openRun(id, beside ? null : view);
  if (beside && store.values.job === id) await openBeside(beside, view);
}

function showPart(result, job, waiting) {
  begin(job);
  if (store.values.result === result) store.set({ waiting });
  else {
    store.set({ ...viewOf(result, store.values), job: job.id, beside: null, waiting });
    fill();
  }
}

function showDone(result, job) {
  begin(job);
  shown = { ...shown, job, result };
  store.set({ ...viewOf(result, store.values), job: job?.id ?? null, beside: null, waiting: new Map() });
  if (pendingView) applyView(pendingView);
  pendingView = null;
  fill();
  enableTabs();
  $("save-method").replaceChildren(...(job ? result.methods : []).map((method) => {
    const button = make("button", { type: "button", onclick: () => saveMethod(job, method) });
    button.dataset.name = label(method);
    return button;
  }));
  nameSaveButtons();
  if (document.body.dataset.view === "scan") openTab("results");
  if (document.body.dataset.view === "runs") runs.refresh();
  card.resume();
  announce(`Done: ${result.methods.map(label).join(", ")}`);
}

/** A run that was cancelled or failed: what was done of it stays, and says so. */
function showStopped(job) {
  store.set({ waiting: new Map() });
  card.resume();
  if (!job || store.values.job !== job.id) return;
  store.set({ job: null });
  fill();
  showNotice("The run was stopped. The images that were done are shown; they cannot be opened again.");
}

/** The first images of a run take the place of the former ones, under the name of their own scan. */
function begin(job) {
  if (!shown.next) return;
  const { asked, file, name } = shown.next;
  shown = { job, asked, file, name, result: null };
  second = null;
  if (job?.request && file) rememberName(job.request.sha256, name);
  for (const id of ["view", "tools", "status"]) $(id).hidden = false;
  $("welcome").hidden = true;
  enableTabs();
  $("save-method").replaceChildren();
}

function fill() {
  const { result, beside } = store.values;
  const named = (one) => `${one.name}${one.job?.request ? `, ${askedOf(one.job.request.fields)}` : ""}`;
  $("scan-name").textContent = beside && second ? `A: ${named(shown)} · B: ${named(second)}` : shown.name; // what is shown, whatever is chosen next
  $("scan-name").title = $("scan-name").textContent;
  // Where the head of the page has no room for it, for two runs, and beside another scan, it stands above the images.
  $("shown-line").hidden = false;
  fillShared(result, remarks());
  fillResults(result, store);
  const whole = shown.result !== null && store.values.job !== null && !beside;
  $("save-run").hidden = !whole;
  $("save-pair").hidden = whole;
  $("save-pair").textContent = beside ? "Two runs are shown. Open one of them to save its files." : "Only the picture can be saved: this run has no kept result.";
  showStale();
}

/** What the page itself has to say about what is shown. */
function remarks() {
  const { beside, result } = store.values;
  const masks = result.runs ? [["A: ", result.runs.a], ["B: ", result.runs.b]] : [["", result]];
  return [
    ...(beside && second && !isSameScan(second.job) ? ["A and B are different scans: each has its own window."] : []),
    ...masks.filter(([, one]) => isFromZeros(one.receipt)).map(([run]) => `${run}Mask taken from zeros: a sample of k-space that is zero counts as not measured.`),
  ];
}

/** Whether a job is of the scan that is shown. */
function isSameScan(job) {
  return job.request.sha256 === shown.job?.request?.sha256;
}

function applyView(query) {
  const { preset, ...view } = viewFrom(query, store.values.result);
  store.set(view);
  if (preset) takePreset(store, preset);
  if (view.scaleChoice?.startsWith("auto")) {
    const { result, against } = store.values;
    store.set({ scale: result.differenceScale(against) / gainOf(view.scaleChoice) });
  }
}

function askedNow() {
  return JSON.stringify([form.fields(), $("mask-kind").value === "upload" ? ($("mask-file").files[0]?.name ?? "") : ""]);
}

/** Whether the images were made as the form says now. */
function showStale() {
  // Of a run that was opened from the list or by a link, the file is not here: its name is all that can be compared.
  const other = form.file !== null && (shown.file === null ? form.file.name !== shown.name : form.file.blob !== shown.file);
  const differs = shown.asked !== null && store.values.result !== null && !run.busy && (other || shown.asked !== askedNow());
  $("stale").hidden = !differs;
  $("stale").textContent = other ? `The images shown are of ${shown.name}.` : "The images shown were made with other settings.";
  const two = Boolean(store.values.beside && second), line = $("shown-line"), another = differs && other;
  line.textContent = another ? `Shown: ${$("scan-name").textContent}. Chosen, not reconstructed yet: ${form.file.name}.` : $("scan-name").textContent;
  line.classList.toggle("always", two || another);
  document.body.classList.toggle("is-stale", differs);
}

function writeLink() {
  if (run.busy && !store.values.job) return;
  const link = linkOf(store.values), here = location.hash;
  if (link !== here && (link || store.values.result)) history.replaceState(null, "", link || location.pathname + location.search);
}

/** Only what this service can write can be chosen; for the rest the page says what is missing. */
function offerFormats() {
  const known = FORMATS.map((one) => ({ ...one, ...form.formats.find(({ suffix }) => suffix === one.suffix) })).filter((one) => one.media_type);
  $("save-format").replaceChildren(...known.map(({ suffix, name, media_type: type, available, needs }) => {
    const option = make("option", { value: suffix, disabled: !available }, `${name} (${suffix})${available ? "" : `: needs ${needs} on the server`}`);
    option.dataset.type = type;
    return option;
  }));
  const missing = known.filter(({ available }) => !available), cures = [...new Set(missing.map(({ needs }) => needs))];
  $("save-needs").hidden = !missing.length;
  $("save-needs").textContent = `${missing.map(({ suffix }) => suffix).join(", ")}: needs ${cures.join(", ")} on the server.`;
  nameSaveButtons();
}

function saveFormat() {
  const chosen = $("save-format").selectedOptions[0];
  return { suffix: chosen?.value ?? "", type: chosen?.dataset.type ?? "" };
}

function nameSaveButtons() {
  for (const button of $("save-method").children) button.textContent = `${button.dataset.name} (${saveFormat().suffix})`;
}

async function saveMethod(job, method) {
  const say = (text) => ($("save-state").textContent = text);
  const { suffix, type } = saveFormat(), name = `${stem()}-${method}${suffix}`;
  say(`Fetching ${label(method)}…`);
  try {
    const answer = await request(`v1/jobs/${job.id}/methods/${encodeURIComponent(method)}`, { headers: { Accept: type } });
    const left = answer.headers.get("X-Left-Out");
    save(await answer.blob(), name);
    say(`${name} is saved.${left ? ` ${left}` : ""}`);
  } catch (error) {
    say("");
    showError(error);
  }
}

async function saveArrays() {
  const { job } = store.values;
  try {
    const answer = await request(`v1/jobs/${job}/result`, { headers: { Accept: NPZ } });
    save(await answer.blob(), `${stem()}.npz`);
  } catch (error) {
    showError(error);
  }
}

function stem() {
  return (shown.name || "scan").replace(/\.[^.]+$/, "") || "scan";
}

function acceptDrops() {
  let depth = 0;
  const show = (step) => {
    depth = Math.max(0, step === null ? 0 : depth + step);
    $("dropping").hidden = depth === 0;
  };
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragenter", (event) => carriesFile(event) && show(1));
  window.addEventListener("dragleave", (event) => carriesFile(event) && show(-1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    show(null);
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    form.take(file);
    openTab("scan");
    clearBanner();
    announce(`${file.name} is chosen`);
  });
}

function askForKey(problem) {
  const dialog = $("key");
  $("key-detail").textContent = problem.document.detail;
  $("key-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? $("key-value").value.trim() : null), { once: true });
  });
}

/** A short checksum of a text (FNV-1a, twice 32 bits): it names the kept run of the sample, and guards nothing. */
function hashOf(text) {
  const hash = (seed) => [...text].reduce((sum, one) => Math.imul(sum ^ one.codePointAt(0), 16777619) >>> 0, seed);
  return [2166136261, 40389].map((seed) => hash(seed).toString(16).padStart(8, "0")).join("");
}

function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, theme);
  showTheme(theme);
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme === "light" ? "light" : "dark";
  $("theme").textContent = theme === "light" ? "Dark" : "Light";
}
