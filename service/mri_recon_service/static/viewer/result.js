// A finished comparison: arrays by name, what was measured, and the numbers that are drawn from them.

import { readNpz } from "./npz.js";
import { maximum, percentile, roundUp } from "./pixels.js";

const LABELS = {
  reference: "Reference",
  "zero-filled": "Zero-filled",
  "cg-sense": "CG-SENSE",
  "cs-wavelet": "CS wavelet",
  unet: "U-Net",
  unrolled: "Unrolled",
  auto: "Auto",
  trust: "Map of trust",
};

/** How a method (or the reference) is called on the screen, as in the library's figures. */
export function label(id) {
  return LABELS[id] ?? id;
}

/** A volume (slice, h, w) of magnitudes. */
class Volume {
  constructor({ shape, data }) {
    [this.slices, this.height, this.width] = shape;
    this.data = data;
    this.maximum = maximum(data);
  }

  slice(index) {
    const size = this.height * this.width;
    return this.data.subarray(index * size, (index + 1) * size);
  }
}

export class Result {
  constructor(buffer) {
    const arrays = readNpz(buffer);
    this.buffer = buffer;
    this.metadata = JSON.parse(new TextDecoder().decode(arrays.get("metadata").data));
    this.volumes = new Map();
    this.trust = new Map();
    if (arrays.has("reference")) this.volumes.set("reference", new Volume(arrays.get("reference")));
    for (const row of this.metadata.results) {
      this.volumes.set(row.method, new Volume(arrays.get(`image.${row.method}`)));
      const trust = arrays.get(`trust.${row.method}`);
      if (trust) this.trust.set(row.method, new Volume(trust));
    }
    this.kspace = arrays.has("kspace") ? new Volume(arrays.get("kspace")) : null;
    this.mask = arrays.get("mask");
    const first = this.volumes.values().next().value;
    ({ slices: this.slices, height: this.height, width: this.width } = first);
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

  row(method) {
    return this.metadata.results.find((row) => row.method === method);
  }

  /** The usual window of a slice: 0 to the reference's 99th percentile, or to the largest of the methods'. */
  window(slice) {
    const shown = this.hasReference ? ["reference"] : this.ids;
    const high = Math.max(...shown.map((id) => percentile(this.volumes.get(id).slice(slice), 99)));
    return { low: 0, high: high || 1 };
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
    return against === "trust" ? this.trust.has(id) : id !== against && id !== "reference";
  }

  /** The scale of differences that shows all but 0.5 % of the pixels of every method, rounded up to be read. */
  differenceScale(against, slice) {
    const size = this.height * this.width;
    const limits = this.ids.filter((id) => this.differs(id, against)).map((id) => {
      const value = this.difference(id, against, slice);
      return percentile(Float32Array.from({ length: size }, (_, i) => value(i)), 99.5);
    });
    return roundUp(Math.max(0, ...limits));
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

  /** What must be said beside a method's image, without the shared warnings: {kind: "warning" | "info", text}. */
  remarks(method) {
    const info = this.row(method)?.info ?? {}, shared = this.sharedWarnings;
    const own = (info.warnings ?? []).filter((text) => !shared.includes(text));
    const remarks = own.map((text) => ({ kind: "warning", text }));
    if (info.holdout) remarks.push({ kind: "info", text: heldOut(info.holdout) });
    if (info.auto) remarks.push({ kind: "info", text: `took ${info.auto.why}` });
    if (info.stop === "max_iters") {
      remarks.push({ kind: "info", text: `stopped at the limit of ${info.iterations} iterations, not converged` });
    }
    for (const text of [info.notes ?? []].flat()) remarks.push({ kind: "info", text: String(text) });
    return remarks;
  }
}

/** The hold-out check in one line, as the library's caption. */
function heldOut(report) {
  const count = report.held_lines === undefined ? `${report.held_samples} samples` : `${report.held_lines} lines`;
  const references = Object.entries(report.references).map(([name, one]) => `${label(name)} ${one.error_db.toFixed(1)} dB`);
  return `hold-out check: error ${report.error_db.toFixed(1)} ± ${report.uncertainty_db.toFixed(1)} dB on ${count} it was not shown (0 dB: predicts nothing; noise alone ${report.noise_floor_db.toFixed(1)} dB; ${references.join(", ")})`;
}

/** "28.95 dB" and its like: the three metrics and the time of a row as they are printed. */
export function measured(row) {
  const seconds = row.seconds >= 0.01 ? `${row.seconds.toFixed(2)} s` : "< 0.01 s";
  if (row.nmse === null) return { psnr: "–", ssim: "–", nmse: "–", seconds };
  return {
    psnr: row.psnr === null ? "∞" : row.psnr.toFixed(2),
    ssim: row.ssim.toFixed(3),
    nmse: row.nmse.toFixed(4),
    seconds,
  };
}

/** The mask in one line. */
export function maskCaption(receipt) {
  const realised = `R = ${receipt.realised_acceleration.toFixed(2)}`;
  if (receipt.kind === "pattern") return `2-D pattern, ${receipt.num_samples} samples, ${realised} realised`;
  const asked = receipt.requested_acceleration;
  const centre = receipt.num_low_frequencies ? ` (${receipt.num_low_frequencies} in the centre)` : "";
  return `${receipt.num_lines} of ${receipt.support_width} columns${centre}, ` +
    (asked === null || asked === undefined ? `${realised} realised` : `R = ${asked} asked, ${receipt.realised_acceleration.toFixed(2)} realised`);
}
