// A comparison, finished or not: arrays by name, what was measured, and the numbers that are drawn from them.

import { readNpz } from "./npz.js";
import { maximum, percentile, roundUp, short } from "./pixels.js";

const LABELS = {
  reference: "Reference",
  "zero-filled": "Zero-filled",
  "cg-sense": "CG-SENSE",
  "cs-wavelet": "CS wavelet",
  unet: "U-Net",
  unrolled: "Unrolled",
  auto: "Auto",
  trust: "Expected error (map of trust)",
};

/** What the map of trust shows, in the words of the library's figure. */
export const EXPECTED_ERROR = "expected error (bright: do not trust)";

/** How a method (or the reference) is called on the screen, as in the library's figures; "b/unet" is that of run B. */
export function label(id) {
  const [, run, name] = /^(?:([ab])\/)?(.*)$/.exec(id);
  return (run ? `${run.toUpperCase()} · ` : "") + (LABELS[name] ?? name);
}

/** A volume (slice, h, w): magnitudes, levels of phase, or a map. */
export class Volume {
  constructor({ shape, data }) {
    [this.slices, this.height, this.width] = shape;
    this.data = data;
    this.maximum = maximum(data);
    this.limits = new WeakMap();
  }

  /** The 99th percentile over all slices, computed when it is first asked for. */
  get bright() {
    this.percentile99 ??= percentile(this.data, 99);
    return this.percentile99;
  }

  slice(index) {
    const size = this.height * this.width;
    return this.data.subarray(index * size, (index + 1) * size);
  }
}

export class Result {
  constructor({ metadata, volumes, trust, phase, kspace, mask }) {
    Object.assign(this, { metadata, volumes, trust, phase, kspace, mask });
    const first = volumes.values().next().value ?? kspace;
    ({ slices: this.slices, height: this.height, width: this.width } = first);
  }

  /** A whole result, from the buffer of its npz. */
  static read(buffer) {
    return new Result(contentOf(readNpz(buffer), { volumes: new Map(), trust: new Map(), phase: new Map() }));
  }

  /** This result and what a part of its job brings: the methods come in the order in which they are done. */
  with(buffer) {
    const { volumes, trust, phase, kspace, mask, metadata } = this;
    const before = { volumes: new Map(volumes), trust: new Map(trust), phase: new Map(phase), kspace, mask, metadata };
    return new Result(contentOf(readNpz(buffer), before));
  }

  get ids() {
    return [...this.volumes.keys()];
  }

  /** What an image can be compared with: the others, or what its own map of trust allows. */
  get comparands() {
    return this.trust.size ? [...this.ids, "trust"] : this.ids;
  }

  get methods() {
    return this.metadata.results.map((row) => row.method);
  }

  get hasReference() {
    return this.volumes.has("reference");
  }

  get receipt() {
    return this.metadata.mask;
  }

  get geometry() {
    return this.metadata.geometry ?? null;
  }

  get simulated() {
    return Boolean(this.metadata.simulated);
  }

  /** Height of a pixel over its width. */
  get aspect() {
    const size = this.geometry?.voxel_size;
    return size ? size[0] / size[1] : 1;
  }

  row(method) {
    return this.metadata.results.find((row) => row.method === method);
  }

  /** Metrics of one slice of a method: {psnr, ssim, nmse}; null without a reference. */
  numbers(method, slice) {
    const all = this.metadata.slices?.[method];
    return all ? { psnr: all.psnr[slice], ssim: all.ssim[slice], nmse: all.nmse[slice] } : null;
  }

