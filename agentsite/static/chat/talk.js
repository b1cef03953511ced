/** One conversation with the server: opens and follows its session, sends, stops, decides. No DOM here. */

import { Connection } from "./connection.js";
import { Conversation } from "./state.js";

const TYPING_EVERY = 3000; // milliseconds
const REFRESH_AFTER = 200;
const TITLE_AFTER = 5000; // by then a model has made a title from the first answer
const AGAIN_AFTER = 1000;
const OPEN_AGAIN = 3000;

/**
 * @typedef {object} Host
 * @property {Record<string, string>} words
 * @property {() => void} changed
 * @property {(turn: import("./state.js").Turn) => void} finished
 * @property {(tool: string) => void} asked its call needs approval
 * @property {(text: string, why: string) => void} returned a text that was not taken
 * @property {(error: Error) => void} failed
 * @property {(name: string, detail: object) => void} tell an event of the element
 */

export class Talk {
  /** @type {any} the session, as REST tells it */
  session = null;
  state = "idle";
  why = "";
  isLoading = false;
  #tail = { cursor: null, after: 0 }; // the last page of messages: what leads to it, and the seq before its first
  #typed = 0;
  #told = new Set(); // ids of interrupts
  #timers = new Set();
  #isOver = false;
  #opening = null;
  /** @type {(() => void)[]} what waits for the session that is being opened */
  #waiting = [];
  #refreshing = 0;

  /** @param {import("./api.js").Api} api @param {string | null} agent of new sessions @param {Host} host */
  constructor(api, agent, host) {
    Object.assign(this, { api, agent, host });
    this.conversation = new Conversation({
      changed: () => host.changed(),
      finished: (turn) => this.isLoading || host.finished(turn),
      decided: (answer) => this.#decided(answer),
      ended: () => this.#refreshSoon(),
      returned: (said, why) => host.returned(said.text, why),
    });
    this.connection = new Connection(api, {
      frame: (frame) => this.#heard(frame),
      ready: () => this.#ready(),
      tooBig: () => this.conversation.pending.forEach((said) => this.conversation.giveBack(said, host.words.tooBig)),
      state: (state, why = "", code = "") => {
        Object.assign(this, { state, why });
        if (state === "refused") {
          this.conversation.abandon(why);
          this.#tell("agent-chat-refused", { id: this.session.id, code, message: why });
        }
        host.changed();
      },
    });
  }

  /** For good: what was said before is still sent, and nothing is told any more. */
  close() {
    this.#isOver = true;
    if (this.#isLeft || this.connection.isReady) this.connection.close();
    this.#timers.forEach(clearTimeout);
  }

  get #isLeft() {
    return this.#isOver && this.conversation.pending.length === 0;
  }

  #tell(name, detail) {
    if (!this.#isOver) this.host.tell(name, detail);
  }

  get isRunning() {
    return this.conversation.open.length > 0;
  }

  /** May this person write here, as far as is known? */
  get canWrite() {
    return this.state !== "refused" && this.session?.role !== "viewer" && (this.session?.status ?? "open") === "open";
  }

  /** May this person decide about calls of tools? Guests may not. */
  get canDecide() {
    return this.canWrite && this.conversation.me?.kind !== "guest";
  }

  /** @param {string} id */
  async open(id) {
    this.isLoading = true;
    this.host.changed();
    try {
      this.conversation.me = await this.api.me();
      this.#take(await this.api.call("GET", `sessions/${encodeURIComponent(id)}`));
    } catch (error) {
      if (!this.#isOver) this.#unopened(id, error);
      return;
    }
    if (!this.#isLeft) this.connection.open(this.session.id);
  }

  /** Refused, or else to be tried again. */
  #unopened(id, error) {
    const isRefused = error.status >= 400 && error.status < 500 && error.status !== 429;
    Object.assign(this, isRefused ? { state: "refused", why: error.message, isLoading: false } : { state: "offline" });
    if (isRefused) {
      this.conversation.abandon(error.message);
      this.host.failed(error);
    } else this.#later(Math.max(OPEN_AGAIN, error.retryAfter * 1000), () => this.open(id));
    this.host.changed();
  }

  /** A visitor who comes back: where they talked last. Without such a session, the next message makes one. */
  async latest() {
    this.isLoading = true;
    this.host.changed();
    await this.#guarded(async () => {
      const { data } = await this.api.call("GET", "sessions?mine=true&limit=1");
      if (data.length && !this.#isLeft) return this.open(data[0].id);
      this.isLoading = false;
      this.#waiting.splice(0).forEach((go) => go());
      this.host.changed();
    });
  }

