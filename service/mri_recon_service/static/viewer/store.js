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

/**
 * What is seen of a result that has just come: the middle slice in the usual window; after a result of the same size
 * what was seen of that one, so that two runs can be compared.
 */
export function viewOf(result, before) {
  const methods = result.methods;
  const same = ["slices", "height", "width"].every((name) => before.result?.[name] === result[name]);
  const kept = (name, usual) => (same && result.ids.includes(before[name]) ? before[name] : usual);
  const slice = same ? before.slice : Math.floor(result.slices / 2);
  const usual = result.hasReference ? "reference" : methods[0];
  const against = same && result.comparands.includes(before.against) ? before.against : usual;
  const automatic = !same || before.scaleChoice === "auto";
  return {
    result,
    slice,
    window: same ? before.window : result.window(slice),
    against,
    scale: automatic ? result.differenceScale(against, slice) : before.scale,
    scaleChoice: automatic ? "auto" : before.scaleChoice,
    left: kept("left", methods[0]),
    right: kept("right", methods.length > 1 ? methods[methods.length - 1] : result.ids[0]),
    single: kept("single", methods[0]),
    split: same ? before.split : 0.5,
    probe: null,
    ...(same ? { zoom: before.zoom, centre: before.centre } : CENTRED),
  };
}

/** The whole image, in the middle. Centres are fractions of the image, so that they fit k-space too. */
export const CENTRED = { zoom: 1, centre: { x: 0.5, y: 0.5 } };

export const MAX_ZOOM = 32;
