// The panel's tabs, and what stands in them about a result.

import { drawStrip } from "./drawing.js";
import { $, make } from "./dom.js";
import { SIDES_NOTE } from "./geometry.js";
import { label, maskCaption, measured } from "./result.js";
import { short } from "./pixels.js";

const TABS = ["images", "scan", "results", "runs", "export"];

/** Make the tabs work, by pointer and by arrow keys. `opened(name)` is called when one is opened. */
export function startTabs(opened) {
  for (const name of TABS) {
    const tab = $(`tab-${name}`);
    tab.addEventListener("click", () => {
      openTab(name);
      opened(name);
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const enabled = TABS.filter((one) => !$(`tab-${one}`).disabled && $(`tab-${one}`).offsetParent);
      const next = enabled[(enabled.indexOf(name) + step + enabled.length) % enabled.length];
      openTab(next, true);
      opened(next);
    });
  }
}

/** Open a part of the panel; on a telephone the images are one of the parts, beside the others otherwise. */
export function openTab(name, focus = false) {
  const narrow = $("tab-images").offsetParent !== null;
  document.body.dataset.view = name;
  const selected = name === "images" && !narrow ? "scan" : name;
  for (const one of TABS) {
    const open = one === selected, tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", String(open));
    tab.tabIndex = open ? 0 : -1;
    if (one !== "images") $(`pane-${one}`).hidden = !open && !(name === "images" && one === lastPane);
    if (open && focus) tab.focus();
  }
  if (name !== "images") lastPane = name;
}

let lastPane = "scan";

/** Show the images where there is room for one part only. */
export function showImages() {
  if ($("tab-images").offsetParent !== null) openTab("images");
}

export function enableTabs() {
  for (const name of TABS) $(`tab-${name}`).disabled = false;
}

/** Shows the warnings that all methods gave, and what the page itself has to say, above the images. */
export function fillShared(result, own = []) {
  const shared = [...own, ...result.sharedWarnings], line = $("shared-warnings");
  line.textContent = shared.length ? `⚠ ${shared.join(" ")}` : "";
  line.title = line.textContent;
  line.hidden = !shared.length;
}

/** Shows the metrics with their convention, the mask, and the information that each method gives. */
export function fillResults(result, store) {
  const rows = result.metadata.results, { slice } = store.values;
  const columns = ["Method", "PSNR dB", "SSIM", "NMSE"];
  const head = (names) => make("thead", {}, make("tr", {}, ...names.map((text) => make("th", { scope: "col" }, text))));
  const cells = (shown) => [shown.psnr, shown.ssim, shown.nmse].map((text) => make("td", {}, text));
  const table = make("table", { id: "metrics" }, make("caption", {}, result.slices > 1 ? `All ${result.slices} slices` : "Metrics"), head([...columns, "Time"]),
    make("tbody", {}, ...rows.map((row) => {
      const shown = measured(row);
      return make("tr", { "data-method": row.method }, make("th", { scope: "row" }, label(row.method)), ...cells(shown), make("td", {}, shown.seconds));
    })));
  const bySlice = result.hasReference && result.slices > 1 && rows.some((row) => result.numbers(row.method, slice))
    ? make("table", { id: "slice-metrics" }, make("caption", {}, `Slice ${slice + 1} alone`), head(columns),
      make("tbody", {}, ...rows.map((row) => make("tr", { "data-slice-method": row.method }, make("th", { scope: "row" }, label(row.method)), ...cells(measured(result.numbers(row.method, slice) ?? row))))))
    : "";
  const convention = make("p", { className: "hint", id: "convention" },
    result.hasReference ? result.metadata.convention : "This scan has no reference, so nothing can be measured.");
  const caution = result.hasReference && rows.length
    ? make("p", { className: "hint" }, "No number sees whether a structure is missing or invented: compare the images, and the differences.") : "";
  const remarks = [
    ...result.sharedWarnings.map((text) => remarkOf("All methods", { kind: "warning", text })),
    ...(result.geometry?.sides_assumed ? [remarkOf("Orientation", { kind: "warning", text: SIDES_NOTE })] : []),
    ...rows.flatMap((row) => result.remarks(row.method).map((remark) => remarkOf(label(row.method), remark))),
  ];
  $("pane-results").replaceChildren(table, bySlice, convention, caution,
    ...(remarks.length ? [make("h2", {}, "To know"), ...remarks] : []),
    ...(result.runs ? [...sampling(result.runs.a, store, "Mask of A"), ...sampling(result.runs.b, store, "Mask of B")] : [...sampling(result, store, "Mask"), ...ofKspace(result, store)]),
    ...(rows.length ? [make("h2", {}, "What the methods did")] : []),
    ...rows.map((row) => make("details", { className: "more" }, make("summary", {}, label(row.method)), facts(flat(row.info)))),
    result.metadata.provenance && !result.runs ? make("details", { className: "more" }, make("summary", {}, "Provenance"), make("pre", { tabIndex: 0 }, JSON.stringify(result.metadata.provenance, null, 1))) : "",
  );
}

function remarkOf(title, { kind, text }) {
  return make("div", { className: `note ${kind}` }, make("strong", {}, title), make("p", {}, text));
}

/** The mask as a strip and its receipt. */
function sampling(result, store, title) {
  const receipt = result.receipt, canvas = make("canvas", { className: "strip mask-strip", role: "img" });
  canvas.setAttribute("aria-label", `Sampling mask: ${maskCaption(receipt)}`);
  drawStrip(canvas, result);
  const shown = { ...receipt };
  delete shown.lines;
  return [
    make("h2", {}, title), canvas,
    result.mask.shape.length > 1 ? "" : make("p", { className: "legend" }, make("span", {}, "sampled column"), make("span", { className: "centre" }, "dense centre")),
    make("p", { className: "mask-caption" }, maskCaption(receipt)),
    make("details", { className: "more" }, make("summary", {}, "Receipt"), facts(flat(shown)),
      receipt.lines ? make("pre", { tabIndex: 0 }, receipt.lines.join(" ")) : ""),
  ];
}

function ofKspace(result, store) {
  if (!result.kspace) return [];
  const lines = make("input", { type: "checkbox", id: "lines", checked: store.values.lines });
  lines.addEventListener("change", () => store.set({ lines: lines.checked }));
  const floor = make("select", { id: "floor" }, ...[-2, -3, -4, -5, -6].map((value) => make("option", { value }, `0 to ${value}`)));
  floor.value = String(store.values.floor);
  floor.addEventListener("change", () => store.set({ floor: Number(floor.value) }));
  return [
    make("h2", {}, "k-space"),
    make("label", { className: "check" }, lines, make("span", {}, "Mark what was sampled")),
    make("label", { className: "field" }, make("span", {}, "Grays"), floor),
    make("p", { className: "hint" }, "Decades below the maximum: log10 of the magnitude over all coils. It is always shown whole."),
  ];
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
