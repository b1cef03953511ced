/**
 * Markdown as DOM: marked reads it, and every node is made here from a list of allowed elements. HTML stays text, nothing
 * is loaded, and a link leads to http, https or mailto only.
 */

import { h, icon, morph } from "./dom.js";
import { Lexer } from "./vendor/marked.esm.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const MAX_DEPTH = 40; // of nested quotes and lists; deeper is shown as it was written
const MAX_SPAN = 6000; // characters of one paragraph; a longer one is not searched for emphasis and links
const REST = 5; // times as long as reading a growing text took, until it is read again
const INLINE = new Set(["a", "code", "del", "em", "span", "strong", "svg"]);
const OPTIONS = { gfm: true, breaks: true };
/** Entities that models write; any other stays as it was written. */
const ENTITIES = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", trade: "™", hellip: "…",
  mdash: "—", ndash: "–", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", laquo: "«", raquo: "»", bull: "•", middot: "·",
  times: "×", divide: "÷", plusmn: "±", deg: "°", euro: "€", pound: "£", sect: "§", para: "¶", larr: "←", rarr: "→",
  uarr: "↑", darr: "↓", harr: "↔", le: "≤", ge: "≥", ne: "≠", infin: "∞", check: "✓",
}; // prettier-ignore

/** @param {string} text */
export function decoded(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{2,8}));/gi, (whole, decimal, hex, name) => {
    if (name) return ENTITIES[name] ?? whole;
    const point = decimal ? Number(decimal) : parseInt(hex, 16);
    return point > 0 && point <= 0x10ffff && !(point >= 0xd800 && point < 0xe000) ? String.fromCodePoint(point) : whole;
  });
}

/** The address as a browser reads it, or null where a link may not lead. @param {string} href */
export function safeUrl(href) {
  let url;
  try {
    url = new URL(decoded(href));
  } catch {
    return null;
  }
  return SCHEMES.has(url.protocol) ? url.href : null;
}

/**
 * @typedef {{copyCode: string, external: string, image: string, table: string, code: string}} Words
 * @typedef {{raw: string, node: Node}} Block
 */

/** One message in its element. While it grows only its last block is read and made again. */
export class MarkdownView {
  /** @type {Block[]} */
  #blocks = [];
  #text = "";
  #whole = true;
  #restUntil = 0;

  /** @param {Words} words @param {(text: string, button: HTMLElement) => void} onCopy */
  constructor(words, onCopy) {
    this.element = h("div", { class: "markdown" });
    this.render = new Renderer(words, onCopy);
  }

