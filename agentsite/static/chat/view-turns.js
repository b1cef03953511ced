/** One turn of the conversation: what a person said, or what a run answered, with what can be done about it. */

import { copied, h, icon, iconButton, setAttribute, setChildren, setText } from "./dom.js";
import { fill } from "./strings.js";
import { PartsView } from "./view-parts.js";

/** @param {string} label */
export function initials(label) {
  const words = label
    .trim()
    .split(/[\s._@-]+/u)
    .filter(Boolean);
  return (
    words
      .slice(0, 2)
      .map((word) => [...word][0].toUpperCase())
      .join("") || "?"
  );
}

export class SaidView {
  /** @param {import("./view-parts.js").Ui} ui */
  constructor(ui) {
    this.ui = ui;
    this.isEditing = false;
    const { words } = ui;
    this.name = h("bdi");
    this.author = h("div", { class: "author" }, this.name);
    this.text = h("div", { class: "bubble", dir: "auto" });
    this.status = h("div", { class: "status" });
    const copy = iconButton("copy", words.copy, () => copied(copy, this.turn.text, words.copied));
    this.edit = iconButton("edit", words.edit, () => this.#edit());
    this.fork = iconButton("fork", words.fork, () => ui.actions.fork(this.turn));
    this.actions = h("div", { class: "actions" }, copy, this.edit, this.fork);
    this.element = h(
      "article",
      { class: "turn said", tabindex: -1 },
      this.author,
      this.text,
      this.status,
      this.actions,
    );
  }

  /** @param {import("./state.js").Said} turn @param {{canWrite: boolean, waits: boolean, busy: boolean}} facts */
  update(turn, facts) {
    const { words } = this.ui;
    this.turn = turn;
    const name = turn.mine ? words.you : turn.author?.label || words.somebody;
    this.element.classList.toggle("mine", turn.mine);
    setAttribute(this.element, "data-status", turn.status);
    setAttribute(this.element, "aria-label", name);
    setText(this.name, name);
    setText(this.text, turn.text);
    setText(this.status, turn.status === "sent" ? "" : facts.waits ? words.waiting : words.sending);
    this.actions.hidden = turn.status !== "sent" || this.isEditing;
    this.edit.hidden = !(turn.mine && facts.canWrite && turn.seq !== null && !facts.busy);
    this.fork.hidden = turn.seq === null;
  }

  /** What is asked before more is replaced than the message and its answer. */
  #loss() {
    const { words, replacedBy } = this.ui;
    const loss = replacedBy(this.turn);
    if (loss.others === 0 && loss.answers < 2) return "";
    return fill(loss.others ? words.replacesOthers : words.replaces, loss);
  }

  #edit() {
    const { words, actions } = this.ui;
    const field = h("textarea", { class: "edit", "aria-label": words.edit, dir: "auto" });
    field.value = this.turn.text;
    const close = () => {
      form.replaceWith(this.text);
      this.actions.hidden = this.isEditing = false;
      this.edit.focus();
    };
    const warning = h("p", { class: "notice", role: "alert" });
    const send = () => {
      if (!field.value.trim()) return;
      const loss = this.#loss();
      if (loss && warning.textContent !== loss) return ask(loss);
      close();
      actions.resend(this.turn, field.value.trim());
    };
    const ask = (loss) => {
      setText(warning, loss);
      setText(save, words.replace);
    };
    const save = h("button", { type: "button", class: "primary", text: words.save, onclick: send });
    const cancel = h("button", { type: "button", class: "plain-button", text: words.cancel, onclick: close });
    const form = h(
      "div",
      { class: "bubble editing", onkeydown: (event) => onEditKey(event, () => warning.textContent || send(), close) },
      field,
      warning,
      h("div", { class: "row" }, cancel, save),
    );
    this.text.replaceWith(form);
    this.actions.hidden = this.isEditing = true;
    field.focus();
  }
}

