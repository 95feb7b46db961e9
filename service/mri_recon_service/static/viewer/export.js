// The view as a PNG, with its window and the research-only mark written in.

import { Painter, isDifference } from "./drawing.js";
import { FIRE, GRAY, short } from "./pixels.js";
import { label, maskCaption, measured } from "./result.js";
import { remarkText } from "./stage.js";

const SCALE = 2, MARGIN = 20, HEAD = 58, CAPTION = 42, FOOT = 62, GAP = 10, SHARED = 15;
const FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

/** A Blob with the tiles as they lie on the screen. */
export async function pictureOf(state, tiles, notice) {
  const boxes = [...tiles.values()].map((tile) => ({ id: tile.id, box: tile.well.getBoundingClientRect() }));
  const left = Math.min(...boxes.map(({ box }) => box.left)), top = Math.min(...boxes.map(({ box }) => box.top));
  const rows = [...new Set(boxes.map(({ box }) => box.top))].sort((a, b) => a - b);
  const tallest = boxes[0].box.height;
  const width = Math.max(...boxes.map(({ box }) => box.right)) - left + 2 * MARGIN;
  const { result, slice } = state;
  const shared = result.sharedWarnings, head = HEAD + SHARED * shared.length;
  const height = head + rows.length * (tallest + CAPTION) + (rows.length - 1) * GAP + FOOT;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(width * SCALE), Math.round(height * SCALE)];
  const context = canvas.getContext("2d");
  context.scale(SCALE, SCALE);
  context.fillStyle = "#0f1115";
  context.fillRect(0, 0, width, height);
  const write = (text, x, y, size, colour, { weight = 400, align = "left", room = width } = {}) => {
    context.font = `${weight} ${size}px ${FONT}`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y, room);
  };
  const file = result.metadata.results[0]?.file ?? "";
  write(`${result.fileName ?? file}, slice ${slice} (0 to ${result.slices - 1})`, MARGIN, 26, 15, "#f2f2f2", { weight: 600, room: width - 2 * MARGIN });
  write(maskCaption(result.receipt), MARGIN, 45, 12, "#a3a9b3", { room: width - 2 * MARGIN });
  shared.forEach((text, line) => write(`⚠ ${text}`, MARGIN, 60 + SHARED * line, 11, "#f0b35a", { room: width - 2 * MARGIN }));
  const painter = new Painter();
  for (const { id, box } of boxes) {
    const x = box.left - left + MARGIN, y = head + rows.indexOf(box.top) * (tallest + CAPTION + GAP);
    context.save();
    context.translate(x, y);
    context.beginPath();
    context.rect(0, 0, box.width, box.height);
    context.clip();
    painter.draw(context, id, state, box.width, box.height);
    context.restore();
    const ids = id === "swipe" ? [state.left, state.right] : [id];
    ids.forEach((one, index) => {
      const end = index === 1;
      const align = end ? "right" : "left", at = end ? x + box.width : x, room = box.width / ids.length - 6;
      write(titleOf(one, state), at, y + box.height + 18, 12, "#f2f2f2", { align, room });
      const remarks = result.remarks(one);
      const colour = remarks[0]?.kind === "warning" ? "#f0b35a" : "#a3a9b3";
      if (remarks.length) write(remarkText(remarks), at, y + box.height + 34, 11, colour, { align, room });
    });
  }
  const base = height - FOOT;
  const colours = state.show === "difference" ? FIRE : GRAY;
  for (let level = 0; level < 256; level += 1) {
    const word = colours[level];
    context.fillStyle = `rgb(${word & 255}, ${(word >> 8) & 255}, ${(word >> 16) & 255})`;
    context.fillRect(MARGIN + (level * 160) / 256, base + 14, 160 / 256 + 0.5, 9);
  }
  write(scaleText(state), MARGIN + 172, base + 23, 12, "#a3a9b3", { room: width - 2 * MARGIN - 172 });
  write(notice, MARGIN, base + 46, 12, "#f0b35a", { weight: 600, room: width - 2 * MARGIN });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** The scale of the picture in words. */
export function scaleText(state) {
  if (state.show === "difference" && state.against === "trust") {
    return `0 to ${short(state.scale, 3)} %: map of trust in per cent of the maximum`;
  }
  if (state.show === "difference") {
    return `0 to ${short(state.scale, 3)} %: |image − ${label(state.against)}| in per cent of its maximum`;
  }
  const { low, high } = state.window;
  return `${short(low)} to ${short(high)}: magnitude (window ${short(high - low)}, level ${short((high + low) / 2)})`;
}

function titleOf(id, state) {
  if (id === "kspace") return `k-space, log10, ${state.floor} to 0`;
  const what = !isDifference(id, state) ? label(id)
    : state.against === "trust" ? `${label(id)}, map of trust` : `${label(id)} − ${label(state.against)}`;
  const row = state.result.row(id);
  return row && row.nmse !== null ? `${what}   ${measured(row).psnr} dB, SSIM ${measured(row).ssim}` : what;
}
