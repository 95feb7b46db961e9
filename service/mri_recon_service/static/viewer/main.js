// The viewer, put together.

import { onKeyNeeded, followJob, request, upload } from "./api.js";
import { clearBanner, showError } from "./banner.js";
import { startControls } from "./controls.js";
import { $, announce, make, save } from "./dom.js";
import { pictureOf } from "./export.js";
import { Form } from "./form.js";
import { enableTabs, fillResults, fillSampling, fillShared, openTab, startTabs } from "./panes.js";
import { Result, label } from "./result.js";
import { NPZ, Run } from "./run.js";
import { Stage } from "./stage.js";
import { CENTRED, Store, viewOf } from "./store.js";

const THEME = "mri-recon-theme";
const FORMATS = [
  { suffix: ".h5", name: "HDF5", type: "application/x-hdf5" },
  { suffix: ".dcm.zip", name: "DICOM series", type: "application/zip" },
  { suffix: ".dcm", name: "DICOM, one file", type: "application/dicom" },
  { suffix: ".nii.gz", name: "NIfTI", type: "application/x-nifti" },
  { suffix: ".mrd", name: "ISMRMRD images", type: "application/x-mrd" },
  { suffix: ".mat", name: "MATLAB", type: "application/x-matlab-data" },
  { suffix: ".npy", name: "NumPy", type: "application/x-npy" },
];

const store = new Store({
  result: null, layout: "grid", tool: "pan", show: "image", smooth: true, showKspace: true, lines: true, floor: -4,
  scale: 1, scaleChoice: "auto", probe: null, ...CENTRED,
});
const stage = new Stage($("stage"), store), form = new Form(), run = new Run();
let notice = $("mark").textContent;

startTabs();
startControls(store, stage, { toggleTheme, openHelp: () => $("help").showModal() });
showTheme(localStorage.getItem(THEME) ?? "dark");
$("theme").addEventListener("click", toggleTheme);
$("help-open").addEventListener("click", () => $("help").showModal());
$("sample").addEventListener("click", takeSample);
$("welcome-sample").addEventListener("click", takeSample);
$("welcome-pick").addEventListener("click", () => $("file").click());
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  reconstruct();
});
$("save-png").addEventListener("click", async () => save(await pictureOf(store.values, stage.tiles, notice), `${stem()}.png`));
$("save-npz").addEventListener("click", () => save(new Blob([store.values.result.buffer], { type: NPZ }), `${stem()}.npz`));
$("save-json").addEventListener("click", () => {
  const text = JSON.stringify(store.values.result.metadata, null, 2);
  save(new Blob([text], { type: "application/json" }), `${stem()}.json`);
});
$("save-format").replaceChildren(...FORMATS.map(({ suffix, name }) => make("option", { value: suffix }, `${name} (${suffix})`)));
$("save-format").addEventListener("change", nameSaveButtons);
onKeyNeeded(askForKey);
acceptDrops();
start();

async function start() {
  try {
    notice = await form.load();
    $("mark").textContent = notice;
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

async function takeSample() {
  clearBanner();
  try {
    await form.takeSample();
    announce("The sample is chosen");
    $("run").focus();
  } catch (error) {
    showError(error);
  }
}

async function reconstruct() {
  if (run.busy) return;
  const missing = form.missing();
  if (missing) {
    showError(new Error(missing.text));
    missing.element?.focus();
    return;
  }
  const { file } = form, sent = form.data(), again = (method) => form.data({ only: method });
  try {
    const buffer = await run.compare(sent, form.chosen);
    if (buffer === null) {
      announce("Cancelled");
      return;
    }
    show(new Result(buffer), file, again);
  } catch (error) {
    showError(error);
  }
}

function show(result, file, again) {
  result.fileName = file.name;
  $("scan-name").textContent = file.name; // what is shown, whatever is chosen next
  for (const id of ["view", "tools", "status"]) $(id).hidden = false;
  $("welcome").hidden = true;
  store.set(viewOf(result, store.values));
  fillShared(result);
  fillResults(result);
  fillSampling(result, store);
  $("save-method").replaceChildren(...result.methods.map((method) => {
    const content = again(method); // as it was sent, whatever the form says later
    const button = make("button", { type: "button", onclick: () => saveMethod(method, content) });
    button.dataset.name = label(method);
    return button;
  }));
  nameSaveButtons();
  enableTabs();
  openTab("results");
  announce(`Done: ${result.methods.map(label).join(", ")}`);
}

function saveFormat() {
  return FORMATS.find(({ suffix }) => suffix === $("save-format").value) ?? FORMATS[0];
}

function nameSaveButtons() {
  for (const button of $("save-method").children) button.textContent = `${button.dataset.name} (${saveFormat().suffix})`;
}

async function saveMethod(method, content) {
  const say = (text) => ($("save-state").textContent = text);
  const { suffix, type } = saveFormat(), name = `${stem()}-${method}${suffix}`;
  say(`Reconstructing ${label(method)} for the file…`);
  try {
    const answer = await upload("v1/reconstructions", content, { headers: { Accept: type } });
    let { body } = answer;
    if (answer.status === 202) {
      const job = JSON.parse(await body.text()), ignore = () => {};
      await followJob(job.id, { onStatus: ignore, onProgress: ignore, onLost: ignore, onBack: ignore });
      body = await (await request(`v1/jobs/${job.id}/result`, { headers: { Accept: type } })).blob();
    }
    save(body, name);
    say(`${name} is saved.`);
  } catch (error) {
    say("");
    showError(error);
  }
}

function stem() {
  return (store.values.result.fileName ?? "scan").replace(/\.[^.]+$/, "") || "scan";
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

function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, theme);
  showTheme(theme);
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme === "light" ? "light" : "dark";
  $("theme").textContent = theme === "light" ? "Dark" : "Light";
}
