// Elements of the page. Text from data goes into text nodes only, so that markup in a name is shown and never parsed.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "checked" || name === "disabled" || name === "value" || name === "hidden") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

/** Return an HTML element. Attributes whose names begin with "on" are listeners; children are nodes or texts. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Return an SVG element. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Say a sentence to screen readers. */
export function say(text) {
  byId("live").textContent = text;
}

/** Show a message in words, once, until the reader closes it. An error may be given whole: a stale one has a way out. */
export function tell(what, kind = "error") {
  const text = what.message ?? what;
  const notices = byId("notices");
  if ([...notices.children].some((n) => n.dataset.text === text)) return;
  const close = el("button", { type: "button", "aria-label": "Close this message", onclick: () => note.remove() }, "×");
  const note = el("span", { class: `notice ${kind}`, role: kind === "error" ? "alert" : null },
    text, what.stale ? el("button", { type: "button", class: "reload", onclick: () => location.reload() }, "Reload") : null, close);
  note.dataset.text = text;
  notices.append(note);
}

/** Return a button that says what it does in its text or, if that is a sign, in its label. */
export function button(text, label, onclick, attributes = {}) {
  return el("button", { type: "button", title: label, "aria-label": label, onclick, ...attributes }, text);
}
