/** What a run says, put together from its AG-UI events. No DOM here. */

/**
 * @typedef {{kind: "text", key: string, text: string, done: boolean, refusal?: boolean}} TextPart
 * @typedef {{kind: "reasoning", key: string, text: string, done: boolean}} ReasoningPart
 * @typedef {{kind: "notice", key: string, code: string, text: string}} NoticePart
 * @typedef {{kind: "step", key: string, name: string, done: boolean, fault: string, parts: Part[]}} StepPart
 * @typedef {object} Approval
 * @property {string} id
 * @property {string} message
 * @property {Record<string, any>} arguments
 * @property {boolean} canEdit
 * @property {string} expiresAt
 * @property {string} role the lowest that may decide
 * @property {"pending" | "deciding" | "approved" | "denied" | "expired" | "withdrawn"} status
 * @property {string} [by]
 * @property {boolean} [edited]
 * @property {string} [comment]
 * @property {string} [fault] why the last decision was not taken
 * @typedef {object} ToolPart
 * @property {"tool"} kind
 * @property {string} key
 * @property {string} name
 * @property {string} args JSON, perhaps not all of it yet
 * @property {string | null} result
 * @property {boolean} failed
 * @property {Approval | null} approval
 * @typedef {TextPart | ReasoningPart | NoticePart | StepPart | ToolPart} Part
 */

const READ_ONLY = new Set(["checkpoint", "resume", "heard"]);

export class Answer {
  kind = "answer";
  /** @type {number | null} place of its first message in the session */
  seq = null;
  /** @type {string | null} id of its last message */
  messageId = null;
  /** @type {{up: number, down: number, mine: string | null} | null} */
  feedback = null;
  agent = "";
  /** Counts changes: who shows it need not look at what is the same. */
  revision = 0;

  /** @param {string} runId */
  constructor(runId) {
    this.runId = runId;
    this.key = `run ${runId}`;
    this.reset();
  }

  /** As before the first event. */
  reset() {
    this.revision += 1;
    /** @type {Part[]} */
    this.parts = [];
    /** @type {Map<string, Part>} */
    this.byKey = new Map();
    /** @type {"running" | "interrupted" | "done" | "failed" | "cancelled"} */
    this.status = "running";
    /** @type {{message: string, code: string} | null} */
    this.error = null;
    this.answeredBy = null;
  }

  get isOver() {
    return this.status !== "running" && this.status !== "interrupted";
  }

  /** What the agent says to the reader, without what its steps say. */
  get text() {
    return this.parts
      .filter(({ kind }) => kind === "text")
      .map(({ text }) => text)
      .join("\n\n");
  }

  /** @returns {Approval[]} */
  get approvals() {
    return [...this.byKey.values()].flatMap((part) => (part.kind === "tool" && part.approval ? [part.approval] : []));
  }

  /** @param {any} event AG-UI's */
  apply(event) {
    this.revision += 1;
    this[event.type]?.(event);
  }

  /** @template {Part} P @param {P} part @param {any} [event] whose step it belongs to @returns {P} */
  add(part, event) {
    const known = this.byKey.get(part.key);
    if (known) return known;
    const step = event?.metadata?.step && this.#openStep(event.metadata.step);
    (step ? step.parts : this.parts).push(part);
    this.byKey.set(part.key, part);
    return part;
  }

