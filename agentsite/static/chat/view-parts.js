/** How the parts of an answer look: text, thoughts, steps, calls of tools. Each view's `update` takes its part anew. */

import { ApprovalView } from "./view-approval.js";
import { copied, h, icon, setAttribute, setChildren, setText } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const MAX_SHOWN = 20_000; // characters of arguments or of a result

/**
 * @typedef {object} Ui
 * @property {Record<string, string>} words
 * @property {() => boolean} canWrite may the reader write here?
 * @property {() => boolean} canDecide about calls of tools?
 * @property {(said: import("./state.js").Said) => {count: number, others: number, answers: number}} replacedBy
 * @property {Record<string, (...given: any[]) => void>} actions retry, regenerate, resend, rate, fork, decide
 */

class TextView {
  /** @param {Ui} ui */
  constructor(ui) {
    this.markdown = new MarkdownView(ui.words, (text, button) => copied(button, text, ui.words.copied));
    this.element = this.markdown.element;
  }

  update(part) {
    this.element.classList.toggle("refusal", Boolean(part.refusal));
    this.element.classList.toggle("growing", !part.done);
    this.markdown.update(part.text, part.done);
  }
}

class NoticeView {
  constructor(ui) {
    this.ui = ui;
    this.element = h("p", { class: "notice" });
  }

  update({ text }) {
    setText(this.element, text || this.ui.words.emptyAnswer);
  }
}

/** What opens and closes, with an icon, a name and a state. */
function fold(kind, image, ...body) {
  const name = h("span", { class: "fold-name", dir: "auto" });
  const state = h("span", { class: "fold-state" });
  const head = h("summary", {}, icon(image), name, state, icon("open"));
  return {
    element: h("details", { class: `fold ${kind}` }, head, h("div", { class: "fold-body" }, ...body)),
    name,
    state,
  };
}

class ReasoningView {
  constructor(ui) {
    this.ui = ui;
    this.text = h("div", { class: "thoughts", dir: "auto" });
    Object.assign(this, fold("reasoning", "thought", this.text));
  }

  update({ text, done }) {
    setText(this.name, done ? this.ui.words.reasoning : this.ui.words.reasoningNow);
    this.element.classList.toggle("busy", !done);
    setText(this.text, text);
  }
}

class StepView {
  constructor(ui) {
    this.ui = ui;
    this.parts = new PartsView(ui);
    this.fault = h("p", { class: "fault", dir: "auto" });
    Object.assign(this, fold("step", "step", this.fault, this.parts.element));
  }

  update({ name, done, fault, parts }, run) {
    const { words } = this.ui;
    setText(this.name, name);
    setText(this.state, fault ? words.toolFailed : done ? words.toolDone : words.toolRunning);
    this.element.classList.toggle("busy", !done && !fault);
    this.element.classList.toggle("failed", Boolean(fault));
    setText(this.fault, fault);
    this.fault.hidden = !fault;
    this.parts.update(parts, run);
  }
}

const STATES = {
  busy: "toolRunning",
  failed: "toolFailed",
  denied: "toolDenied",
  asks: "toolWaiting",
  done: "toolDone",
  cut: "stopped",
};

class ToolView {
  constructor(ui) {
    this.ui = ui;
    this.args = section(ui.words.arguments);
    this.result = section(ui.words.result);
    this.approval = new ApprovalView(ui);
    Object.assign(this, fold("tool", "tool", this.args.element, this.result.element));
    this.details = this.element;
    this.element = h("div", { class: "tool-call" }, this.details, this.approval.element);
  }

  update(part, run) {
    const state = this.#state(part, run);
    setText(this.name, part.name);
    setText(this.state, this.ui.words[STATES[state]]);
    setAttribute(this.details, "data-state", state);
    this.details.classList.toggle("busy", state === "busy");
    this.args.show(pretty(part.args));
    this.result.show(part.result === null ? "" : pretty(part.result));
    this.approval.update(part, run);
  }

  #state(part, run) {
    if (part.approval?.status === "pending") return "asks";
    if (part.approval?.status === "denied") return "denied";
    if (part.approval?.status === "deciding") return "busy"; // who decided, and what, is being asked
    if (part.result !== null) return part.failed ? "failed" : "done";
    return run.isOver ? "cut" : "busy";
  }
}

function section(title) {
  const text = h("pre", { tabindex: 0, role: "group", "aria-label": title, dir: "auto" });
  const element = h("div", { class: "section" }, h("h4", { text: title }), text);
  const show = (value) => {
    element.hidden = !value;
    setText(text, value);
  };
  return { element, show };
}

/** JSON with its lines, and anything else as it is. */
export function pretty(text) {
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // It is no JSON, or not all of it yet.
  }
  return shown.length > MAX_SHOWN ? `${shown.slice(0, MAX_SHOWN)}…` : shown;
}

const VIEWS = { text: TextView, notice: NoticeView, reasoning: ReasoningView, step: StepView, tool: ToolView };

/** Parts in their order; each keeps its element. */
export class PartsView {
  #views = new Map();

  constructor(ui) {
    this.ui = ui;
    this.element = h("div", { class: "parts" });
  }

  /** @param {import("./answer.js").Part[]} parts @param {import("./answer.js").Answer} run */
  update(parts, run) {
    const kept = new Map(parts.map((part) => [part.key, this.#views.get(part.key) ?? new VIEWS[part.kind](this.ui)]));
    this.#views = kept;
    for (const part of parts) kept.get(part.key).update(part, run);
    setChildren(
      this.element,
      [...kept.values()].map(({ element }) => element),
    );
  }
}
