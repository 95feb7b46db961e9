// Small helpers for elements; text is always set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** make("p", {className: "hint"}, "text", child, ...) */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replace the options of a select: pairs of value and text. */
export function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
  select.value = chosen;
}

let said = 0;

/** Tell a screen reader, at most once in `every` milliseconds where it is not urgent. */
export function announce(text, every = 0) {
  if (performance.now() - said < every) return;
  said = performance.now();
  $("live").textContent = text;
}

/** Offer bytes as a download. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
