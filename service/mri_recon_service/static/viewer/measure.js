// Regions, lines and distances on an image: pure numbers, of values that a function gives for a pixel.

/**
 * A mark has two corners in pixels of the image, whose pixel (row, column) covers [column, column + 1) x [row, row + 1):
 * {kind: "line" | "ellipse", a: {x, y}, b: {x, y}}.
 */
export function isSmall({ a, b }) {
  return Math.hypot(a.x - b.x, a.y - b.y) < 0.75;
}

/** Indices of the pixels whose centres lie in the ellipse between two corners. */
export function pixelsInside({ a, b }, width, height) {
  const [cx, cy] = [(a.x + b.x) / 2, (a.y + b.y) / 2], [rx, ry] = [Math.abs(a.x - b.x) / 2, Math.abs(a.y - b.y) / 2];
  const found = [];
  const rows = [Math.max(0, Math.floor(cy - ry)), Math.min(height - 1, Math.ceil(cy + ry))];
  const columns = [Math.max(0, Math.floor(cx - rx)), Math.min(width - 1, Math.ceil(cx + rx))];
  for (let row = rows[0]; row <= rows[1]; row += 1) {
    for (let column = columns[0]; column <= columns[1]; column += 1) {
      const [x, y] = [(column + 0.5 - cx) / (rx || 1e-9), (row + 0.5 - cy) / (ry || 1e-9)];
      if (x * x + y * y <= 1) found.push(row * width + column);
    }
  }
  return found;
}

/** Mean, standard deviation (of the sample, n - 1), least and largest value of pixels; null of none. */
export function statistics(value, pixels) {
  if (!pixels.length) return null;
  const values = pixels.map(value), count = values.length;
  const mean = values.reduce((sum, one) => sum + one, 0) / count;
  const squares = values.reduce((sum, one) => sum + (one - mean) ** 2, 0);
  return { count, mean, sd: count > 1 ? Math.sqrt(squares / (count - 1)) : 0, least: Math.min(...values), largest: Math.max(...values) };
}

/** Values along a line, two a pixel, linear between the centres of four neighbours. */
export function profile(value, { a, b }, width, height) {
  const length = Math.hypot(a.x - b.x, a.y - b.y), count = Math.max(2, Math.ceil(2 * length) + 1);
  return Float32Array.from({ length: count }, (_, i) => {
    const share = i / (count - 1);
    const x = kept(a.x + share * (b.x - a.x) - 0.5, width), y = kept(a.y + share * (b.y - a.y) - 0.5, height);
    const [left, top] = [Math.floor(x), Math.floor(y)], [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
    const [u, v] = [x - left, y - top];
    const upper = (1 - u) * value(top * width + left) + u * value(top * width + right);
    const lower = (1 - u) * value(bottom * width + left) + u * value(bottom * width + right);
    return (1 - v) * upper + v * lower;
  });
}

/** Length of a line: in mm where the size of a pixel is known, else in pixels. */
export function lengthOf({ a, b }, geometry) {
  const [high, wide] = geometry?.voxel_size ?? [1, 1];
  return { value: Math.hypot((b.x - a.x) * wide, (b.y - a.y) * high), unit: geometry ? "mm" : "pixels" };
}

/** Area of so many pixels: in mm² where their size is known; null else. */
export function areaOf(count, geometry) {
  return geometry ? count * geometry.voxel_size[0] * geometry.voxel_size[1] : null;
}

function kept(place, size) {
  return Math.min(size - 1, Math.max(0, place));
}
