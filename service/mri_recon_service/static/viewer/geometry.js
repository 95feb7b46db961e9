// Where the patient's sides are, and how long a millimetre is: only what the file states.

const OPPOSITE = { L: "R", R: "L", A: "P", P: "A", S: "I", I: "S" };

export const SIDES_NOTE = "Left and right, front and back are not verified for this kind of file, so no letters are shown: compare one image with the scanner’s own.";

/**
 * The letters at the edges of an image, {left, right, top, bottom}; null where the orientation is not known, or where
 * its signs are an assumption: then the image may be mirrored, and a letter would hide that.
 */
export function lettersOf(geometry) {
  if (!geometry?.toward || geometry.sides_assumed) return null;
  const [right, bottom] = geometry.toward;
  const opposite = (letters) => [...letters].map((one) => OPPOSITE[one]).join("");
  return { right, bottom, left: opposite(right), top: opposite(bottom) };
}

/** The longest bar of 1, 2 or 5 times a power of ten millimetres that takes at most `room` screen pixels. */
export function scaleBar(geometry, pixelsAColumn, room) {
  if (!geometry) return null;
  const perMillimetre = pixelsAColumn / geometry.voxel_size[1];
  const most = room / perMillimetre, power = 10 ** Math.floor(Math.log10(most));
  const length = power * ([5, 2, 1].find((step) => step * power <= most) ?? 1);
  return { pixels: length * perMillimetre, text: length >= 10 && length % 10 === 0 ? `${length / 10} cm` : `${Number(length.toPrecision(2))} mm` };
}
