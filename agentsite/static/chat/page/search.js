// What a search finds: conversations by their title, and messages by their words.

import { el, when } from "./dom.js";
import { titleOf } from "./actions.js";

const SHOWN = 20;

function escaped(word) {
  return word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

// The text with what was asked for marked in it.
export function marked(text, query) {
  const words = query.split(/\s+/u).filter(Boolean).map(escaped);
  if (!words.length) return [text];
  return text
    .split(new RegExp(`(${words.join("|")})`, "giu"))
    .map((part, index) => (index % 2 ? el("mark", {}, part) : part));
}

// The snippet with the places in it marked, which count Unicode characters.
function placed(snippet, places) {
  const letters = [...snippet];
  const parts = [];
  let at = 0;
  for (const [start, end] of places) {
    parts.push(letters.slice(at, start).join(""), el("mark", {}, letters.slice(start, end).join("")));
    at = end;
  }
  return [...parts, letters.slice(at).join("")];
}

function titleHit(session, query) {
  const title = el("span", {}, ...marked(titleOf(session), query));
  return el("li", {}, el("a", { href: `/chat/s/${session.id}`, dir: "auto" }, title));
}

function messageHit(hit) {
  const title = el("span", { class: "hit-title", dir: "auto" }, hit.session.title || "Untitled");
  const text = el("span", { class: "hit-text", dir: "auto" }, ...placed(hit.snippet, hit.hits));
  const link = { href: `/chat/s/${hit.session.id}`, title: when(hit.created_at), data: { seq: hit.seq } };
  return el("li", {}, el("a", link, title, text));
}

function group(title, items) {
  return items.length ? [el("h2", {}, title), el("ul", { class: "hits" }, ...items)] : [];
}

export async function found(api, query, known) {
  const q = encodeURIComponent(query);
  const [titles, messages] = await Promise.all([
    api.get(`sessions?mine=true&q=${q}&limit=${SHOWN}`),
    api.get(`search?q=${q}&limit=${SHOWN}`),
  ]);
  const lower = query.toLocaleLowerCase();
  const here = known.filter((session) => titleOf(session).toLocaleLowerCase().includes(lower));
  const all = [...new Map([...here, ...titles.data].map((session) => [session.id, session])).values()];
  const parts = [
    ...group(
      "Titles",
      all.map((session) => titleHit(session, query)),
    ),
    ...group("Messages", messages.data.map(messageHit)),
  ];
  return parts.length ? parts : [el("p", { class: "none" }, `Nothing was found for “${query}”.`)];
}
