// Arrays out of a stored (not deflated) .npz: a zip of .npy files.
// Sources: PKWARE APPNOTE 6.3 (zip); NEP 1 (npy).

const END = 0x06054b50, CENTRAL = 0x02014b50, LOCAL = 0x04034b50;

/** Name (without .npy) to {shape, data} of every array in a stored zip. */
export function readNpz(buffer) {
  const view = new DataView(buffer);
  const end = endOfDirectory(view);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const arrays = new Map();
  for (let entry = 0; entry < count; entry += 1) {
    if (view.getUint32(at, true) !== CENTRAL) throw new Error("the zip's directory is damaged");
    const method = view.getUint16(at + 10, true);
    const packed = view.getUint32(at + 20, true), size = view.getUint32(at + 24, true);
    const nameLength = view.getUint16(at + 28, true);
    const rest = view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    const start = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, nameLength));
    if (method !== 0 || packed !== size) throw new Error(`${name} is compressed; expected a stored zip`);
    if (size === 0xffffffff || start === 0xffffffff) throw new Error(`${name} is larger than 4 GiB`);
    if (view.getUint32(start, true) !== LOCAL) throw new Error(`the zip's entry ${name} is damaged`);
    const content = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
    arrays.set(name.replace(/\.npy$/, ""), readNpy(buffer, content, size));
    at += 46 + nameLength + rest;
  }
  return arrays;
}

function endOfDirectory(view) {
  const first = Math.max(0, view.byteLength - 22 - 65535);
  for (let at = view.byteLength - 22; at >= first; at -= 1) {
    if (view.getUint32(at, true) === END) return at;
  }
  throw new Error("this is not a zip file, or it is cut short");
}

const READERS = {
  "<f4": (bytes) => new Float32Array(bytes),
  "<f8": (bytes) => Float32Array.from(new Float64Array(bytes)),
  "<f2": (bytes) => Float32Array.from(new Uint16Array(bytes), halfToNumber),
  "|u1": (bytes) => new Uint8Array(bytes),
  "|b1": (bytes) => new Uint8Array(bytes),
};

/** One array of a .npy that lies in `buffer` at `offset`. */
export function readNpy(buffer, offset = 0, length = buffer.byteLength) {
  const view = new DataView(buffer, offset, length);
  if (view.getUint32(0, false) !== 0x934e554d) throw new Error("this is not a .npy array");
  const wide = view.getUint8(6) >= 2;
  const headerLength = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const headerStart = wide ? 12 : 10;
  const header = new TextDecoder().decode(new Uint8Array(buffer, offset + headerStart, headerLength));
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const shapeText = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  const reader = READERS[descr];
  if (!reader || shapeText === undefined || /'fortran_order':\s*True/.test(header)) {
    throw new Error(`cannot show an array with the header ${header.trim()}`);
  }
  const shape = shapeText.split(",").map((text) => text.trim()).filter(Boolean).map(Number);
  const count = shape.reduce((product, n) => product * n, 1);
  const start = offset + headerStart + headerLength;
  const bytes = count * Number(descr.slice(2));
  if (start + bytes > offset + length) throw new Error("an array is cut short");
  return { shape, data: reader(buffer.slice(start, start + bytes)) };
}

/** IEEE 754 half precision. */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