  /** @param {string} text all of it so far @param {boolean} [complete] does nothing more follow? */
  update(text, complete = false) {
    const began = performance.now();
    if (text === this.#text && (this.#whole || !complete)) return;
    if (!complete && began < this.#restUntil) return;
    const grows = !complete && text.startsWith(this.#text);
    const kept = grows ? this.#blocks.slice(0, -1) : [];
    const start = kept.reduce((length, block) => length + block.raw.length, 0);
    const tokens = blocksOf(text.slice(start));
    if (complete && this.#sameBlocks(tokens)) this.#settle(text);
    else this.#replace(kept, tokens, text, complete);
    this.#restUntil = began + (1 + REST) * (performance.now() - began);
  }

  /** Definitions at the end can change what stands before them: then everything is made again. */
  #sameBlocks(tokens) {
    const same = (token, place) => this.#blocks[place]?.raw === token.raw;
    return !tokens.hasLinks && tokens.length === this.#blocks.length && tokens.every(same);
  }

  #settle(text) {
    this.#text = text;
    this.#whole = true;
  }

  #replace(kept, tokens, text, complete) {
    const old = this.#blocks.slice(kept.length);
    const fresh = tokens.map((token, place) => this.#block(token, old[place]));
    old.slice(tokens.length).forEach(({ node }) => node.remove());
    this.#blocks = [...kept, ...fresh];
    this.#text = text;
    this.#whole = complete;
  }

  #block(token, old) {
    const node = this.render.block(token, 0);
    const placed = old ? morph(old.node, node) : this.element.appendChild(node);
    return { raw: token.raw, node: placed };
  }
}

/** What is read out of a text: the words without the marks. @param {string} text @param {Words} words */
export function spoken(text, words) {
  const view = new MarkdownView(words, () => {});
  view.update(text, true);
  return wordsOf(view.element).replace(/\s+/g, " ").trim();
}

/** Blocks and cells are apart; the parts of a line are not. */
function wordsOf(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  const inner = [...node.childNodes].map(wordsOf).join("");
  return INLINE.has(node.nodeName.toLowerCase()) ? inner : ` ${inner} `;
}

/** marked's work on one paragraph grows with the square of its length. */
class Reader extends Lexer {
  inline(text, tokens = []) {
    if (text.length <= MAX_SPAN) return super.inline(text, tokens);
    tokens.push({ type: "text", raw: text, text });
    return tokens;
  }
}

/** The blocks of a text; blank lines belong to the block before them. */
function blocksOf(text) {
  const tokens = tokensOf(text);
  const blocks = Object.assign([], { hasLinks: Object.keys(tokens.links).length > 0 });
  for (const token of covering(tokens, text)) {
    if (token.type === "space" && blocks.length) blocks.at(-1).raw += token.raw;
    else blocks.push(token);
  }
  return blocks;
}

/** Nesting may be deeper than the stack: then the text stays as it was written. */
function tokensOf(text) {
  try {
    return new Reader(OPTIONS).lex(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return Object.assign([{ type: "plain", raw: text }], { links: {} });
  }
}

/** marked reads tabs and line ends as others: where its tokens do not add up to the text, the text is one block. */
function covering(tokens, text) {
  const length = tokens.reduce((sum, token) => sum + token.raw.length, 0);
  return length === text.length ? tokens : [{ type: "group", raw: text, tokens }];
}

class Renderer {
  constructor(words, onCopy) {
    Object.assign(this, { words, onCopy });
  }

  /** @returns {Node} */
  block(token, depth) {
    if (depth > MAX_DEPTH) return plain(token);
    switch (token.type) {
      case "heading":
        return h(
          `h${Math.min(6, token.depth + 2)}`,
          { class: `heading-${token.depth}`, dir: direction(depth) },
          ...this.inline(token.tokens, depth),
        );
      case "paragraph":
        return h("p", { dir: direction(depth) }, ...this.inline(token.tokens, depth));
      case "text":
        return h("span", {}, ...(token.tokens ? this.inline(token.tokens, depth) : [decoded(token.text)]));
      case "group":
        return h("div", { class: "markdown" }, ...this.blocks(token.tokens, depth));
      case "blockquote":
        return h("blockquote", { dir: direction(depth) }, ...this.blocks(token.tokens, depth + 1));
      case "list":
        return this.list(token, depth + 1);
      case "code":
        return this.code(token);
      case "table":
        return this.table(token, depth);
      case "hr":
        return h("hr");
      case "def":
      case "space":
        return document.createTextNode("");
      default:
        return plain(token);
    }
  }

  blocks(tokens, depth) {
    return tokens.map((token) => this.block(token, depth));
  }

  list(token, depth) {
    const items = token.items.map((item) => this.item(item, depth));
    return h(
      token.ordered ? "ol" : "ul",
      { dir: direction(depth - 1), start: token.ordered && token.start !== 1 && token.start },
      ...items,
    );
  }

  item(item, depth) {
    const box =
      item.task && h("input", { type: "checkbox", checked: item.checked, disabled: true, "aria-label": item.text });
    const inner = item.tokens.filter(({ type }) => type !== "checkbox");
    return h("li", { class: item.task && "task" }, box, ...this.blocks(inner, depth));
  }

  code({ text, lang }) {
    const language = decoded((lang ?? "").match(/^\S*/)[0]).slice(0, 40);
    const copy = h("button", { type: "button", class: "copy-code", "aria-label": this.words.copyCode }, icon("copy"));
    copy.onclick = () => this.onCopy(copy.closest(".code").querySelector("code").textContent, copy);
    const head = h(
      "div",
      { class: "code-head" },
      h("span", { class: "language", text: language || this.words.code }),
      copy,
    );
    const name = language ? `${this.words.code}: ${language}` : this.words.code;
    const body = h("pre", { tabindex: 0, role: "group", "aria-label": name }, h("code", { dir: "ltr", text }));
    return h("div", { class: "code", dir: "ltr" }, head, body);
  }

  table({ header, rows, align }, depth) {
    const cell = (tag) => (given, place) =>
      h(tag, { "data-align": align[place] }, ...this.inline(given.tokens, depth));
    const line = (tag, cells) => h("tr", {}, ...cells.map(cell(tag)));
    const body = h("tbody", {}, ...rows.map((cells) => line("td", cells)));
    const table = h("table", {}, h("thead", {}, line("th", header)), body);
    const dir = direction(depth); // of all its columns
    return h("div", { class: "table", dir, tabindex: 0, role: "group", "aria-label": this.words.table }, table);
  }

  /** @returns {Node[]} */
  inline(tokens, depth) {
    return tokens.map((token) => this.span(token, depth + 1));
  }

  span(token, depth) {
    if (depth > MAX_DEPTH) return plain(token);
    switch (token.type) {
      case "strong":
      case "em":
      case "del":
        return h(token.type, {}, ...this.inline(token.tokens, depth));
      case "codespan":
        return h("code", { text: token.text });
      case "br":
        return h("br");
      case "link":
        return this.link(token, this.inline(token.tokens, depth));
      case "image":
        return this.image(token);
      case "text":
        return token.tokens
          ? h("span", {}, ...this.inline(token.tokens, depth))
          : document.createTextNode(decoded(token.text));
      case "escape":
        return document.createTextNode(decoded(token.text));
      default:
        return document.createTextNode(token.raw);
    }
  }

  link({ href, raw }, children) {
    const url = safeUrl(href);
    if (url === null) return document.createTextNode(raw);
    const mark = url.startsWith("mailto:")
      ? null
      : h(
          "span",
          { class: "external" },
          icon("external"),
          h("span", { class: "hidden", text: ` (${this.words.external})` }),
        );
    return h("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children, mark);
  }

  image({ href, text, raw }) {
    const label = this.words.image.replace("{alt}", decoded(text) || decoded(href));
    return this.link({ href, raw }, [h("span", { class: "image" }, icon("image"), label)]);
  }
}

/** Of a block: what is within another has that one's, since `auto` does not look into what has its own. */
function direction(depth) {
  return depth === 0 && "auto";
}

function plain(token) {
  return h("div", { class: "plain", dir: "auto", text: token.raw });
}
