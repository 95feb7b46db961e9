// The view as a PNG, with its window and the research-only mark written in.

import { Painter } from "./drawing.js";
import { FIRE, GRAY, short } from "./pixels.js";
import { EXPECTED_ERROR, label, magnitudeText, maskCaption } from "./result.js";
import { numbersOf, remarkGroups, remarkText, titleOf } from "./stage.js";

const SCALE = 2, MARGIN = 20, GAP = 10, BAR = 160;
const NAME = 15, TEXT = 12, REMARK = 11, LINE = 16; // sizes of letters, and from line to line
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
  const room = width - 2 * MARGIN;
  const inLines = (text, size, colour, weight = 400, wide = room) => wrapped(context, text, wide, size, weight).map((line) => ({ text: line, size, colour, weight }));
  const masks = result.runs ? `A: ${maskCaption(result.runs.a.receipt)}; B: ${maskCaption(result.runs.b.receipt)}` : maskCaption(result.receipt);
  const file = result.metadata.results[0]?.file ?? "";
  const heading = [
    ...inLines(`${state.name || file}, slice ${slice + 1} of ${result.slices}`, NAME, "#f2f2f2", 600),
    ...inLines(masks, TEXT, "#a3a9b3"),
    ...[...(state.remarks ?? []), ...result.sharedWarnings].flatMap((text) => inLines(`⚠ ${text}`, REMARK, "#f0b35a")),
  ];
  const captions = boxes.map(({ id, box }) => captionsOf(inLines, id, box.width, state));
  const scale = inLines(scaleText(state), TEXT, "#a3a9b3", 400, room - BAR - 12);
  const foot = [...scale, ...inLines(notice, TEXT, "#f0b35a", 600)];
  const head = MARGIN + LINE * heading.length, caption = 12 + LINE * Math.max(1, ...captions.flat().map(({ lines }) => lines.length));
  const height = head + rows.length * (tallest + caption) + (rows.length - 1) * GAP + LINE * foot.length + MARGIN;
  [canvas.width, canvas.height] = [Math.round(width * SCALE), Math.round(height * SCALE)];
  context.scale(SCALE, SCALE);
  context.fillStyle = "#0f1115";
  context.fillRect(0, 0, width, height);
  const write = (lines, x, top, align = "left") => lines.forEach(({ text, size, colour, weight }, line) => {
    context.font = fontOf(size, weight);
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, top + LINE * (line + 1) - 3);
  });
  write(heading, MARGIN, MARGIN / 2);
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
    captions[number].forEach(({ lines }, index) => write(lines, index ? x + box.width : x, y + box.height + 4, index ? "right" : "left"));
  });
  const base = height - LINE * foot.length - MARGIN / 2;
  const colours = state.show === "difference" ? FIRE : state.invert && state.show === "image" ? GRAY.slice().reverse() : GRAY;
  for (let level = 0; level < 256; level += 1) {
    const word = colours[level];
    context.fillStyle = `rgb(${word & 255}, ${(word >> 8) & 255}, ${(word >> 16) & 255})`;
    context.fillRect(MARGIN + (level * BAR) / 256, base + 4, BAR / 256 + 0.5, 9);
  }
  write(scale, MARGIN + BAR + 12, base);
  write(foot.slice(scale.length), MARGIN, base + LINE * scale.length);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** What stands under a tile, one or two parts, in lines: the title, the numbers, warnings and the rest. */
function captionsOf(inLines, id, width, state) {
  const ids = id === "swipe" ? [state.left, state.right] : [id], room = width / ids.length - 6;
  return ids.map((one) => ({
    lines: [
      ...inLines(titleOf(one, state), TEXT, "#f2f2f2", 600, room),
      ...inLines(numbersOf(one, state), TEXT, "#f2f2f2", 400, room),
      ...remarkGroups(state.result, one).flatMap(({ kind, list }) => inLines(remarkText(list), REMARK, kind === "warning" ? "#f0b35a" : "#a3a9b3", 400, room)),
    ],
  }));
}

function fontOf(size, weight) {
  return `${weight} ${size}px ${FONT}`;
}

/** A text in lines that fit, and are never squeezed; a word that is longer than a line is broken. None of an empty text. */
function wrapped(context, text, room, size, weight) {
  context.font = fontOf(size, weight);
  const fits = (words) => context.measureText(words).width <= room;
  const lines = [];
  for (let word of text.split(" ").filter(Boolean)) {
    if (lines.length && fits(`${lines.at(-1)} ${word}`)) {
      lines[lines.length - 1] += ` ${word}`;
      continue;
    }
    while (!fits(word) && word.length > 1) {
      let end = word.length - 1;
      while (end > 1 && !fits(word.slice(0, end))) end -= 1;
      lines.push(word.slice(0, end));
      word = word.slice(end);
    }
    lines.push(word);
  }
  return lines;
}

/** The scale of the picture in words. */
export function scaleText(state) {
  if (state.show === "difference" && state.against === "trust") {
    return `0 to ${short(state.scale, 3)} %: ${EXPECTED_ERROR} in per cent of the maximum`;
  }
  if (state.show === "difference") {
    return `0 to ${short(state.scale, 3)} %: |image − ${label(state.against)}| in per cent of its maximum`;
  }
  if (state.show === "phase") return "-180° to 180°: phase";
  const { low, high } = state.window;
  return `${state.invert ? "black on white, " : ""}${short(low)} to ${short(high)}: ${magnitudeText(state.result)} (window ${short(high - low)}, level ${short((high + low) / 2)})`;
}
