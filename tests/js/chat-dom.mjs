// As much of a document as the chat component's Markdown needs. `html` shows what was made.

class Text {
  nodeType = 3;
  nodeName = "#text";

  constructor(data) {
    this.data = String(data);
  }

  get textContent() {
    return this.data;
  }
}

class Element {
  nodeType = 1;
  childNodes = [];
  #attributes = new Map();

  constructor(name) {
    this.nodeName = name;
  }

  get attributes() {
    return [...this.#attributes].map(([name, value]) => ({ name, value }));
  }

  get lastChild() {
    return this.childNodes.at(-1);
  }

  get textContent() {
    return this.childNodes.map(({ textContent }) => textContent).join("");
  }

  set textContent(text) {
    this.childNodes = [];
    if (text !== "") this.append(text);
  }

  getAttribute(name) {
    return this.#attributes.get(name) ?? null;
  }

  hasAttribute(name) {
    return this.#attributes.has(name);
  }

  setAttribute(name, value) {
    this.#attributes.set(name, String(value));
  }

  removeAttribute(name) {
    this.#attributes.delete(name);
  }

  addEventListener() {}

  append(...given) {
    for (const child of given) this.appendChild(typeof child === "string" ? new Text(child) : child);
  }

  appendChild(child) {
    child.remove?.();
    child.parent = this;
    this.childNodes.push(child);
    return child;
  }

  remove() {
    if (this.parent) this.parent.childNodes = this.parent.childNodes.filter((child) => child !== this);
  }

  replaceWith(other) {
    other.parent = this.parent;
    this.parent.childNodes = this.parent.childNodes.map((child) => (child === this ? other : child));
  }
}
Text.prototype.remove = Element.prototype.remove;
Text.prototype.replaceWith = Element.prototype.replaceWith;

globalThis.Node = { TEXT_NODE: 3 };
globalThis.document = {
  createElement: (name) => new Element(name),
  createElementNS: (_, name) => new Element(name),
  createTextNode: (data) => new Text(data),
};

/** Of an element or a text, without icons and without the attributes that say how it looks. */
export function html(node) {
  if (node.nodeType === 3) return node.data.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  if (node.nodeName === "svg") return "";
  const shown = node.attributes.filter(
    ({ name }) => !["class", "dir", "tabindex", "role", "aria-label"].includes(name),
  );
  const attributes = shown.map(({ name, value }) => ` ${name}="${value}"`).join("");
  return `<${node.nodeName}${attributes}>${node.childNodes.map(html).join("")}</${node.nodeName}>`;
}

/** @returns {Element[]} */
export function elements(node) {
  return node.nodeType === 1 ? [node, ...node.childNodes.flatMap(elements)] : [];
}
