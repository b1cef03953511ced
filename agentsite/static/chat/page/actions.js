// What a person may do with a conversation, as entries of its menu.

import { $, acting, el, notice } from "./dom.js";
import { confirmed } from "./dialogs.js";

export const UNTITLED = "New conversation";

export function titleOf(session) {
  return session.title || UNTITLED;
}

export function owns(session) {
  return (session.role ?? "owner") === "owner";
}

function counted(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

async function removed(page, { id }) {
  const [session, people] = await Promise.all([
    page.api.get(`sessions/${id}`),
    page.api.all(`sessions/${id}/participants`),
  ]);
  const others = people.filter((person) => person.person_id !== page.me.id).length;
  const sentences = [
    `“${titleOf(session)}” goes for good, with ${counted(session.messages, "message", "messages")}, the runs that made the answers, and all links into it.`,
    others ? `It goes for ${counted(others, "other person", "other people")} too.` : null,
    "To keep it out of the list only, archive it.",
  ];
  if (!(await confirmed("Delete this conversation?", sentences.filter(Boolean), "Delete"))) return;
  await page.api.delete(`sessions/${session.id}`);
  page.gone(session);
  if (document.activeElement === document.body) $("list").querySelector("a")?.focus();
  notice("The conversation was deleted.");
}

async function left(page, session) {
  const people = await page.api.all(`sessions/${session.id}/participants`);
  const mine = people.find((person) => person.person_id === page.me.id);
  if (!mine) return notice("You see this conversation by your role in the tenant; there is nothing to leave.");
  const sentence = `You no longer see “${titleOf(session)}” then, until somebody invites you again.`;
  if (!(await confirmed("Leave this conversation?", [sentence], "Leave"))) return undefined;
  await page.api.delete(`sessions/${session.id}/participants/${mine.id}`);
  page.gone(session);
  return notice("You left the conversation.");
}

async function archived(page, session, status) {
  page.changed(await page.api.patch(`sessions/${session.id}`, { status }));
  notice(status === "archived" ? "Archived. It is in the list of archived ones." : "It is back in the list.");
}

// With all messages, or those up to `message`.
export async function fork(page, session, message = undefined) {
  const copy = await page.api.post(`sessions/${session}/fork`, message ? { message_id: message } : {});
  page.changed(copy);
  page.open(copy.id);
  notice("This is your own copy; the other conversation stays as it is.");
}

async function exported(page, session, format) {
  const response = await page.api.raw(`sessions/${session.id}/export?format=${format}`);
  const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  const url = URL.createObjectURL(await response.blob());
  const name = named?.[1] ?? `conversation.${format === "json" ? "json" : "md"}`;
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// `page` has api, me, `open(id)`, `changed(session)`, `gone(session)`, `rename(session)`.
export function entriesOf(page, session) {
  const entry = (label, work, danger = false) => ({ label, danger, run: acting(() => work()) });
  const back = session.status === "archived";
  return [
    owns(session) && entry("Rename", () => page.rename(session)),
    page.me.kind === "user" && entry("Continue in a copy", () => fork(page, session.id)),
    entry("Export as Markdown", () => exported(page, session, "markdown")),
    entry("Export as JSON", () => exported(page, session, "json")),
    owns(session) && entry(back ? "Unarchive" : "Archive", () => archived(page, session, back ? "open" : "archived")),
    !owns(session) && entry("Leave", () => left(page, session), true),
    owns(session) && entry("Delete", () => removed(page, session), true),
  ];
}

export function unarchive(page, session) {
  return acting(() => archived(page, session, "open"))();
}
