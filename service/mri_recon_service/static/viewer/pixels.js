// Numbers to gray and colour: windows, the difference, percentiles, scales that can be read.

// Inferno, 256 colours of 6 hexadecimal digits (S. van der Walt, N. Smith, 2015; CC0).
const INFERNO =
  "00000401000501010601010802010a02020c02020e03021004031204031405041706041907051b08051d09061f0a0722" +
  "0b07240c08260d08290e092b10092d110a30120a32140b34150b37160b39180c3c190c3e1b0c411c0c431e0c451f0c48" +
  "210c4a230c4c240c4f260c51280b53290b552b0b572d0b592f0a5b310a5c320a5e340a5f3609613809623909633b0964" +
  "3d09653e0966400a67420a68440a68450a69470b6a490b6a4a0c6b4c0c6b4d0d6c4f0d6c510e6c520e6d540f6d550f6d" +
  "57106e59106e5a116e5c126e5d126e5f136e61136e62146e64156e65156e67166e69166e6a176e6c186e6d186e6f196e" +
  "71196e721a6e741a6e751b6e771c6d781c6d7a1d6d7c1d6d7d1e6d7f1e6c801f6c82206c84206b85216b87216b88226a" +
  "8a226a8c23698d23698f24699025689225689326679526679727669827669a28659b29649d29649f2a63a02a63a22b62" +
  "a32c61a52c60a62d60a82e5fa92e5eab2f5ead305dae305cb0315bb1325ab3325ab43359b63458b73557b93556ba3655" +
  "bc3754bd3853bf3952c03a51c13a50c33b4fc43c4ec63d4dc73e4cc83f4bca404acb4149cc4248ce4347cf4446d04545" +
  "d24644d34743d44842d54a41d74b3fd84c3ed94d3dda4e3cdb503bdd513ade5238df5337e05536e15635e25734e35933" +
  "e45a31e55c30e65d2fe75e2ee8602de9612bea632aeb6429eb6628ec6726ed6925ee6a24ef6c23ef6e21f06f20f1711f" +
  "f1731df2741cf3761bf37819f47918f57b17f57d15f67e14f68013f78212f78410f8850ff8870ef8890cf98b0bf98c0a" +
  "f98e09fa9008fa9207fa9407fb9606fb9706fb9906fb9b06fb9d07fc9f07fca108fca309fca50afca60cfca80dfcaa0f" +
  "fcac11fcae12fcb014fcb216fcb418fbb61afbb81dfbba1ffbbc21fbbe23fac026fac228fac42afac62df9c72ff9c932" +
  "f9cb35f8cd37f8cf3af7d13df7d340f6d543f6d746f5d949f5db4cf4dd4ff4df53f4e156f3e35af3e55df2e661f2e865" +
  "f2ea69f1ec6df1ed71f1ef75f1f179f2f27df2f482f3f586f3f68af4f88ef5f992f6fa96f8fb9af9fc9dfafda1fcffa4";

/** 256 colours as little-endian RGBA words. */
export const GRAY = Uint32Array.from({ length: 256 }, (_, level) => 0xff000000 | (level * 0x010101));
export const FIRE = Uint32Array.from({ length: 256 }, (_, level) => {
  const [red, green, blue] = [0, 2, 4].map((at) => parseInt(INFERNO.slice(6 * level + at, 6 * level + at + 2), 16));
  return 0xff000000 | (blue << 16) | (green << 8) | red;
});

/** 256 levels of phase from -pi on, as grays: black at -180 degrees, white at 180. */
export const degrees = (level) => (level * 360) / 256 - 180;

/** A canvas of w x h pixels with value(i) of each pixel drawn between low and high; row 0 is at the top. */
export function paint(width, height, value, low, high, colours) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  const factor = high > low ? 255 / (high - low) : 0;
  for (let i = 0; i < words.length; i += 1) {
    const level = Math.round((value(i) - low) * factor);
    words[i] = colours[level > 0 ? (level < 255 ? level : 255) : 0];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * The q-th percentile of a Float32Array without negative values, with linear interpolation between neighbours, as
 * NumPy's default. Such floats have the order of their bits: only those that share the upper half of the bits with the
 * wanted ones are sorted, since a whole volume takes too long.
 */
export function percentile(values, q) {
  const at = (q / 100) * (values.length - 1), below = Math.floor(at), above = Math.min(below + 1, values.length - 1);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length), counts = new Uint32Array(1 << 16);
  for (let i = 0; i < words.length; i += 1) counts[words[i] >>> 16] += 1;
  let first = 0, before = 0;
  while (before + counts[first] <= below) {
    before += counts[first];
    first += 1;
  }
  let last = first, upTo = before + counts[first];
  while (upTo <= above) {
    last += 1;
    upTo += counts[last];
  }
  const near = values.filter((_, i) => words[i] >>> 16 >= first && words[i] >>> 16 <= last).sort();
  return near[below - before] + (at - below) * (near[above - before] - near[below - before]);
}

/** How many of the values lie in each of `bins` equal steps from 0 to `high`; larger ones count in the last. */
export function histogram(values, high, bins) {
  const counts = new Uint32Array(bins), factor = bins / (high || 1);
  for (let i = 0; i < values.length; i += 1) counts[Math.min(bins - 1, Math.max(0, Math.floor(values[i] * factor)))] += 1;
  return counts;
}

/** The largest of many values. */
export function maximum(values) {
  let largest = -Infinity;
  for (let i = 0; i < values.length; i += 1) if (values[i] > largest) largest = values[i];
  return largest;
}

/** The next number of the form 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((step) => value <= step * power * (1 + 1e-9));
}

/** A number with a fixed count of significant digits, and an exponent only where nothing else reads well. */
export function fixed(value, digits = 4) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 1);
  const text = value.toPrecision(digits);
  return text.includes("e") ? String(Math.round(value)) : text;
}

/** The same without zeros at the end. */
export function short(value, digits = 4) {
  const text = fixed(value, digits);
  return text.includes("e") ? text : text.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}
