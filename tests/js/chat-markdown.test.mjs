// Markdown of agentsite/static/chat/markdown.js. Run by `node --test`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { elements, html } from "./chat-dom.mjs";

const { MarkdownView, decoded, safeUrl, spoken } = await import("../../agentsite/static/chat/markdown.js");
const WORDS = { copyCode: "Copy", external: "elsewhere", image: "Image: {alt}", table: "Table", code: "Code" };
const OUT = ' target="_blank" rel="noopener noreferrer nofollow"';
const AWAY = "<span><span> (elsewhere)</span></span>";

function shown(...texts) {
  const view = new MarkdownView(WORDS, () => {});
  texts.forEach((text, place) => view.update(text, place === texts.length - 1));
  return view.element;
}

const inside = (...texts) =>
  shown(...texts)
    .childNodes.map(html)
    .join("");

const CASES = {
  "a paragraph": ["one\ntwo", "<p>one<br></br>two</p>"],
  "headings begin below the page's own": ["# a\n\n###### b", "<h3>a</h3><h6>b</h6>"],
  emphasis: ["**a** *b* ~~c~~ `d<e`", "<p><strong>a</strong> <em>b</em> <del>c</del> <code>d&lt;e</code></p>"],
  lists: [
    "3. a\n4. b\n   - c",
    '<ol start="3"><li><span>a</span></li><li><span>b</span><ul><li><span>c</span></li></ul></li></ol>',
  ],
  "loose lists": ["- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"],
  tasks: [
    "- [x] a\n- [ ] b",
    '<ul><li><input type="checkbox" checked="" disabled=""></input><span>a</span></li><li><input type="checkbox" disabled=""></input><span>b</span></li></ul>',
  ],
  tables: [
    "|a|b|\n|:-|-:|\n|1|2|",
    '<div><table><thead><tr><th data-align="left">a</th><th data-align="right">b</th></tr></thead><tbody><tr><td data-align="left">1</td><td data-align="right">2</td></tr></tbody></table></div>',
  ],
  code: [
    "```js\nlet a = '<b>';\n```",
    "<div><div><span>js</span><button type=\"button\"></button></div><pre><code>let a = '&lt;b>';</code></pre></div>",
  ],
  "a quote": ["> a", "<blockquote><p>a</p></blockquote>"],
  "a line": ["a\n\n---\n\nb", "<p>a</p><hr></hr><p>b</p>"],
  "a link": ["[a](https://a.example/x)", `<p><a href="https://a.example/x"${OUT}>a${AWAY}</a></p>`],
  "a reference": ["[a][1]\n\n[1]: https://a.example/x", `<p><a href="https://a.example/x"${OUT}>a${AWAY}</a></p>`],
  "an address": ["https://a.example/x", `<p><a href="https://a.example/x"${OUT}>https://a.example/x${AWAY}</a></p>`],
  mail: ["<a@b.example>", `<p><a href="mailto:a@b.example"${OUT}>a@b.example</a></p>`],
  "a link to a script": ["[a](javascript:alert)", "<p>[a](javascript:alert)</p>"],
  "a link within the page": ["[a](/x)", "<p>[a](/x)</p>"],
  "an image": [
    "![a](https://a.example/x.png)",
    `<p><a href="https://a.example/x.png"${OUT}><span>Image: a</span>${AWAY}</a></p>`,
  ],
  HTML: ["<b onclick=x>a</b>", "<p>&lt;b onclick=x>a&lt;/b></p>"],
  "a block of HTML": ["<div>\n<script>x</script>\n</div>", "<div>&lt;div>\n&lt;script>x&lt;/script>\n&lt;/div></div>"],
  entities: ["&lt;b&gt; &#65;&#x42; &unknown; &copy;", "<p>&lt;b> AB &amp;unknown; ©</p>"],
  "entities in code": ["`&lt;`", "<p><code>&amp;lt;</code></p>"],
};

for (const [name, [text, expected]] of Object.entries(CASES)) test(name, () => assert.equal(inside(text), expected));

const SAMPLE = Object.values(CASES)
  .map(([text]) => text)
  .join("\n\n");

test("a text that grows ends as one that came at once", () => {
  const pieces = [...SAMPLE].map((_, end) => SAMPLE.slice(0, end + 1));
  assert.equal(inside(...pieces, SAMPLE), inside(SAMPLE));
});

test("what is complete keeps its nodes while the text grows", () => {
  const view = new MarkdownView(WORDS, () => {});
  view.update("one\n\n```js\nlet a");
  const [first, code] = view.element.childNodes;
  view.update("one\n\n```js\nlet a = 1;\n```\n\ntwo");
  assert.equal(view.element.childNodes[0], first);
  assert.equal(view.element.childNodes[1], code);
  view.update("one\n\n```js\nlet a = 1;\n```\n\ntwo", true);
  assert.equal(view.element.childNodes[1], code);
  assert.equal(view.element.childNodes.length, 3);
});

test("a text that is replaced leaves nothing of the old one", () =>
  assert.equal(inside("a\n\nb\n\nc", "d"), "<p>d</p>"));

test("entities are no way around", () => {
  assert.equal(decoded("&#0;&#xD800;&#1114112;"), "&#0;&#xD800;&#1114112;");
  assert.equal(safeUrl("&#106;avascript:alert"), null);
  assert.equal(safeUrl("java\nscript:alert"), null);
  assert.equal(safeUrl("//a.example"), null);
  assert.equal(safeUrl("HTTPS://a.example"), "https://a.example/");
});

test("deep and long texts are shown", () => {
  for (const text of [
    ">".repeat(5000) + "a",
    "- ".repeat(2000) + "a",
    "b" + "*".repeat(20000),
    "[".repeat(5000),
    "a_".repeat(20000),
  ])
    assert.ok(shown(text).textContent.length > 0);
});

const ALLOWED = new Set(
  "a blockquote br button code del div em h3 h4 h5 h6 hr input li ol p path pre span strong svg table tbody td th thead tr ul".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "aria-hidden aria-label checked class d data-align dir disabled href rel role start tabindex target type viewBox".split(
    " ",
  ),
);

test("hostile texts make no other elements, attributes and links", () => {
  const hostile = JSON.parse(readFileSync(new URL("./chat-hostile.json", import.meta.url), "utf8"));
  assert.ok(hostile.length >= 200);
  for (const text of hostile) {
    for (const element of elements(shown(text.slice(0, text.length / 2), text))) {
      assert.ok(ALLOWED.has(element.nodeName), `${element.nodeName} from ${text}`);
      for (const { name, value } of element.attributes) {
        assert.ok(ATTRIBUTES.has(name), `${name} from ${text}`);
        if (name === "href") assert.match(value, /^(https?|mailto):/, text);
      }
    }
  }
});

test("a table has one direction", () => {
  const table = shown("| الاسم | Size |\n|---|---|\n| ملف | 3 kB |");
  const directed = elements(table).filter((one) => one.hasAttribute("dir"));
  assert.deepEqual(
    directed.map((one) => [one.nodeName, one.getAttribute("dir")]),
    [["div", "auto"]],
  );
});

test("what is read out has no marks", () => {
  const words = "# A **plan**\n\nUn*believ*able [link](https://a.b):\n\n- one\n- `two`";
  const text = `${words}\n\n|a|b|\n|-|-|\n|1|2|\n\n\`\`\`js\nx = 1\n\`\`\``;
  assert.equal(spoken(text, WORDS), "A plan Unbelievable link (elsewhere): one two a b 1 2 js x = 1");
});
