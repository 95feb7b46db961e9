// The view as a PNG, with its window and the research-only mark written in.

import { Painter } from "./drawing.js";
import { FIRE, GRAY, short } from "./pixels.js";
import { label, maskCaption } from "./result.js";
import { numbersOf, remarkText, titleOf } from "./stage.js";

const SCALE = 2, MARGIN = 20, HEAD = 58, CAPTION = 42, FOOT = 62, GAP = 10;
const REMARK = 11, LINE = 15; // size of remarks, and from line to line
const FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

/** A Blob with the tiles as they lie on the screen. */
export async function pictureOf(state, tiles, notice) {
  // On a telephone the images are hidden behind the panel from which they are saved.
  const { view } = document.body.dataset;
  document.body.dataset.view = "images";
  const boxes = [...tiles.values()].map((tile) => ({ id: tile.id, box: tile.well.getBoundingClientRect() }));
  document.body.dataset.view = view;
  const left = Math.min(...boxes.map(({ box }) => box.left)), top = Math.min(...boxes.map(({ box }) => box.top));
  const rows = [...new Set(boxes.map(({ box }) => box.top))].sort((a, b) => a - b);
  const tallest = boxes[0].box.height;
  const width = Math.max(...boxes.map(({ box }) => box.right)) - left + 2 * MARGIN;
  const { result, slice } = state;
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  const shared = [...(state.remarks ?? []), ...result.sharedWarnings].flatMap((text) => wrapped(context, `⚠ ${text}`, width - 2 * MARGIN));
  const captions = boxes.map(({ id, box }) => captionsOf(context, id, box.width, state));
  const most = Math.max(1, ...captions.flat().map(({ lines }) => lines.length));
  const head = HEAD + LINE * shared.length, caption = CAPTION + LINE * (most - 1);
  const height = head + rows.length * (tallest + caption) + (rows.length - 1) * GAP + FOOT;
  [canvas.width, canvas.height] = [Math.round(width * SCALE), Math.round(height * SCALE)];
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
  write(`${state.name || file}, slice ${slice + 1} of ${result.slices}`, MARGIN, 26, 15, "#f2f2f2", { weight: 600, room: width - 2 * MARGIN });
  write(result.runs ? `A: ${maskCaption(result.runs.a.receipt)}; B: ${maskCaption(result.runs.b.receipt)}` : maskCaption(result.receipt), MARGIN, 45, 12, "#a3a9b3", { room: width - 2 * MARGIN });
  shared.forEach((text, line) => write(text, MARGIN, 60 + LINE * line, REMARK, "#f0b35a", { room: width - 2 * MARGIN }));
  const painter = new Painter();
  boxes.forEach(({ id, box }, number) => {
    const x = box.left - left + MARGIN, y = head + rows.indexOf(box.top) * (tallest + caption + GAP);
    context.save();
    context.translate(x, y);
    context.beginPath();
    context.rect(0, 0, box.width, box.height);
    context.clip();
    painter.draw(context, id, state, box.width, box.height);
    context.restore();
    captions[number].forEach(({ title, lines, colour, room }, index) => {
      const end = index === 1;
      const align = end ? "right" : "left", at = end ? x + box.width : x;
      write(title, at, y + box.height + 18, 12, "#f2f2f2", { align, room });
      lines.forEach((text, line) => write(text, at, y + box.height + 34 + LINE * line, REMARK, colour, { align, room }));
    });
  });
  const base = height - FOOT;
  const colours = state.show === "difference" ? FIRE : state.invert && state.show === "image" ? GRAY.slice().reverse() : GRAY;
  for (let level = 0; level < 256; level += 1) {
    const word = colours[level];
    context.fillStyle = `rgb(${word & 255}, ${(word >> 8) & 255}, ${(word >> 16) & 255})`;
    context.fillRect(MARGIN + (level * 160) / 256, base + 14, 160 / 256 + 0.5, 9);
  }
  write(scaleText(state), MARGIN + 172, base + 23, 12, "#a3a9b3", { room: width - 2 * MARGIN - 172 });
  write(notice, MARGIN, base + 46, 12, "#f0b35a", { weight: 600, room: width - 2 * MARGIN });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** What stands under a tile, one or two parts: title, lines of remarks with their colour, and the width of both. */
function captionsOf(context, id, width, state) {
  const ids = id === "swipe" ? [state.left, state.right] : [id], room = width / ids.length - 6;
  return ids.map((one) => {
    const remarks = state.result.remarks(one);
    const colour = remarks[0]?.kind === "warning" ? "#f0b35a" : "#a3a9b3";
    return { title: [titleOf(one, state), numbersOf(one, state)].filter(Boolean).join("   "), lines: wrapped(context, remarkText(remarks), room), colour, room };
  });
}

/** A remark in lines that fit; a longer word has a line of its own. None of an empty text. */
function wrapped(context, text, room) {
  context.font = `${REMARK}px ${FONT}`;
  const lines = [];
  for (const word of text.split(" ").filter(Boolean)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** The scale of the picture in words. */
export function scaleText(state) {
  if (state.show === "difference" && state.against === "trust") {
    return `0 to ${short(state.scale, 3)} %: map of trust in per cent of the maximum`;
  }
  if (state.show === "difference") {
    return `0 to ${short(state.scale, 3)} %: |image − ${label(state.against)}| in per cent of its maximum`;
  }
  if (state.show === "phase") return "-180° to 180°: phase";
  const { low, high } = state.window;
  return `${state.invert ? "black on white, " : ""}${short(low)} to ${short(high)}: magnitude (window ${short(high - low)}, level ${short((high + low) / 2)})`;
}