  #take(session) {
    const { title: told, role } = this.session ?? {};
    this.session = session;
    this.#waiting.splice(0).forEach((go) => go());
    if (session.title !== told) this.#tell("agent-chat-title", { id: session.id, title: session.title });
    if (session.role !== role) this.#tell("agent-chat-role", { id: session.id, role: session.role });
    this.host.changed();
  }

  /** A failure of what was asked for, told to the person. */
  async #guarded(work) {
    try {
      await work();
    } catch (error) {
      if (this.#isOver) return;
      this.isLoading = false;
      this.#waiting.splice(0).forEach((go) => go());
      this.host.failed(error);
    }
  }

  /** As `#guarded`; whoever may no longer read the session is told that it is closed to them. */
  #reading(work) {
    return this.#guarded(async () => {
      try {
        await work();
      } catch (error) {
        if (![401, 403, 404].includes(error.status)) throw error;
        this.isLoading = false;
        this.connection.refuse(error.message, error.code);
      }
    });
  }

  #later(milliseconds, work) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, milliseconds);
    this.#timers.add(timer);
    return timer;
  }

  /** The socket listens, for the first time or again. */
  async #ready() {
    for (const cursor of this.conversation.cursors) this.connection.send({ type: "since", ...cursor });
    this.conversation.pending.forEach((said) => this.#transmit(said));
    if (this.#isOver) return this.connection.close();
    this.#tail = { cursor: null, after: 0 }; // whatever was replaced meanwhile
    await this.#reading(async () => {
      if (!this.isLoading) await this.#retake(); // with the role of now
      await this.#load();
      const { data } = await this.api.call("GET", `sessions/${this.session.id}/runs?limit=1`);
      if (data.length) this.conversation.ended(data[0]);
      this.isLoading = false;
      this.host.changed();
    });
    return undefined;
  }

  async #load() {
    const replacements = this.conversation.replacements;
    const tail = this.#tail; // another load may move it
    const { rows, cursor, before } = await this.api.all(`sessions/${this.session.id}/messages`, tail.cursor);
    if (replacements !== this.conversation.replacements) return this.#load();
    this.conversation.load(rows, tail.after);
    this.#tail = { cursor, after: before?.seq ?? tail.after };
    return undefined;
  }

  /** Ids, places and feedback of what the last run stored, and the title. */
  #refreshSoon() {
    if (this.#refreshing) return;
    this.#refreshing = this.#later(REFRESH_AFTER, () => {
      this.#refreshing = 0;
      this.#reading(() => this.#refresh());
    });
  }

  async #refresh() {
    this.#tell("agent-chat-answer", { id: this.session.id });
    await this.#load();
    await this.#retake();
    this.#later(TITLE_AFTER, () => this.#reading(() => this.#retake()));
  }

  async #retake() {
    this.#take(await this.api.call("GET", `sessions/${this.session.id}`));
  }

  #heard(frame) {
    if (frame.type === "error") this.#fault(frame);
    else if (frame.type !== "CUSTOM" || frame.name !== "resume") this.conversation.receive(frame);
    if (frame.type === "RUN_FINISHED" && frame.outcome?.type === "interrupt")
      frame.outcome.interrupts.forEach((one) => this.#asked(one));
    if (frame.type === "CUSTOM" && frame.name === "presence") this.#present(frame.value);
  }

  /** The socket has the person's role of now; the session may have been read before that was changed. */
  #present(value) {
    this.#tell("agent-chat-presence", value);
    const me = value.participants.find(({ id }) => id === this.conversation.me?.id);
    if (me && me.role !== this.session.role) this.#reading(() => this.#retake());
  }

  /** Each question is told once, though it may come again. */
  #asked({ id, metadata }) {
    if (!this.#told.has(id)) this.host.asked(metadata.tool);
    this.#told.add(id);
  }

  /** One with a key is of that message; one with a place means that the run must be asked for again. */
  #fault({ error, metadata }) {
    const { run_id, seq, idempotency_key: key } = metadata ?? {};
    const { pending } = this.conversation;
    const isUnread = !metadata && error.type === "invalid_request_error"; // of what was sent first
    const said = isUnread ? pending[0] : pending.find(({ clientId }) => clientId === key);
    if (seq !== undefined) this.#later(AGAIN_AFTER, () => this.connection.send({ type: "since", run_id, seq }));
    else if (said) this.conversation.giveBack(said, error.message);
    else this.host.failed(Object.assign(new Error(error.message), { code: error.code }));
  }

  /** @param {string} text @param {object} [forwarded] AG-UI's `forwardedProps` */
  async send(text, forwarded = {}) {
    this.#typed = 0; // the server takes it that nothing is typed any more
    const said = this.conversation.say(text, forwarded);
    try {
      await this.#ensureSession();
      this.#transmit(said);
    } catch (error) {
      this.conversation.giveBack(said, error.message);
    }
  }

  async #ensureSession() {
    if (this.isLoading && !this.session) await new Promise((go) => this.#waiting.push(go));
    if (this.session) return undefined;
    this.#opening ??= this.#make().finally(() => (this.#opening = null));
    return this.#opening;
  }

  async #make() {
    this.conversation.me = await this.api.me();
    this.session = await this.api.call("POST", "sessions", this.agent ? { agent: this.agent } : {});
    this.#tell("agent-chat-session", { id: this.session.id });
    this.connection.open(this.session.id);
  }

  /** Once more does no harm: the server knows it by its key. */
  #transmit({ clientId, text, forwarded }) {
    this.#run([{ id: clientId, role: "user", content: text }], forwarded, clientId);
  }

  #run(messages, forwardedProps, key) {
    const input = {
      threadId: this.session.id,
      runId: key,
      state: {},
      tools: [],
      context: [],
      messages,
      forwardedProps,
    };
    const agent = this.session.agent ? {} : { agent: this.agent };
    return this.connection.send({ type: "run", input, ...agent, idempotency_key: key });
  }

  /** The run that is under way; those that wait have their turn then. */
  stop() {
    const [running] = this.conversation.open;
    if (running) this.#guarded(() => this.api.call("POST", `runs/${running.runId}/cancel`));
  }

  typing() {
    if (Date.now() - this.#typed < TYPING_EVERY || !this.session) return;
    if (this.connection.send({ type: "typing" })) this.#typed = Date.now();
  }

  /** What a run that failed was asked, asked again in its place. @param {import("./answer.js").Answer} answer */
  retry(answer) {
    const said = this.conversation.turns.filter((turn) => turn.kind === "said" && turn.runId === answer.runId);
    if (said.length === 0) return this.regenerate(answer);
    return this.resend(said[0], said.map(({ text }) => text).join("\n\n"));
  }

  /** @param {import("./answer.js").Answer} answer the last one */
  regenerate(answer) {
    const isSent = this.#run([], { replace_from: answer.seq }, crypto.randomUUID());
    if (!isSent) this.host.failed(new Error(this.host.words.offline));
  }

  /** @param {import("./state.js").Said} said @param {string} text in its place */
  resend(said, text) {
    this.send(text, { replace_from: said.seq ?? said.messageId });
  }

  /** @param {import("./answer.js").Answer} answer @param {"up" | "down"} rating a second time takes it back */
  rate(answer, rating) {
    const path = `sessions/${this.session.id}/messages/${answer.messageId}/feedback`;
    const again = answer.feedback?.mine === rating;
    return this.#guarded(async () => {
      await (again ? this.api.call("DELETE", path) : this.api.call("PUT", path, { rating }));
      answer.feedback = { ...answer.feedback, mine: again ? null : rating };
      answer.revision += 1;
      this.host.changed();
    });
  }

  async decide(run, approval, payload) {
    Object.assign(approval, { status: "deciding", fault: "" });
    this.#changed(run);
    try {
      const resume = [{ interruptId: approval.id, status: "resolved", payload }];
      await this.api.call("POST", `runs/${run.runId}/resume`, { resume });
    } catch (error) {
      if (approval.status === "deciding") Object.assign(approval, { status: "pending", fault: error.message });
      if (error.status === 409) await this.#decided(run);
    }
    this.#changed(run);
  }

  #changed(turn) {
    turn.revision += 1;
    this.host.changed();
  }

  /** Who decided, and what. @param {import("./answer.js").Answer} answer */
  #decided(answer) {
    const open = answer.approvals.filter(({ by }) => by === undefined);
    return this.#guarded(async () => {
      for (const { id } of open) this.conversation.decide(await this.api.call("GET", `approvals/${id}`));
    });
  }
}
