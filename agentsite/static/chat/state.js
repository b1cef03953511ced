/** A conversation: what people said and what the runs answered, from stored messages and from AG-UI events. No DOM here. */

import { Answer, textOf } from "./answer.js";

/**
 * @typedef {object} Said what a person said
 * @property {"said"} kind
 * @property {string} key
 * @property {string} text
 * @property {{kind: string, id: string, label: string} | null} author
 * @property {boolean} mine
 * @property {"sending" | "sent"} status
 * @property {string | null} clientId
 * @property {string | null} messageId
 * @property {number | null} seq
 * @property {string | null} runId
 * @property {object} forwarded what its run is asked besides
 * @property {number} revision
 * @typedef {Said | Answer} Turn
 * @typedef {object} Watcher
 * @property {() => void} changed something is different
 * @property {(turn: Turn) => void} finished nothing more comes of it
 * @property {(answer: Answer) => void} decided the run goes on: somebody decided about its calls
 * @property {(answer: Answer) => void} ended
 * @property {(said: Said, why: string) => void} returned it was not taken
 */

export class Conversation {
  /** @type {Turn[]} */
  turns = [];
  /** @type {{kind: string, id: string, label: string} | null} */
  me = null;
  /** @type {{kind: string, id: string, label: string, role: string, typing: boolean}[]} */
  participants = [];
  /** How often something was replaced: messages that were asked for before are no longer all of them valid. */
  replacements = 0;
  /** @type {Map<string, {answer: Answer, seq: number, events: any[]}>} */
  #runs = new Map();
  /** @type {Map<string, string>} of each stored message that has no run, as a fork's: the first message of its answer */
  #firsts = new Map();

  /** @param {Watcher} watcher */
  constructor(watcher) {
    this.watcher = watcher;
  }

  /** @returns {Answer[]} of the runs that are not over */
  get open() {
    return [...this.#runs.values()].map(({ answer }) => answer).filter((answer) => !answer.isOver);
  }

  /** @returns {Said[]} my own messages that no run has taken yet */
  get pending() {
    return this.turns.filter((turn) => turn.kind === "said" && turn.status === "sending");
  }

  /** The last seq that came of each run that is not over. */
  get cursors() {
    return [...this.#runs].filter(([, run]) => !run.answer.isOver).map(([run_id, { seq }]) => ({ run_id, seq }));
  }

  /** Before the server knows of it. @param {string} text @param {object} forwarded AG-UI's `forwardedProps` */
  say(text, forwarded) {
    const clientId = crypto.randomUUID();
    const said = this.#said({ clientId, text, author: this.me, mine: true, status: "sending", forwarded });
    this.turns.push(said);
    this.watcher.changed();
    return said;
  }

  /** What goes when something else is said in place of `said`. @param {Said} said */
  replacedBy(said) {
    const gone = this.turns.slice(this.turns.indexOf(said)).filter(({ status }) => status !== "sending");
    const others = gone.filter(({ kind, mine }) => kind === "said" && !mine).length;
    return { count: gone.length, others, answers: gone.filter(({ kind }) => kind === "answer").length };
  }

  /** @returns {Said} */
  #said(given) {
    const key = `said ${given.clientId || given.messageId}`;
    const empty = { clientId: null, messageId: null, seq: null, runId: null, forwarded: {}, revision: 0 };
    return { kind: "said", key, status: "sent", ...empty, ...given };
  }

  /** The server did not take it. @param {Said} said */
  giveBack(said, why) {
    this.turns = this.turns.filter((turn) => turn !== said);
    this.watcher.returned(said, why);
    this.watcher.changed();
  }

  /** Nothing more is told: no answer counts as under way, and what was not taken is given back. @param {string} why */
  abandon(why) {
    for (const answer of this.open) answer.apply({ type: "RUN_ERROR", message: why, code: "run_cancelled" });
    this.pending.forEach((said) => this.giveBack(said, why));
  }

  /** @param {any} event AG-UI's, with its place in `metadata` */
  receive(event) {
    const { seq, run_id: id } = event.metadata ?? {};
    if (event.type === "CUSTOM" && event.name === "presence") this.participants = event.value.participants;
    else if (id && seq) this.#receive(id, seq, event);
    this.watcher.changed();
  }

  #receive(id, seq, event) {
    let run = this.#runs.get(id);
    if (!run) this.#runs.set(id, (run = { answer: this.#answerOf(id) ?? new Answer(id), seq: 0, events: [] }));
    if (seq <= run.seq) return;
    run.seq = seq;
    if (run.events.length === 0) run.answer.reset();
    if (event.type === "CUSTOM" && event.name === "attempt_restarted") return this.#restart(run, event.value.keep);
    run.events.push(event);
    if (event.type === "RUN_STARTED") this.#started(run, event);
    if (event.type === "CUSTOM" && event.name === "heard") this.#steered(event.value);
    run.answer.apply(event);
    if (run.answer.isOver) this.#over(run);
  }