  /**
   * Where the usual window ends: the reference's 99th percentile over all slices, or the largest of the methods'. It is
   * one number for the scan, so that grays mean the same on every slice and for everyone who opens a link.
   */
  get usual() {
    return Math.max(0, ...this.#windowed.map((id) => this.volumes.get(id).bright)) || 1;
  }

  /** The largest magnitude of the images from which windows are taken. */
  get peak() {
    return Math.max(0, ...this.#windowed.map((id) => this.volumes.get(id).maximum)) || 1;
  }

  /** By what the shared window is multiplied for an image: its units differ only where two scans are shown. */
  gain() {
    return 1;
  }

  /** The result of the one run to which an image belongs. */
  runOf() {
    return this;
  }

  get #windowed() {
    return this.hasReference ? ["reference"] : this.ids;
  }

  /**
   * Pixel i of |image - other| in per cent of the other's maximum over the volume; of the map of trust, in per cent of
   * the reference's maximum, or of the image's where there is none.
   */
  difference(id, against, slice) {
    if (against === "trust") {
      const trust = this.trust.get(id).slice(slice);
      const share = 100 / (this.volumes.get(this.hasReference ? "reference" : id).maximum || 1);
      return (i) => trust[i] * share;
    }
    const image = this.volumes.get(id).slice(slice), other = this.volumes.get(against);
    const base = other.slice(slice), factor = 100 / (other.maximum || 1);
    return (i) => Math.abs(image[i] - base[i]) * factor;
  }

  /** Whether an image has a difference to this one, or a map of trust. */
  differs(id, against) {
    return against === "trust" ? this.trust.has(id) : id !== against && !/(^|\/)reference$/.test(id);
  }

  /**
   * The scale of differences over all slices, rounded up to be read: it shows all but 0.5 % of the pixels of the better
   * methods, those within twice the smallest such limit. A method far behind, as zero-filling often is, does not darken
   * the others.
   */
  differenceScale(against) {
    const limits = this.ids.filter((id) => this.differs(id, against)).map((id) => this.#limit(id, against)).filter((limit) => limit > 0);
    const least = Math.min(...limits);
    return roundUp(Math.max(0, ...limits.filter((limit) => limit <= 2 * least)));
  }

  /** The 99.5th percentile of a difference over all slices; kept, since images do not change. */
  #limit(id, against) {
    const { limits } = this.volumes.get(id), size = this.height * this.width;
    const other = against === "trust" ? this.trust.get(id) : this.volumes.get(against);
    if (!limits.has(other)) {
      const all = new Float32Array(this.slices * size);
      for (let slice = 0; slice < this.slices; slice += 1) {
        const value = this.difference(id, against, slice);
        for (let i = 0; i < size; i += 1) all[slice * size + i] = value(i);
      }
      limits.set(other, percentile(all, 99.5));
    }
    return limits.get(other);
  }

  /** Whether the mask took the sample at (row, column). */
  sampled(row, column) {
    const { shape, data } = this.mask;
    return data[shape.length === 1 ? column : row * shape[1] + column] > 0;
  }

  /** Warnings that every one of several methods gave: of the scan, its mask or the request. Said once, not by method. */
  get sharedWarnings() {
    const [first, ...others] = this.metadata.results.map((row) => row.info?.warnings ?? []);
    if (!others.length) return [];
    return [...new Set(first)].filter((text) => others.every((warnings) => warnings.includes(text)));
  }

  /** What must be said beside a method's image, without the shared warnings: {kind: "warning" | "info", text, short}. */
  remarks(method) {
    const info = this.row(method)?.info ?? {}, shared = this.sharedWarnings;
    const own = (info.warnings ?? []).filter((text) => !shared.includes(text));
    const remarks = own.map((text) => ({ kind: "warning", text }));
    if (info.holdout) remarks.push({ kind: "info", text: heldOut(info.holdout), short: heldOutShort(info.holdout) });
    if (info.auto) remarks.push({ kind: "info", text: `took ${info.auto.why}` });
    if (info.stop === "max_iters") {
      remarks.push({ kind: "info", text: `stopped at the limit of ${info.iterations} iterations, not converged` });
    }
    for (const text of [info.notes ?? []].flat()) remarks.push({ kind: "info", text: String(text) });
    return remarks;
  }
}

/** The arrays and the metadata of an npz, added to what was there before. */
function contentOf(arrays, before) {
  const { volumes, trust, phase } = before;
  const metadata = JSON.parse(new TextDecoder().decode(arrays.get("metadata").data));
  for (const [name, array] of arrays) {
    if (name === "reference") volumes.set(name, new Volume(array));
    const [, kind, method] = /^(image|trust|phase)\.(.*)$/.exec(name) ?? [];
    if (kind) ({ image: volumes, trust, phase })[kind].set(method, new Volume(array));
  }
  // The reference stands first, then the methods in their order.
  const rows = [...(before.metadata?.results ?? []), ...metadata.results];
  const order = ["reference", ...rows.map((row) => row.method)].filter((id) => volumes.has(id));
  return {
    volumes: new Map(order.map((id) => [id, volumes.get(id)])), trust, phase,
    kspace: arrays.has("kspace") ? new Volume(arrays.get("kspace")) : (before.kspace ?? null),
    mask: arrays.get("mask") ?? before.mask,
    metadata: {
      ...before.metadata, ...metadata, results: rows,
      slices: { ...before.metadata?.slices, ...metadata.slices },
    },
  };
}

/**
 * Two runs as one, their images "a/METHOD" and "b/METHOD". One reference stands for both where it is the same, and
 * then also for differences; without it each run has its own. Two scans (`sameScan` false, no common reference) have
 * each the window that it would have alone, its own geometry and mark, and no differences between them.
 */
export class Pair extends Result {
  constructor(a, b, { sameScan }) {
    const size = ({ slices, height, width }) => `${slices} x ${height} x ${width}`;
    if (size(a) !== size(b)) {
      throw new Error(`The runs have images of different sizes, ${size(a)} and ${size(b)} (slices x rows x columns). Open them in two tabs.`);
    }
    const same = a.hasReference && b.hasReference && equal(a.volumes.get("reference").data, b.volumes.get("reference").data);
    const merged = (name) => new Map([["a", a], ["b", b]].flatMap(([run, one]) =>
      [...one[name]].filter(([id]) => !(same && id === "reference")).map(([id, volume]) => [`${run}/${id}`, volume])));
    const volumes = merged("volumes");
    const rows = [["a", a], ["b", b]].flatMap(([run, one]) =>
      one.metadata.results.map((row) => ({ ...row, method: `${run}/${row.method}` })));
    const slices = Object.fromEntries([["a", a], ["b", b]].flatMap(([run, one]) =>
      Object.entries(one.metadata.slices ?? {}).map(([method, numbers]) => [`${run}/${method}`, numbers])));
    const geometry = JSON.stringify(a.geometry) === JSON.stringify(b.geometry) ? a.geometry : null;
    super({
      metadata: { ...a.metadata, results: rows, slices, geometry, simulated: a.simulated && b.simulated },
      volumes: same ? new Map([["reference", a.volumes.get("reference")], ...volumes]) : volumes,
      trust: merged("trust"), phase: merged("phase"), kspace: null, mask: a.mask,
    });
    this.runs = { a, b };
    this.apart = !sameScan && !same;
  }

