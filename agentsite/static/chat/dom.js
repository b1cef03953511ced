/** Elements by `createElement` and `textContent` only: nothing here parses HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** Outlines on a field of 24 by 24. */
const ICONS = {
  send: ["M12 19V5", "M5 12l7-7 7 7"],
  stop: ["M7 7h10v10H7z"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  check: ["M5 13l4 4L19 7"],
  retry: ["M20 11a8 8 0 1 0-2.3 6.3", "M20 5v6h-6"],
  edit: ["M4 20h4L19 9l-4-4L4 16z"],
  fork: ["M6 4v7a4 4 0 0 0 4 4h8", "M14 11l4 4-4 4"],
  up: ["M7 11v9H4v-9z", "M7 11l4-8c2 0 2 2 2 3l-1 4h6a2 2 0 0 1 2 2l-2 7a1 1 0 0 1-1 1H7"],
  down: ["M17 13V4h3v9z", "M17 13l-4 8c-2 0-2-2-2-3l1-4H6a2 2 0 0 1-2-2l2-7a1 1 0 0 1 1-1h10"],
  newest: ["M12 5v14", "M5 12l7 7 7-7"],
  tool: ["M14 6a4 4 0 0 1 5 5l-8 8a2.8 2.8 0 0 1-4-4l8-8", "M14 6l3 3"],
  thought: ["M12 4a6 6 0 0 0-3 11v3h6v-3a6 6 0 0 0-3-11z", "M10 21h4"],
  agent: ["M12 4l2 6 6 2-6 2-2 6-2-6-6-2 6-2z"],
  step: ["M5 6h14", "M5 12h14", "M5 18h9"],
  open: ["M9 6l6 6-6 6"],
  external: ["M14 5h5v5", "M19 5l-9 9", "M17 14v5H5V7h5"],
  image: ["M4 5h16v14H4z", "M4 16l5-5 4 4 3-3 4 4"],
  warning: ["M12 4l9 16H3z", "M12 10v4", "M12 17v.5"],
};

/**
 * @param {string} tag
 * @param {Record<string, any>} [given] attributes; `on…` are listeners, `class` and `text` what they say
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else setAttribute(element, name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** @param {Element} element @param {string} name @param {any} value null and false take it away */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24",
    class: `icon icon-${name}`,
    "aria-hidden": "true",
  }))
    svg.setAttribute(key, value);
  for (const shape of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    svg.append(path);
  }
  return svg;
}

/** A button with an icon, and a label for those who do not see it. */
export function iconButton(name, label, onclick, given = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", title: label, "aria-label": label, onclick, ...given },
    icon(name),
  );
}

/** Copies, and says so on the button for a moment. */
export async function copied(button, text, label) {
  await navigator.clipboard.writeText(text);
  const before = button.getAttribute("aria-label");
  button.replaceChildren(icon("check"));
  button.setAttribute("aria-label", label);
  setTimeout(() => {
    button.replaceChildren(icon("copy"));
    button.setAttribute("aria-label", before);
  }, 1500);
}

/**
 * Makes the children of `parent` these, in this order, and moves only what is elsewhere.
 * @param {Element} parent @param {Node[]} wanted
 */
export function setChildren(parent, wanted) {
  let at = parent.firstChild;
  for (const node of wanted) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/**
 * Makes `old` look as `fresh`, and keeps the nodes that are alike: no flicker, no lost selection or scroll position.
 * @param {Node} old @param {Node} fresh @returns {Node} what stands there now
 */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return replaced(old, fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) setAttribute(old, name, value);
  const given = [...fresh.childNodes];
  given.forEach((child, place) => (old.childNodes[place] ? morph(old.childNodes[place], child) : old.append(child)));
  while (old.childNodes.length > given.length) old.lastChild.remove();
  return old;
}

function replaced(old, fresh) {
  old.replaceWith(fresh);
  return fresh;
}
