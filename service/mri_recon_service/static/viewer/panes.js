// The panel's tabs, and what stands in them about a result.

import { runs } from "./drawing.js";
import { $, make } from "./dom.js";
import { label, maskCaption, measured } from "./result.js";
import { short } from "./pixels.js";

const TABS = ["scan", "results", "sampling", "export"];

/** Make the tabs work, by pointer and by arrow keys. */
export function startTabs() {
  for (const name of TABS) {
    const tab = $(`tab-${name}`);
    tab.addEventListener("click", () => openTab(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const enabled = TABS.filter((one) => !$(`tab-${one}`).disabled);
      openTab(enabled[(enabled.indexOf(name) + step + enabled.length) % enabled.length], true);
    });
  }
}

export function openTab(name, focus = false) {
  for (const one of TABS) {
    const open = one === name, tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", String(open));
    tab.tabIndex = open ? 0 : -1;
    $(`pane-${one}`).hidden = !open;
    if (open && focus) tab.focus();
  }
}

export function enableTabs() {
  for (const name of TABS) $(`tab-${name}`).disabled = false;
}

/** Shows the warnings that all methods gave, above the images. */
export function fillShared(result) {
  const shared = result.sharedWarnings, line = $("shared-warnings");
  line.textContent = shared.length ? `⚠ ${shared.join(" ")}` : "";
  line.title = line.textContent;
  line.hidden = !shared.length;
}

/** Shows the metrics with their convention, and the information that each method gives. */
export function fillResults(result) {
  const rows = result.metadata.results;
  const best = (name, better) => (result.hasReference && rows.length > 1 ? better(...rows.map((row) => row[name] ?? Infinity)) : NaN);
  const top = { psnr: best("psnr", Math.max), ssim: best("ssim", Math.max), nmse: best("nmse", Math.min) };
  const cell = (row, name, text) => make("td", { className: row[name] === top[name] ? "best" : "" }, text);
  const table = make("table", {},
    make("caption", {}, "Metrics"),
    make("thead", {}, make("tr", {}, ...["Method", "PSNR dB", "SSIM", "NMSE", "Time"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => {
      const shown = measured(row);
      return make("tr", { "data-method": row.method }, make("th", { scope: "row" }, label(row.method)),
        cell(row, "psnr", shown.psnr), cell(row, "ssim", shown.ssim), cell(row, "nmse", shown.nmse), make("td", {}, shown.seconds));
    })));
  const convention = make("p", { className: "hint", id: "convention" },
    result.hasReference ? result.metadata.convention : "This scan has no reference, so nothing can be measured.");
  const remarks = [
    ...result.sharedWarnings.map((text) => remarkOf("All methods", { kind: "warning", text })),
    ...rows.flatMap((row) => result.remarks(row.method).map((remark) => remarkOf(label(row.method), remark))),
  ];
  $("pane-results").replaceChildren(table, convention,
    ...(remarks.length ? [make("h2", {}, "To know"), ...remarks] : []),
    make("h2", {}, "What the methods did"),
    ...rows.map((row) => make("details", { className: "more" }, make("summary", {}, label(row.method)), facts(flat(row.info)))));
}

function remarkOf(title, { kind, text }) {
  return make("div", { className: `note ${kind}` }, make("strong", {}, title), make("p", {}, text));
}

/** The mask as a strip and its receipt. */
export function fillSampling(result, store) {
  const receipt = result.receipt, canvas = make("canvas", { className: "strip", role: "img" });
  canvas.setAttribute("aria-label", `Sampling mask: ${maskCaption(receipt)}`);
  const pattern = result.mask.shape.length > 1;
  drawStrip(canvas, result, pattern);
  const lines = make("input", { type: "checkbox", id: "lines", checked: store.values.lines });
  lines.addEventListener("change", () => store.set({ lines: lines.checked }));
  const floor = make("select", { id: "floor" }, ...[-2, -3, -4, -5, -6].map((value) => make("option", { value }, `0 to ${value}`)));
  floor.value = String(store.values.floor);
  floor.addEventListener("change", () => store.set({ floor: Number(floor.value) }));
  const shown = { ...receipt };
  delete shown.lines;
  $("pane-sampling").replaceChildren(
    make("h2", {}, "Mask"), canvas,
    pattern ? null : make("p", { className: "legend" }, make("span", {}, "sampled column"), make("span", { className: "centre" }, "dense centre")),
    make("p", { id: "mask-caption" }, maskCaption(receipt)),
    make("h2", {}, "k-space"),
    make("label", { className: "check" }, lines, make("span", {}, "Mark what was sampled")),
    make("label", { className: "field" }, make("span", {}, "Grays"), floor),
    make("p", { className: "hint" }, "Decades below the maximum: log10 of the magnitude over all coils."),
    make("h2", {}, "Receipt"), facts(flat(shown)),
    receipt.lines ? make("details", { className: "more" }, make("summary", {}, `The ${receipt.num_lines} columns`), make("pre", { tabIndex: 0 }, receipt.lines.join(" "))) : "",
    result.metadata.provenance ? make("details", { className: "more" }, make("summary", {}, "Provenance"), make("pre", { tabIndex: 0 }, JSON.stringify(result.metadata.provenance, null, 1))) : "",
  );
}

function drawStrip(canvas, result, pattern) {
  const [height, width] = pattern ? result.mask.shape : [1, result.mask.shape[0]];
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("pattern", pattern);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  if (!pattern) {
    for (const run of runs(result)) {
      context.fillStyle = run.centre ? "#f0b35a" : "#58b8ff";
      context.fillRect(run.from, 0, run.length, 1);
    }
    return;
  }
  context.fillStyle = "#58b8ff";
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) if (result.sampled(row, column)) context.fillRect(column, row, 1, 1);
  }
}

function flat(info, prefix = "") {
  return Object.entries(info ?? {}).flatMap(([name, value]) => {
    const title = prefix + name.replaceAll("_", " ");
    if (value === null || (Array.isArray(value) && !value.length)) return [];
    if (Array.isArray(value)) return [[title, value.map(shownValue).join(", ")]];
    if (typeof value === "object") return flat(value, `${title}, `);
    return [[title, shownValue(value)]];
  });
}

function shownValue(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : short(value, 5);
}

function facts(pairs) {
  return make("dl", { className: "facts" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
