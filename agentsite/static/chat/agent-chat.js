/** `<agent-chat>`: a conversation with an agent and all who take part in it. docs/frontends.md tells how to use it. */

import { Api, Guest, Member, Visitor } from "./api.js";
import { Composer } from "./composer.js";
import { h } from "./dom.js";
import { fill, STRINGS } from "./strings.js";
import { sheet } from "./styles.js";
import { Talk } from "./talk.js";
import { Announcer, Banner, Presence, Thread } from "./view-thread.js";

const CREDENTIALS = ["base-url", "tenant", "key", "agent"];

/** @fires agent-chat-session @fires agent-chat-title @fires agent-chat-answer @fires agent-chat-error @fires agent-chat-presence @fires agent-chat-fork @fires agent-chat-role @fires agent-chat-refused */
export class AgentChat extends HTMLElement {
  static observedAttributes = [...CREDENTIALS, "session", "fork"];

  #words = STRINGS;
  #guest = "";
  #frame = 0;
  #asked = false; // is a new beginning under way?
  #isNew = false; // was a new session asked for?
  #sought = 0; // seq of the message to show, once it is loaded
  /** @type {Talk | null} */
  #talk = null;
  #views = null;
  #chat = null;
  #fresh = null;

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
  }

  /** What the component says; any of it may be given. @param {Partial<typeof STRINGS>} given */
  set strings(given) {
    this.#words = { ...STRINGS, ...given };
    this.#begin();
  }

  get strings() {
    return this.#words;
  }

  /** The secret of somebody who was invited and has no account. @param {string} secret */
  set guest(secret) {
    this.#guest = secret;
    this.#begin();
  }

  connectedCallback() {
    for (const name of ["strings", "guest"]) this.#upgrade(name);
    this.#begin();
  }

  /** What was set before the element was known. */
  #upgrade(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    this[name] = value;
  }

  disconnectedCallback() {
    queueMicrotask(() => this.isConnected || this.#end());
  }

  attributeChangedCallback(name, before, now) {
    if (before === now || !this.#talk) return;
    if (name === "fork") this.#changed();
    else if (name !== "session" || (now || null) !== (this.#talk.session?.id ?? null)) this.#begin();
  }

  /** Another session. @param {string} id */
  open(id) {
    this.setAttribute("session", id);
  }

  /** An empty conversation, which becomes a session with its first message. */
  newSession() {
    this.#isNew = true;
    this.removeAttribute("session");
    this.#begin();
    queueMicrotask(() => this.focus()); // after the beginning
  }

  /** Scrolls to a message and marks it. @param {number} seq its place in the session */
  show(seq) {
    this.#sought = seq;
    this.#changed();
  }

  /** Stops the answer that is under way. */
  stop() {
    this.#talk?.stop();
  }

  focus() {
    this.#views?.composer.focus();
  }

  /** Once for all that a page sets at once. */
  #begin() {
    if (this.#asked || !this.isConnected) return;
    this.#asked = true;
    queueMicrotask(() => {
      this.#asked = false;
      if (!this.isConnected) return;
      this.#end();
      this.#start();
    });
  }

  #end() {
    this.#talk?.close();
    this.#talk = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  #start() {
    const base = new URL(this.getAttribute("base-url") || "/", import.meta.url).origin;
    const who = this.#who(base);
    if (who === null) return;
    const views = this.#build();
    const talk = new Talk(new Api(base, who, this.#words.gone), this.getAttribute("agent"), {
      words: this.#words,
      changed: () => this.#changed(),
      finished: (turn) => views.announcer.finished(turn),
      asked: (tool) => views.announcer.say(fill(this.#words.needsApproval, { tool })),
      returned: (text, why) => this.#returned(views, text, why),
      failed: (error) => this.#failed(views, error),
      tell: (name, detail) => this.#tell(name, detail),
    });
    this.#talk = talk;
    const id = this.getAttribute("session");
    if (id) talk.open(id);
    else if (who.isKnown && !this.#isNew) talk.latest();
    this.#changed();
  }

  #who(base) {
    if (this.hasAttribute("tenant")) return new Member(this.getAttribute("tenant"));
    if (this.hasAttribute("key")) return new Visitor(base, this.getAttribute("key"));
    return this.#guest ? new Guest(base, this.#guest) : null;
  }

  #build() {
    const words = this.#words;
    const act =
      (name) =>
      (...given) =>
        this.#talk?.[name](...given);
    const names = ["retry", "regenerate", "resend", "rate", "decide"];
    const actions = Object.fromEntries(names.map((name) => [name, act(name)]));
    const canWrite = () => this.#talk?.canWrite ?? false;
    const canDecide = () => this.#talk?.canDecide ?? false;
    const replacedBy = (said) => this.#talk.conversation.replacedBy(said);
    const ui = { words, canWrite, canDecide, replacedBy, actions: { ...actions, fork: (turn) => this.#fork(turn) } };
    const composer = new Composer(words, {
      send: (text) => this.#send(text),
      stop: act("stop"),
      typing: act("typing"),
    });
    const views = {
      thread: new Thread(ui),
      composer,
      banner: new Banner(words),
      presence: new Presence(words),
      announcer: new Announcer(words),
    };
    const renew = () => this.newSession();
    this.#fresh = h("button", { type: "button", class: "fresh", text: words.newSession, onclick: renew });
    const line = h("div", { class: "line" }, views.presence.typing, this.#fresh);
    const foot = h("div", { class: "foot" }, line, composer.element);
    this.#chat = h(
      "div",
      { class: "chat" },
      views.banner.element,
      views.presence.faces,
      views.thread.element,
      foot,
      views.announcer.element,
    );
    this.shadowRoot.replaceChildren(this.#chat);
    this.#views = views;
    return views;
  }

  #send(text) {
    this.#views.thread.toEnd();
    this.#talk.send(text);
  }

  #fork(turn) {
    this.#tell("agent-chat-fork", { session: this.#talk.session.id, message_id: turn.messageId, seq: turn.seq });
  }

  #returned({ composer }, text, why) {
    composer.giveBack(text, fill(this.#words.notSent, { why }));
    this.#changed();
  }

  #failed({ composer }, error) {
    composer.tell(error.message);
    this.#tell("agent-chat-error", { code: error.code ?? "", message: error.message });
    this.#changed();
  }

  #tell(name, detail) {
    if (name === "agent-chat-session") this.setAttribute("session", detail.id);
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** At most once for each frame of the screen. */
  #changed() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#talk) this.#render(this.#talk, this.#views);
    });
  }

  #render(talk, { thread, composer, banner, presence }) {
    const { conversation, canWrite, isLoading } = talk;
    this.#chat.classList.toggle("can-fork", this.hasAttribute("fork"));
    thread.update(conversation, { canWrite, loading: isLoading, title: talk.session?.title ?? "" });
    if (this.#sought && !isLoading) thread.show(this.#sought);
    if (!isLoading) this.#sought = 0;
    composer.update({ running: talk.isRunning && canWrite, note: this.#note(talk) });
    banner.update(talk.state, talk.why);
    this.#fresh.hidden = !(this.hasAttribute("key") && talk.session); // members have a list of their conversations
    presence.update(conversation);
  }

  /** Why nobody can write here. */
  #note({ session, state }) {
    if (state === "refused") return this.#words.readOnly;
    if (session?.role === "viewer") return this.#words.readOnly;
    return session && session.status !== "open" ? this.#words[session.status] : "";
  }
}

customElements.define("agent-chat", AgentChat);