/** @param {KeyboardEvent} event @param {() => void} send not twice by Enter: what is asked then is answered by a button */
function onEditKey(event, send, close) {
  if (event.isComposing) return;
  if (event.key === "Escape") close();
  else if (event.key === "Enter" && !event.shiftKey && event.target.tagName === "TEXTAREA") send();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

export class AnswerView {
  /** @param {import("./view-parts.js").Ui} ui */
  constructor(ui) {
    this.ui = ui;
    const { words, actions } = ui;
    this.name = h("bdi");
    this.author = h("div", { class: "author" }, this.name);
    this.parts = new PartsView(ui);
    this.dots = h("div", { class: "dots", role: "img", "aria-label": words.thinking }, h("i"), h("i"), h("i"));
    this.fault = h("p", { class: "fault-text", dir: "auto" });
    const retry = h(
      "button",
      { type: "button", class: "plain-button", onclick: () => actions.retry(this.turn) },
      icon("retry"),
      words.retry,
    );
    this.retry = retry;
    this.error = h("div", { class: "failure" }, icon("warning"), this.fault, retry);
    this.stopped = h("p", { class: "notice", text: words.stopped });
    const copy = iconButton("copy", words.copy, () => copied(copy, this.turn.text, words.copied));
    this.again = iconButton("retry", words.regenerate, () => actions.regenerate(this.turn));
    this.up = iconButton("up", words.good, () => actions.rate(this.turn, "up"));
    this.down = iconButton("down", words.bad, () => actions.rate(this.turn, "down"));
    this.fork = iconButton("fork", words.fork, () => actions.fork(this.turn));
    this.actions = h("div", { class: "actions" }, copy, this.again, this.up, this.down, this.fork);
    const body = h(
      "div",
      { class: "answer-body" },
      this.author,
      this.parts.element,
      this.dots,
      this.stopped,
      this.error,
      this.actions,
    );
    this.element = h(
      "article",
      { class: "turn answer", tabindex: -1 },
      h("div", { class: "avatar", "aria-hidden": "true" }, icon("agent")),
      body,
    );
  }

  /**
   * @param {import("./answer.js").Answer} turn
   * @param {{canWrite: boolean, busy: boolean, isLast: boolean}} facts
   */
  update(turn, facts) {
    const { words } = this.ui;
    this.turn = turn;
    const name = turn.agent || words.assistant;
    setText(this.name, name);
    setAttribute(this.element, "aria-label", name);
    setAttribute(this.element, "aria-busy", turn.status === "running" && "true");
    this.parts.update(turn.parts, turn);
    this.dots.hidden = turn.status !== "running" || isSpeaking(turn);
    this.stopped.hidden = turn.status !== "cancelled";
    this.error.hidden = turn.status !== "failed";
    setText(this.fault, turn.error?.message || words.failed);
    this.#offer(turn, facts);
  }

  #offer(turn, { canWrite, busy, isLast }) {
    const known = turn.messageId !== null;
    this.retry.hidden = !(canWrite && isLast && !busy);
    this.actions.hidden = !turn.isOver || !(turn.text || known);
    this.again.hidden = !(canWrite && isLast && !busy && turn.seq !== null);
    this.fork.hidden = !known;
    for (const [button, rating] of [
      [this.up, "up"],
      [this.down, "down"],
    ]) {
      button.hidden = !(known && canWrite);
      setAttribute(button, "aria-pressed", String(turn.feedback?.mine === rating));
    }
  }
}

/** Is text of the answer coming in at its end? */
function isSpeaking(turn) {
  const last = turn.parts.at(-1);
  return last?.kind === "text" && !last.done && last.text !== "";
}

/** All turns in their order; each keeps its element. */
export class Turns {
  #views = new Map();
  #shown = new Map(); // what each view was last told, by the turn's key
  #stop = null;

  /** @param {import("./view-parts.js").Ui} ui */
  constructor(ui) {
    this.ui = ui;
    this.element = h("div", { class: "turns" });
    this.element.addEventListener("focusin", (event) => this.#entered(event));
  }

  /** @param {import("./state.js").Conversation} conversation @param {boolean} canWrite */
  update({ turns, open }, canWrite) {
    const make = (turn) => new (turn.kind === "answer" ? AnswerView : SaidView)(this.ui);
    const kept = new Map(turns.map((turn) => [turn.key, this.#views.get(turn.key) ?? make(turn)]));
    this.#views = kept;
    const last = turns.at(-1);
    const facts = { canWrite, busy: open.length > 0, waits: open.length > 0 };
    for (const turn of turns) this.#show(turn, { ...facts, isLast: turn === last });
    setChildren(
      this.element,
      [...kept.values()].map(({ element }) => element),
    );
    this.#keepStop();
  }

  /** @param {number} seq @returns {HTMLElement | undefined} the last turn that begins no later */
  elementAt(seq) {
    const views = [...this.#views.values()];
    return views.findLast(({ turn }) => turn.seq !== null && turn.seq <= seq)?.element;
  }

  #show(turn, facts) {
    const told = `${turn.revision} ${Object.values(facts)}`;
    const view = this.#views.get(turn.key);
    if (this.#shown.get(turn.key) === told && turn === view.turn) return;
    this.#shown.set(turn.key, told);
    view.update(turn, facts);
    offer(view.element, view.element === this.#stop);
  }

  /** Tab reaches one of the turns and its buttons: the last one, unless the reader is on another. */
  #keepStop() {
    const here = this.element.getRootNode().activeElement?.closest("article.turn");
    this.#stopAt(here ?? this.element.lastElementChild);
  }

  #stopAt(turn) {
    if (turn === this.#stop) return;
    for (const each of [this.#stop, turn]) if (each) offer(each, each === turn);
    this.#stop = turn;
  }

  /** Whether a turn was clicked or walked to. */
  #entered(event) {
    this.#stopAt(event.target.closest("article.turn") ?? this.#stop);
  }

  /** An arrow key leads from the log, or from a turn, to another turn. */
  walk(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const turns = [...this.element.children];
    const last = turns.length - 1;
    const here = turns.indexOf(event.target);
    if (here < 0 && event.target !== event.currentTarget) return;
    const [up, down] = here < 0 ? [last, last] : [here - 1, here + 1];
    const there = turns[{ ArrowUp: up, ArrowDown: down, Home: 0, End: last }[event.key]];
    if (!there) return;
    event.preventDefault();
    there.focus();
  }
}

/** Puts a turn and its buttons into the order of Tab, or takes them out; a question about a call stays in it. */
function offer(turn, isStop) {
  turn.tabIndex = isStop ? 0 : -1;
  for (const one of turn.querySelectorAll(".actions button, .copy-code, summary")) one.tabIndex = turn.tabIndex;
}
