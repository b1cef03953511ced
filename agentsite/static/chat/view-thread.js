/** The scrolling log, what a screen reader is told, who is there, and the banner about the connection. */

import { h, icon, setChildren, setText } from "./dom.js";
import { spoken } from "./markdown.js";
import { fill } from "./strings.js";
import { initials, Turns } from "./view-turns.js";

const NEAR = 48; // pixels from the end within which the reader counts as being there
const KEPT = 6; // announcements that stay in the live region
const LONGEST = 4000; // characters of one announcement
const FACES = 5;

export class Thread {
  #follows = true;

  /** @param {import("./view-parts.js").Ui} ui */
  constructor(ui) {
    const { words } = ui;
    this.ui = ui;
    this.turns = new Turns(ui);
    this.welcome = h("p", { class: "welcome", text: words.welcome });
    this.log = h(
      "div",
      { class: "log", role: "log", "aria-live": "off", "aria-label": words.conversation, tabindex: 0 },
      this.welcome,
      this.turns.element,
    );
    this.newest = h(
      "button",
      { type: "button", class: "newest", onclick: () => this.toEnd() },
      icon("newest"),
      words.newest,
    );
    this.newest.hidden = true;
    this.element = h("div", { class: "thread" }, this.log, this.newest);
    this.log.onkeydown = (event) => this.turns.walk(event);
    this.log.onscroll = () => this.#scrolled();
    this.sizes = new ResizeObserver(() => this.#follows && this.toEnd());
    this.sizes.observe(this.log);
  }

  /** @param {import("./state.js").Conversation} conversation @param {{canWrite: boolean, title: string, loading: boolean}} facts */
  update(conversation, { canWrite, title, loading }) {
    this.turns.update(conversation, canWrite);
    this.log.setAttribute("aria-label", title || this.ui.words.conversation);
    setText(this.welcome, loading ? this.ui.words.loading : this.ui.words.welcome);
    this.welcome.hidden = conversation.turns.length > 0;
    if (this.#follows) this.toEnd();
    else this.#scrolled();
  }

  toEnd() {
    this.#follows = true;
    this.log.scrollTop = this.log.scrollHeight;
    this.newest.hidden = true;
  }

  /** The message with the seq, or the answer that it is a part of. @param {number} seq */
  show(seq) {
    const element = this.turns.elementAt(seq);
    if (!element) return;
    this.#follows = false;
    element.scrollIntoView({ block: "center" });
    element.classList.add("sought");
    element.focus({ preventScroll: true });
  }

  /** A reader who has scrolled up stays there. */
  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR;
    this.newest.hidden = this.#follows;
  }
}

/** Tells each finished message once, with its author. */
export class Announcer {
  constructor(words) {
    this.words = words;
    this.element = h("div", { class: "hidden announcer", "aria-live": "polite", "aria-relevant": "additions" });
  }

  /** @param {string} text */
  say(text) {
    this.element.append(h("p", { text: text.slice(0, LONGEST) }));
    while (this.element.children.length > KEPT) this.element.firstChild.remove();
  }

  /** @param {import("./state.js").Turn} turn */
  finished(turn) {
    const { words } = this;
    const isAnswer = turn.kind === "answer";
    const author = isAnswer
      ? turn.agent || words.assistant
      : turn.mine
        ? words.you
        : turn.author?.label || words.somebody;
    const ending = isAnswer && { failed: turn.error?.message || words.failed, cancelled: words.stopped }[turn.status];
    const said = isAnswer ? spoken(turn.text, words) : turn.text.trim();
    const text = [said, ending].filter(Boolean).join(" ");
    if (text) this.say(fill(words.announce, { author, text }));
  }
}

/** Others who have the conversation open, and who of them types. */
export class Presence {
  constructor(words) {
    this.words = words;
    this.faces = h("ul", { class: "faces", part: "faces" });
    this.typing = h("p", { class: "typing", role: "status", dir: "auto" });
    this.faces.hidden = true;
  }

  /** @param {import("./state.js").Conversation} conversation */
  update({ participants, me }) {
    const others = participants.filter(({ kind, id }) => !(me && kind === me.kind && id === me.id));
    const names = others.map(({ label }) => label);
    this.faces.hidden = others.length === 0;
    this.faces.title = fill(this.words.present, { names: names.join(", ") });
    this.faces.setAttribute("aria-label", this.faces.title);
    setChildren(
      this.faces,
      others.slice(0, FACES).map((other) => this.#face(other.label)),
    );
    if (others.length > FACES) this.faces.append(h("li", { text: `+${others.length - FACES}` }));
    const writers = others.filter(({ typing }) => typing).map(({ label }) => label);
    const word = ["", "typingOne", "typingTwo"][writers.length] ?? "typingMany";
    setText(this.typing, word && fill(this.words[word], { name: writers[0], other: writers[1] }));
  }

  #face(label) {
    return h(
      "li",
      {},
      h("span", { "aria-hidden": "true", text: initials(label) }),
      h("span", { class: "hidden", text: label }),
    );
  }
}

export class Banner {
  constructor(words) {
    this.words = words;
    this.element = h("p", { class: "banner", role: "status", dir: "auto" });
  }

  /** @param {string} state the connection's @param {string} why */
  update(state, why) {
    const refused = why === this.words.gone ? why : fill(this.words.refused, { why });
    const text = { offline: this.words.offline, refused }[state] ?? "";
    setText(this.element, text);
    this.element.classList.toggle("shown", text !== "");
    this.element.classList.toggle("final", state === "refused");
  }
}
