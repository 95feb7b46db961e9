// The viewer's state: one plain object, and who wants to know when it changes.

export class Store {
  constructor(values) {
    this.values = values;
    this.listeners = [];
  }

  /** Merge a change; listeners get the set of names that differ. */
  set(change) {
    const changed = new Set(Object.keys(change).filter((name) => this.values[name] !== change[name]));
    if (!changed.size) return;
    this.values = { ...this.values, ...change };
    for (const listener of this.listeners) listener(changed, this.values);
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }
}

/** The whole image, in the middle. Centres are fractions of the image. */
export const CENTRED = { zoom: 1, centre: { x: 0.5, y: 0.5 } };

export const MAX_ZOOM = 32;

/** The state before anything is shown. `waiting` has the methods of a run that are not done, and what is said of them. */
export const NOTHING = {
  result: null, job: null, beside: null, waiting: new Map(), slice: 0,
  layout: "grid", tool: "window", show: "image", smooth: true, showKspace: true, overlay: true, invert: false, lines: true, floor: -4,
  window: { low: 0, high: 1 }, windowChoice: "usual", against: "reference", scale: 1, scaleChoice: "auto",
  left: "", right: "", single: "", split: 0.5, probe: null, mark: null, drawing: false, playing: false, tones: false, ...CENTRED,
};

/** Windows by name: what part of the usual one (of 0 to `usual`), or of the whole range, is shown between black and white. */
export const PRESETS = {
  usual: { name: "Usual", key: "1", of: (usual) => ({ low: 0, high: usual }) },
  full: { name: "Whole range", key: "2", of: (_, peak) => ({ low: 0, high: peak }) },
  dark: { name: "Dark tissue", key: "3", of: (usual) => ({ low: 0, high: usual / 2 }) },
  background: { name: "Background", key: "4", of: (usual) => ({ low: 0, high: usual / 10 }) },
  contrast: { name: "High contrast", key: "5", of: (usual) => ({ low: 0.25 * usual, high: 0.75 * usual }) },
};

/** The window of a preset: the same on every slice. */
export function windowOf(choice, result) {
  return PRESETS[choice].of(result.usual, result.peak);
}

/**
 * What is seen of a result that has just come: the middle slice in the usual window; after a result of the same size
 * what was seen of that one, so that runs can be compared, and a run can be watched as its images come.
 */
export function viewOf(result, before) {
  const { methods, ids } = result;
  const same = ["slices", "height", "width"].every((name) => before.result?.[name] === result[name]);
  const kept = (name, usual) => (same && ids.includes(before[name]) ? before[name] : usual);
  const slice = same ? before.slice : Math.floor(result.slices / 2);
  const usual = result.hasReference ? "reference" : (methods[0] ?? "");
  const against = same && result.comparands.includes(before.against) ? before.against : usual;
  const custom = same && before.windowChoice === "custom";
  const windowChoice = same ? before.windowChoice : "usual";
  const automatic = !same || !["custom"].includes(before.scaleChoice) && Number.isNaN(Number(before.scaleChoice));
  const gain = automatic && same ? gainOf(before.scaleChoice) : 1;
  return {
    result,
    slice,
    windowChoice,
    window: custom ? before.window : windowOf(windowChoice, result),
    against,
    scale: automatic ? result.differenceScale(against) / gain : before.scale,
    scaleChoice: automatic ? (same ? before.scaleChoice : "auto") : before.scaleChoice,
    left: kept("left", methods[0] ?? ids[0] ?? ""),
    right: kept("right", methods.length > 1 ? methods[methods.length - 1] : (ids[0] ?? "")),
    single: kept("single", methods[0] ?? ids[0] ?? ""),
    split: same ? before.split : 0.5,
    probe: same ? before.probe : null,
    mark: same ? before.mark : null,
    ...(same ? { zoom: before.zoom, centre: before.centre } : CENTRED),
  };
}

/** The gain of a choice of scale: 4 of "auto4", 1 of "auto". */
export function gainOf(choice) {
  return Number(/^auto(.*)$/.exec(choice)?.[1] || 1);
}
