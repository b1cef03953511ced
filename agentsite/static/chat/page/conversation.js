// The conversation that is shown: `<agent-chat>`, and above it what it is called and who is here.

import { $, avatar, el } from "./dom.js";
import { owns, titleOf, unarchive, UNTITLED } from "./actions.js";
import { theme } from "./theme.js";

const FACES = 4;
const LAST_AGENT = "chat-agent";

export class Conversation {
  #page;
  #agents = [];
  #names = new Map();
  present = new Set(); // ids of those who have it open

  constructor(page) {
    this.#page = page;
    $("agent").addEventListener("change", () => this.#chosen());
  }

  // The agents that the person may begin with.
  async offer() {
    const agents = await this.#page.api.all("agents?status=active");
    this.#agents = agents.sort((a, b) => a.name.localeCompare(b.name));
    this.#names = new Map(agents.map((agent) => [agent.slug, agent.name]));
    const last = localStorage.getItem(this.#kept);
    const options = this.#agents.map(({ slug, name }) => el("option", { value: slug, selected: slug === last }, name));
    $("agent").replaceChildren(...options);
  }

  get #kept() {
    return `${LAST_AGENT}-${this.#page.tenant?.slug ?? ""}`;
  }

  #chosen() {
    localStorage.setItem(this.#kept, $("agent").value);
    $("chat").querySelector("agent-chat")?.setAttribute("agent", $("agent").value);
  }

  begin() {
    this.#people([]);
    this.show(null);
    if (!this.#page.mayBegin)
      return this.say("Your role in this tenant is viewer: you read conversations that you are invited to.");
    if (!this.#agents.length)
      return this.say("There is no agent to talk with yet. An operator makes one in the admin and sets it active.");
    this.#put({ agent: $("agent").value });
    return this.#compose();
  }

  // Whoever has a keyboard may write at once; on a touch screen it would open one, and who types elsewhere goes on there.
  #compose() {
    const types = document.activeElement.matches("input, select");
    const chat = $("chat").querySelector("agent-chat");
    if (!types && matchMedia("(hover: hover)").matches) queueMicrotask(() => chat.focus()); // it is made by then
  }

  // `seq` is of the message to show; without one it is the end.
  open(session, seq = 0) {
    this.#people([]);
    this.show(session);
    this.#put({ session: session.id, ...(session.agent ? { agent: session.agent } : {}) });
    if (seq) $("chat").querySelector("agent-chat").show(seq);
  }

  // In place of a conversation, with nothing that can be done about it.
  close(title, sentence) {
    this.#people([]);
    this.show(null);
    $("agent-label").hidden = true;
    $("title").textContent = title;
    document.title = `${title} · Chat`;
    this.say(sentence);
  }

  say(text, ...more) {
    $("chat").replaceChildren(el("div", { class: "empty" }, el("p", {}, text), ...more));
  }

  #put(attributes) {
    const { tenant, guest } = this.#page;
    const who = guest ? {} : { tenant: tenant.slug, fork: true };
    const chat = el("agent-chat", { theme: theme(), ...who, ...attributes });
    if (guest) chat.guest = guest.secret;
    chat.addEventListener("agent-chat-session", (event) => this.#page.begun(event.detail.id));
    for (const told of ["agent-chat-title", "agent-chat-answer"])
      chat.addEventListener(told, () => this.#page.renamed());
    chat.addEventListener("agent-chat-role", ({ detail }) => this.#page.ranked(detail));
    chat.addEventListener("agent-chat-refused", (event) => this.#page.refused(event.detail));
    chat.addEventListener("agent-chat-fork", (event) => this.#page.fork(event.detail));
    chat.addEventListener("agent-chat-presence", (event) => this.#people(event.detail.participants));
    $("chat").replaceChildren(chat);
  }

  // Title, agent, buttons. The conversation itself stays as it is.
  show(session) {
    const title = session ? titleOf(session) : UNTITLED;
    document.title = `${title} · Chat`;
    $("title").textContent = title;
    $("agent-label").hidden = Boolean(session) || this.#agents.length < 2 || !this.#page.mayBegin;
    $("share").hidden = $("more").hidden = !session;
    $("share").textContent = session && !owns(session) ? "People" : "Share";
    this.#under();
    this.#banner(session);
  }

  #under() {
    const session = this.#page.current;
    $("subtitle").textContent = session ? (this.#names.get(session.agent) ?? session.agent ?? "") : "";
  }

  #banner(session) {
    $("chat").parentElement.querySelector(".banner")?.remove();
    if (session?.status !== "archived" || !owns(session)) return;
    const back = el(
      "button",
      { type: "button", class: "button", onclick: () => unarchive(this.#page, session) },
      "Unarchive",
    );
    const sentence = "This conversation is archived: it can be read, and nothing can be added.";
    $("notice").parentElement.before(el("div", { class: "banner" }, el("span", {}, sentence), back));
  }

  #people(participants) {
    this.present = new Set(participants.map(({ id }) => id));
    const faces = participants.slice(0, FACES).map((person) => this.#face(person));
    const more = participants.length - FACES;
    if (more > 0)
      faces.push(
        el("li", {}, el("span", { class: "avatar more" }, `+${more}`), el("span", { class: "unseen" }, "more")),
      );
    $("people").replaceChildren(...faces);
    $("people").hidden = participants.length === 0;
  }

  #face(person) {
    const name = person.id === this.#page.me.id ? `${person.label} (you)` : person.label;
    return el("li", { title: name }, avatar(person.label), el("span", { class: "unseen" }, name));
  }
}
