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

/** What is seen of a loaded result, before anybody touches it. */
export function viewOf(result) {
  const slice = Math.floor(result.slices / 2);
  const methods = result.methods;
  const against = result.hasReference ? "reference" : methods[0];
  return {
    result,
    slice,
    window: result.window(slice),
    against,
    scale: result.differenceScale(against, slice),
    scaleChoice: "auto",
    left: methods[0],
    right: methods.length > 1 ? methods[methods.length - 1] : result.ids[0],
    single: methods[0],
    split: 0.5,
    probe: null,
    ...CENTRED,
  };
}

/** The whole image, in the middle. Centres are fractions of the image, so that they fit k-space too. */
export const CENTRED = { zoom: 1, centre: { x: 0.5, y: 0.5 } };

export const MAX_ZOOM = 32;