  /** Another process runs it again: what came after `keep` no longer counts. */
  #restart(run, keep) {
    run.events = run.events.filter((event) => event.metadata.seq <= keep);
    run.answer.reset();
    run.events.forEach((event) => run.answer.apply(event));
    if (run.answer.approvals.length) this.watcher.decided(run.answer);
  }

  #answerOf(id) {
    return this.turns.find((turn) => turn.kind === "answer" && turn.runId === id);
  }

  #started(run, { input, metadata }) {
    if (run.events.length > 1) return this.watcher.decided(run.answer);
    if (metadata.replaces_from) this.#replaced(metadata.replaces_from);
    run.answer.agent = metadata.agent ?? run.answer.agent;
    input.messages.forEach((message) => this.#heard(message, run.answer.runId, metadata.actor));
    if (!this.turns.includes(run.answer)) this.#place(run.answer);
  }

  /** From there on, what was said is no longer part of the conversation. */
  #replaced(seq) {
    this.replacements += 1;
    const first = this.turns.findIndex((turn) => turn.seq !== null && turn.seq >= seq);
    if (first < 0) return;
    const kept = this.turns.slice(first).filter((turn) => turn.kind === "said" && turn.status === "sending");
    this.turns = [...this.turns.slice(0, first), ...kept];
  }

  /** Messages of another run that this one takes into account. */
  #steered({ run_id, messages }) {
    for (const { author, ...message } of messages) this.#heard({ name: author?.user_id, ...message }, run_id, author);
  }

  #heard(message, runId, actor) {
    const { id, role, content } = message;
    if (role !== "user") return;
    const seq = message.metadata?.seq ?? null;
    const known = this.#known(id, id);
    if (known) return this.#sent(known, { runId, seq });
    const said = this.#said({
      messageId: id,
      seq,
      text: textOf(content),
      ...this.#authorship(actor, message.name),
      runId,
    });
    this.turns.splice(this.#beforePending(), 0, said);
    this.watcher.finished(said);
  }

  /** A program may speak for somebody of its own: then `name` is theirs. */
  #authorship(author, name) {
    const label = author?.kind === "api_key" || !author ? name || author?.label || "" : author.label;
    return { author: { kind: "", id: "", ...author, label }, mine: this.#isMine(author) };
  }

  #known(messageId, clientId) {
    const isIt = (turn) =>
      turn.messageId === messageId || (clientId && (turn.clientId === clientId || turn.messageId === clientId));
    return this.turns.find((turn) => turn.kind === "said" && isIt(turn));
  }

  #sent(said, known) {
    const first = said.status === "sending";
    Object.assign(said, known, { status: "sent", revision: said.revision + 1 });
    if (first) this.watcher.finished(said);
  }

  #isMine(author) {
    return Boolean(author && this.me && author.kind === this.me.kind && author.id === this.me.id);
  }

  /** After the messages that it answers. */
  #place(answer) {
    const last = this.turns.findLastIndex((turn) => turn.kind === "said" && turn.runId === answer.runId);
    const place = last < 0 ? this.#beforePending() : last + 1;
    this.turns.splice(place, 0, answer);
  }

  #beforePending() {
    const first = this.turns.findIndex((turn) => turn.kind === "said" && turn.status === "sending");
    return first < 0 ? this.turns.length : first;
  }

  #over(run) {
    const { answer } = run;
    const started = run.events[0]?.type === "RUN_STARTED";
    run.events = [run.events.at(-1)];
    if (answer.answeredBy) this.turns = this.turns.filter((turn) => turn !== answer);
    const ids = run.events[0].metadata?.messages ?? []; // of what is not said, as it ended before its turn
    const unsaid = this.pending.find(({ clientId }) => ids.includes(clientId));
    if (unsaid) this.giveBack(unsaid, answer.error?.message ?? "");
    if (started) this.watcher.finished(answer);
    this.watcher.ended(answer);
  }

  /**
   * What is known already is completed, and what is no longer stored goes.
   * @param {any[]} messages all stored ones with a seq above `after`, oldest first @param {number} after
   */
  load(messages, after = 0) {
    const seqs = new Set(messages.map(({ seq }) => seq));
    const isGone = ({ seq }) => seq > after && seq <= (messages.at(-1)?.seq ?? 0) && !seqs.has(seq);
    this.turns = this.turns.filter((turn) => !isGone(turn));
    for (const [place, message] of messages.entries()) {
      if (message.role === "user") this.#loadSaid(message);
      else if (message.role === "assistant" || message.role === "tool") this.#loadAnswer(message, messages[place - 1]);
    }
    this.watcher.changed();
  }

  #loadSaid({ id, client_id, seq, content, author, name, user_id, run_id: runId }) {
    const known = this.#known(id, client_id);
    if (known) return this.#sent(known, { messageId: id, seq, runId });
    const given = { messageId: id, clientId: client_id || null, seq, text: textOf(content), runId };
    this.#insert(this.#said({ ...given, ...this.#authorship(author, name || user_id) }));
  }

  #loadAnswer(message, before) {
    const id = message.run_id ?? this.#firstOf(message, before);
    const live = this.#runs.get(id)?.answer;
    let answer = live ?? this.#answerOf(id);
    if (!answer) {
      answer = Object.assign(new Answer(id), { status: "done", seq: message.seq });
      this.#insert(answer);
    }
    if (!live) return answer.addStored(message);
    answer.seq ??= message.seq;
    answer.agent = message.agent ?? answer.agent;
    answer.revision += 1;
    if (message.role === "assistant")
      Object.assign(answer, { messageId: message.id, feedback: message.feedback ?? null });
  }

  /** Without a run, an answer goes from its first message through calls and results to the text after them. */
  #firstOf({ id }, before) {
    const goesOn = before && (before.role === "tool" || before.tool_calls?.length);
    if (!this.#firsts.has(id)) this.#firsts.set(id, (goesOn && this.#firsts.get(before.id)) || id);
    return this.#firsts.get(id);
  }

  /** How the last run ended, which its messages do not tell. @param {any} run as REST tells it */
  ended({ id, error }) {
    if (this.#runs.has(id) || !error) return;
    const answer = this.#answerOf(id) ?? new Answer(id);
    if (!this.turns.includes(answer)) this.#place(answer);
    answer.RUN_ERROR(error);
    answer.revision += 1;
    this.watcher.changed();
  }

  /** By its seq; what has none yet is newer. */
  #insert(turn) {
    const place = this.turns.findIndex(({ seq }) => seq === null || seq > turn.seq);
    this.turns.splice(place < 0 ? this.turns.length : place, 0, turn);
  }

  /** @param {any} approval as REST tells it */
  decide(approval) {
    for (const turn of this.turns) {
      const found = turn.kind === "answer" && turn.approvals.find(({ id }) => id === approval.id);
      if (!found) continue;
      found.status = approval.status;
      found.by = approval.decided_by?.label ?? "";
      found.comment = approval.comment;
      found.edited = Boolean(approval.edited_arguments);
      turn.revision += 1;
    }
    this.watcher.changed();
  }
}
