// Mouse, wheel, pen and fingers on a tile, as the few things that they mean.

const NOTCH = 60; // wheel pixels for one slice: a mouse's notch has 100 or more, a touchpad sends few at a time
const LINE = 40;

/**
 * Call `on.window(dx, dy)`, `on.pan(dx, dy)`, `on.zoom(factor, x, y)`, `on.slice(step)`, `on.probe(x, y)`,
 * `on.mark(from, to)` and `on.hover(x, y)` (null outside), all in CSS pixels of the element, and `on.released()`. `tool()` says what the first
 * button and one finger do: "window", "pan", "probe", "line" or "ellipse". The second button zooms, the third moves.
 */
export function listen(element, on, tool) {
  const pointers = new Map();
  let action = null, from = null, turned = 0;
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  };

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    from = at(event);
    action = { 1: "pan", 2: "zoom" }[event.button] ?? tool();
    if (event.button === 1) event.preventDefault(); // no automatic scrolling
    if (action === "probe" && pointers.size === 1) on.probe(from.x, from.y);
  });
  element.addEventListener("pointermove", (event) => {
    const now = at(event), before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") on.hover(now.x, now.y);
      return;
    }
    if (pointers.size === 2) {
      const old = spread();
      pointers.set(event.pointerId, now);
      const next = spread();
      on.pan(next.x - old.x, next.y - old.y);
      on.zoom(next.distance / old.distance, next.x, next.y);
      return;
    }
    pointers.set(event.pointerId, now);
    if (pointers.size > 2) return;
    if (action === "probe") on.probe(now.x, now.y);
    else if (action === "line" || action === "ellipse") on.mark(from, now);
    else if (action === "zoom") on.zoom(Math.exp((before.y - now.y) / 150), from.x, from.y);
    else if (event.pointerType === "touch" && getComputedStyle(element).touchAction === "pan-y") on[action](now.x - before.x, 0); // up and down scroll
    else on[action](now.x - before.x, now.y - before.y);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      on.released();
    });
  }
  element.addEventListener("pointerleave", () => on.hover(null, null));
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const amount = (event.deltaY || event.deltaX) * (event.deltaMode ? LINE : 1);
    if (event.ctrlKey || event.metaKey) { // also what a pinch on a touchpad sends
      const { x, y } = at(event);
      on.zoom(Math.exp(-Math.max(-120, Math.min(120, amount)) * 0.0022), x, y);
      return;
    }
    turned = Math.sign(amount) === Math.sign(turned) ? turned + amount : amount;
    if (Math.abs(turned) < NOTCH) return;
    on.slice(Math.sign(turned));
    turned = 0;
  }, { passive: false });
}
