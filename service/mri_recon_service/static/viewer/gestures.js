// Mouse, wheel, pen and fingers on a tile, as the few things that they mean.

/**
 * Call `on.pan(dx, dy)`, `on.window(dx, dy)`, `on.zoom(factor, x, y)`, `on.slice(step)`, `on.probe(x, y)` and
 * `on.hover(x, y)` (null outside); all in CSS pixels of the element. `tool()` says what the first button and one
 * finger do: "pan", "window" or "probe". The second button always sets the window.
 */
export function listen(element, on, tool) {
  const pointers = new Map();
  let action = null;
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  };

  element.addEventListener("pointerdown", (event) => {
    if (event.button === 1) return;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    action = event.button === 2 ? "window" : tool();
    if (action === "probe" && pointers.size === 1) on.probe(at(event).x, at(event).y);
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
    else on[action](now.x - before.x, now.y - before.y);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  element.addEventListener("pointerleave", () => on.hover(null, null));
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const amount = event.deltaY || event.deltaX; // a browser may turn a wheel with Shift sideways
    if (!amount) return;
    const { x, y } = at(event);
    if (event.shiftKey) on.slice(Math.sign(amount));
    else on.zoom(Math.exp(-Math.max(-120, Math.min(120, amount)) * 0.0022), x, y);
  }, { passive: false });
}