  #openStep(name) {
    return [...this.byKey.values()].findLast((part) => part.kind === "step" && part.name === name);
  }

  RUN_STARTED() {
    this.status = "running";
    for (const approval of this.approvals) if (approval.status === "pending") approval.status = "deciding";
  }

  RUN_FINISHED({ outcome, metadata }) {
    if (outcome?.type === "interrupt") {
      this.status = "interrupted";
      outcome.interrupts.forEach((interrupt) => this.#ask(interrupt));
      return;
    }
    this.answeredBy = metadata?.answered_by ?? null;
    this.#end("done");
  }

  RUN_ERROR({ message, code }) {
    this.error = { message, code };
    this.#end(code === "run_cancelled" ? "cancelled" : "failed");
  }

  #end(status) {
    this.status = status;
    for (const part of this.byKey.values()) if ("done" in part) part.done = true;
    for (const approval of this.approvals)
      if (["pending", "deciding"].includes(approval.status)) approval.status = "withdrawn";
  }

  TEXT_MESSAGE_START(event) {
    this.add({ kind: "text", key: `text ${event.messageId}`, text: "", done: false }, event).done = false;
  }

  TEXT_MESSAGE_CONTENT(event) {
    this.add({ kind: "text", key: `text ${event.messageId}`, text: "", done: false }, event).text += event.delta;
  }

  TEXT_MESSAGE_END({ messageId }) {
    this.#done(`text ${messageId}`);
  }

  REASONING_START(event) {
    this.add({ kind: "reasoning", key: `reasoning ${event.messageId}`, text: "", done: false }, event).done = false;
  }

  REASONING_MESSAGE_CONTENT(event) {
    const fresh = { kind: "reasoning", key: `reasoning ${event.messageId}`, text: "", done: false };
    this.add(fresh, event).text += event.delta;
  }

  REASONING_END({ messageId }) {
    this.#done(`reasoning ${messageId}`);
  }

  #done(key) {
    const part = this.byKey.get(key);
    if (part) part.done = true;
  }

  TOOL_CALL_START(event) {
    this.add(toolPart(event.toolCallId, event.toolCallName), event);
  }

  TOOL_CALL_ARGS({ toolCallId, delta }) {
    this.add(toolPart(toolCallId, "")).args += delta;
  }

  TOOL_CALL_RESULT({ toolCallId, content, metadata }) {
    Object.assign(this.add(toolPart(toolCallId, "")), { result: content, failed: Boolean(metadata?.error) });
  }

  STEP_STARTED({ stepName, metadata }) {
    if (metadata?.paused) return;
    const times = [...this.byKey.values()].filter((part) => part.kind === "step" && part.name === stepName).length;
    this.add({ kind: "step", key: `step ${stepName} ${times}`, name: stepName, done: false, fault: "", parts: [] });
  }

  STEP_FINISHED({ stepName, metadata }) {
    const step = this.#openStep(stepName);
    if (step && !metadata?.paused) step.done = true;
  }

  CUSTOM({ name, value, metadata }) {
    if (READ_ONLY.has(name)) return;
    if (name === "refusal") {
      this.add(
        { kind: "text", key: `refusal ${metadata.messageId}`, text: "", done: true, refusal: true },
        { metadata },
      ).text += value;
    } else if (name === "empty_answer") {
      this.add({ kind: "notice", key: `empty ${metadata.messageId}`, code: name, text: "" }, { metadata });
    } else if (name === "step_failed") {
      const step = this.#openStep(value.step);
      if (step) step.fault = value.message;
      metadata.cut.forEach((id) => this.#remove(`text ${id}`));
    } else if (name === "message_snapshot") {
      this.#snapshot(value);
    }
  }

  /** `text` is the message from its character `start` on. */
  #snapshot({ messageId, type, start, text }) {
    const set = (part, field) => (part[field] = part[field].slice(0, start) + text);
    if (type === "TOOL_CALL_ARGS") set(this.add(toolPart(messageId, "")), "args");
    else if (type === "REASONING_MESSAGE_CONTENT")
      set(this.add({ kind: "reasoning", key: `reasoning ${messageId}`, text: "", done: false }), "text");
    else set(this.add({ kind: "text", key: `text ${messageId}`, text: "", done: false }), "text");
  }

  #remove(key) {
    const part = this.byKey.get(key);
    if (!part) return;
    this.byKey.delete(key);
    const lists = [
      this.parts,
      ...[...this.byKey.values()].flatMap((other) => (other.kind === "step" ? [other.parts] : [])),
    ];
    for (const list of lists) if (list.includes(part)) list.splice(list.indexOf(part), 1);
  }

  #ask({ id, toolCallId, message, expiresAt, responseSchema, metadata }) {
    const part = this.add(toolPart(toolCallId ?? `approval ${id}`, metadata.tool));
    const canEdit = Boolean(responseSchema.properties.editedArgs);
    const asked = {
      id,
      message,
      expiresAt,
      canEdit,
      role: metadata.role,
      arguments: metadata.arguments,
      status: "pending",
    };
    if (!toolCallId) part.args = JSON.stringify(metadata.arguments);
    part.approval = part.approval?.id === id ? Object.assign(part.approval, { status: "pending" }) : asked;
  }

  /** A stored message of the run. */
  addStored(message) {
    this.revision += 1;
    this.seq ??= message.seq;
    this.agent = message.agent ?? this.agent;
    if (message.role === "tool") return this.#storedResult(message);
    this.messageId = message.id;
    this.feedback = message.feedback ?? null;
    const text = textOf(message.content);
    if (text) this.add({ kind: "text", key: `text ${message.id}`, text, done: true });
    for (const call of message.tool_calls ?? [])
      this.add(toolPart(call.id, call.function.name)).args = call.function.arguments;
    if (message.status !== "complete") this.status = message.status;
  }

  #storedResult({ tool_call_id, content, name, status }) {
    const part = this.add(toolPart(tool_call_id, name));
    part.result = textOf(content);
    part.failed = status === "failed";
  }
}

/** @returns {ToolPart} */
function toolPart(id, name) {
  return { kind: "tool", key: `tool ${id}`, name, args: "", result: null, failed: false, approval: null };
}

/** The text of a message's content, a string or OpenAI's parts. */
export function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => part.text ?? (part.type === "image_url" ? "[image]" : "")).join("\n");
}