  get usual() {
    const { a, b } = this.runs;
    return this.apart ? a.usual : Math.max(a.usual, b.usual);
  }

  get peak() {
    const { a, b } = this.runs;
    return this.apart ? a.usual * Math.max(a.peak / a.usual, b.peak / b.usual) : Math.max(a.peak, b.peak);
  }

  /** The taller of the shapes of both runs' pixels. */
  get aspect() {
    return Math.max(this.runs.a.aspect, this.runs.b.aspect);
  }

  gain(id) {
    const { a, b } = this.runs;
    return this.apart && id.startsWith("b/") ? b.usual / a.usual : 1;
  }

  runOf(id) {
    return this.runs[/^([ab])\//.exec(id)?.[1]] ?? (this.apart ? this : this.runs.a);
  }

  differs(id, against) {
    return super.differs(id, against) && (against === "trust" || !this.apart || id[0] === against[0]);
  }

  get sharedWarnings() {
    const own = ["a", "b"].map((run) => this.metadata.results.filter(({ method }) => method.startsWith(run)));
    const common = own.map((rows) => (rows[0]?.info?.warnings ?? []).filter((text) => rows.every((row) => row.info?.warnings?.includes(text))));
    return [...new Set(common[0])].filter((text) => common[1].includes(text));
  }
}

/** What grays are, in words: of two scans each has its own units. */
export function magnitudeText(result) {
  return result.apart ? `magnitude of A; of B × ${short(result.gain("b/"), 3)}` : "magnitude";
}

function equal(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

/** The hold-out check in one line, as the library's caption. */
function heldOut(report) {
  const count = report.held_lines === undefined ? `${report.held_samples} samples` : `${report.held_lines} lines`;
  const references = Object.entries(report.references).map(([name, one]) => `${label(name)} ${decibels(one.error_db)} dB`);
  return `hold-out check: error ${decibels(report.error_db)} ± ${decibels(report.uncertainty_db)} dB on ${count} it was not shown (0 dB: predicts nothing; lower is better; noise alone ${decibels(report.noise_floor_db)} dB; ${references.join(", ")})`;
}

function heldOutShort(report) {
  return `hold-out check: error ${decibels(report.error_db)} ± ${decibels(report.uncertainty_db)} dB (0 dB: predicts nothing; lower is better)`;
}

/** A figure in dB with one digit, never "-0.0". */
function decibels(value) {
  return value.toFixed(1).replace(/^-(0\.0)$/, "$1");
}

/** The three metrics and the time of a row as they are printed. */
export function measured(row) {
  const seconds = row.seconds === undefined ? "" : row.seconds >= 0.01 ? `${row.seconds.toFixed(2)} s` : "< 0.01 s";
  if (row.nmse === null && row.psnr === null && row.ssim === null) return { psnr: "–", ssim: "–", nmse: "–", seconds };
  return {
    psnr: row.psnr === null ? "∞" : row.psnr.toFixed(2),
    ssim: row.ssim === null ? "–" : row.ssim.toFixed(3),
    nmse: row.nmse === null ? "–" : row.nmse.toFixed(4),
    seconds,
  };
}

/** Whether a mask was guessed: nothing but the zeros of k-space says what was sampled. */
export function isFromZeros({ kind, source }) {
  return [kind, source].includes("from-zeros");
}

/** The mask in one line. */
export function maskCaption(receipt) {
  return `${samplingOf(receipt)}${isFromZeros(receipt) ? ", mask taken from zeros" : ""}`;
}

function samplingOf(receipt) {
  const realised = `R = ${receipt.realised_acceleration.toFixed(2)}`;
  if (receipt.kind === "pattern") return `2-D pattern, ${receipt.num_samples} samples, ${realised} achieved`;
  const asked = receipt.requested_acceleration;
  const centre = receipt.num_low_frequencies ? ` (${receipt.num_low_frequencies} in the centre)` : "";
  return `${receipt.num_lines} of ${receipt.support_width} columns${centre}, ` +
    (asked === null || asked === undefined ? `${realised} achieved` : `R = ${asked} requested, ${receipt.realised_acceleration.toFixed(2)} achieved`);
}
