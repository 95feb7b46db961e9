// What went wrong, in the viewer's words: what happened, what to do here, and a button that does it where there is one.

import { Problem, Unreachable } from "./api.js";

/** By the service's codes: a title, what to do, and the name of an action of the page. */
const WORDS = {
  "missing-mask": {
    title: "No mask is known for this scan",
    advice: "Under Sampling, choose “A mask file” and give the mask that it was sampled with, or count its zeros as not sampled.",
    action: "from-zeros",
  },
  "invalid-mask": {
    title: "This mask does not fit the scan",
    advice: "Change it under Sampling. A scan that is already undersampled takes its own mask, a mask file, or its zeros.",
  },
  "conflicting-masks": { title: "Two masks are set", advice: "Choose one of them under Sampling." },
  "invalid-file": { title: "This file cannot be read", advice: "Choose an undamaged file of k-space in one of the formats that the page lists." },
  "empty-file": { title: "This file is empty", advice: "Choose another one." },
  "images": {
    title: "This file holds images",
    advice: "The viewer needs raw k-space: the measured samples before any image, as the scanner or a research archive exports them.",
  },
  "unsupported-media-type": { title: "This is not a kind of file that can be read", advice: "Choose one of the formats that the page lists." },
  "invalid-kspace": { title: "The array is not k-space in this order", advice: "Name its axes under “How to read the file”." },
  "upload-too-large": { title: "The scan is larger than this service takes", advice: "Send fewer slices, or ask the operator for a higher limit." },
  "too-much-memory": { title: "This needs more memory than the service has", advice: "Choose fewer or smaller methods, or send fewer slices." },
  "invalid-option": { title: "An option has an impossible value", advice: "Correct it under Methods, Options." },
  "invalid-request": { title: "A setting has an impossible value", advice: "Correct it under Scan." },
  "busy": { title: "The service has too much work", advice: "Wait a little, then press Reconstruct again." },
  "timed-out": { title: "The reconstruction took too long", advice: "Choose faster methods, or send fewer slices." },
  "worker-lost": { title: "The reconstruction broke down", advice: "Send fewer slices; the operator’s log may say why." },
  "job-not-found": { title: "This run is not kept any more", advice: "It has expired or was deleted, or another key made it. Reconstruct again." },
  "result-expired": { title: "The images of this run have expired", advice: "Reconstruct again." },
  "job-cancelled": { title: "This run was cancelled", advice: "Reconstruct again if you want its images." },
  "storage-full": { title: "The service has no room for results", advice: "The operator must free space." },
  "unauthorized": { title: "This service asks for a key", advice: "Give a valid one when the page asks." },
};

/** The words for a code; files of images are a kind of their own. */
function ofKind(code, { detail }) {
  const isImage = code === "unsupported-media-type" && /got '?\.?(dcm|ima|nii|gz|png|jpe?g|tiff?|bmp|gif)\b/i.test(detail);
  return (isImage ? WORDS.images : WORDS[code]) ?? {};
}

/** Names of the interface, and what the page calls the same. */
const PLAIN = {
  center_fraction: "centre fraction", num_low_frequencies: "columns in the centre", acceleration: "acceleration", mask_kind: "mask",
  reg_weight: "regularisation weight", gap_tol: "stop at this gap", max_iters: "iterations at most", num_iters: "iterations",
  sens_maps: "sensitivity maps", num_virtual_coils: "virtual coils",
};

/** Stages of a method as one says them. */
const STAGES = { maps: "finding coil sensitivities", prepare: "preparing", holdout: "checking on lines held out" };

let fileName = null;

/** Errors call the scan by this name, not as the service does. */
export function callFile(name) {
  fileName = name;
}

/** The name of an option or of a stage in plain words. */
export function plainly(name) {
  return PLAIN[name] ?? STAGES[name] ?? name.replaceAll("_", " ");
}

/** A sentence of the service with the page's names for fields and for the file. */
export function inWords(text) {
  const named = text
    .replace("(center_fraction or num_low_frequencies)", "(centre fraction)")
    .replace(/'?\b([a-z]+_[a-z_]+)\b'?/g, (all, name) => PLAIN[name] ?? all);
  return fileName === null ? named : named.replace(/\bupload(\.[a-z0-9]+)+\b/g, () => fileName);
}

/** {title, detail, advice, action, readings, fields, request}: what a banner shows of an error; `readings` are axes to choose from. */
export function worded(error) {
  if (error instanceof Unreachable) {
    return { title: "No connection to the service", detail: error.message, advice: "Check that the service runs, then try again." };
  }
  if (!(error instanceof Problem)) return { title: error.title ?? "This cannot be done", detail: error.message };
  const { code, title, errors, request_id: request } = error.document, detail = inWords(error.document.detail), own = ofKind(code, error.document);
  const fields = (errors ?? []).map((one) => (typeof one === "string" ? one : `${one.field ?? (one.loc ?? []).join(".")}: ${one.message ?? one.msg ?? ""}`));
  const readings = [...detail.matchAll(/axes='([a-z ]+)'/g)].map(([, axes]) => axes);
  if (code === "invalid-file" && readings.length) {
    return { title: "What are the axes of this array?", advice: "The file does not say, and a guess would be wrong. Choose, or name them under “How to read the file”.", detail, fields, readings, request };
  }
  const zeros = code === "invalid-mask" && detail.includes("from-zeros");
  return { title, ...own, ...(zeros ? WORDS["missing-mask"] : {}), detail, fields, request };
}
