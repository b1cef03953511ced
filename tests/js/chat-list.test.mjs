// The list of conversations, agentsite/static/chat/page/sidebar.js, where answers come late. Run by `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

class Element {
  children = [];
  dataset = {};
  classList = { toggle() {} };
  #listeners = {};
  constructor(name) {
    this.name = name;
  }
  get text() {
    return this.children.map((child) => child.text ?? child).join("");
  }
  addEventListener(event, work) {
    this.#listeners[event] = work;
  }
  click() {
    this.#listeners.click();
  }
  setAttribute() {}
  append(...children) {
    this.children.push(...children);
  }
  prepend() {}
  replaceChildren(...children) {
    this.children = children;
  }
  querySelector() {
    return null;
  }
  contains() {
    return false;
  }
  all(name) {
    const below = this.children.flatMap((child) => child.all?.(name) ?? []);
    return this.name === name ? [this, ...below] : below;
  }
}

const places = {};
globalThis.document = {
  documentElement: { lang: "en" },
  createElement: (name) => new Element(name),
  createElementNS: (_, name) => new Element(name),
  getElementById: (id) => (places[id] ??= new Element("div")),
  addEventListener() {},
  querySelector: () => null,
};
globalThis.setInterval = globalThis.setTimeout = () => 0;
const { Sidebar } = await import("../../agentsite/static/chat/page/sidebar.js");

const settled = () => new Promise((go) => setImmediate(go));
const session = (id, status = "open") => ({ id, title: id, status, created_at: "2026-01-01T00:00:00Z" });
const page = (sessions, next_cursor = null) => ({ data: sessions, next_cursor });

/** The list, and its requests: each is answered by the test, by `give`. */
async function begin(first) {
  const asked = [];
  const get = (path) => new Promise((give, refuse) => asked.push({ path, give, refuse }));
  const sidebar = new Sidebar({ api: { get }, current: null, seen() {} });
  sidebar.refresh();
  asked.pop().give(first);
  await settled();
  return { sidebar, asked };
}
const shown = () => places.list.all("a").map(({ text }) => text);
const more = () => places.list.all("button").find(({ text }) => text === "Show older ones");

test("older ones that come when the archive is shown are not in it", async () => {
  const { asked } = await begin(page([session("a")], "c1"));
  more().click();
  places.archive.click();
  const [older, archived] = asked;
  older.give(page([session("b")], "c2"));
  archived.give(page([session("old", "archived")]));
  await settled();
  assert.deepEqual([shown(), more()], [["old"], undefined]);
  places.archive.click();
});

test("what was deleted while the list was read does not come back", async () => {
  const many = Array.from({ length: 41 }, (_, number) => session(`s${number}`));
  const { sidebar, asked } = await begin(page(many));
  sidebar.refresh();
  sidebar.gone(many[0]);
  asked.pop().give(page(many.slice(0, 40), "c1"));
  await settled();
  asked.pop()?.give(page(many.slice(1), "c1"));
  await settled();
  assert.deepEqual([shown().length, shown().includes("s0")], [40, false]);
});

test("older ones that could not be read can be asked for again", async () => {
  const { asked } = await begin(page([session("a")], "c1"));
  more().click();
  asked.pop().refuse(new Error("Away."));
  await settled();
  more().click();
  asked.pop().give(page([session("b")]));
  await settled();
  assert.deepEqual(shown().sort(), ["a", "b"]);
});
