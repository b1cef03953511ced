/** The socket of a session: opened by a ticket, opened again whenever it is lost. */

const UNAUTHENTICATED = 4401;
const FORBIDDEN = 4403;
const RESTART = 1012;
const TOO_BIG = 1009;
const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 15_000;
const PING_EVERY = 20_000;
const PATIENCE = 10_000; // without an answer to a ping for so long, the socket counts as lost

/**
 * @typedef {object} Listener
 * @property {(frame: any) => void} frame
 * @property {() => void} ready the socket listens: whatever begins from now on is told
 * @property {() => void} tooBig a frame was: it must not be sent again
 * @property {(state: "connecting" | "online" | "offline" | "refused", why?: string, code?: string) => void} state
 */

export class Connection {
  #socket = null;
  #ref = "";
  #failures = 0;
  #refusals = 0;
  #timers = { again: 0, ping: 0, pong: 0 };
  #attempt = 0;

  /** @param {import("./api.js").Api} api @param {Listener} listener */
  constructor(api, listener) {
    this.api = api;
    this.listener = listener;
    this.isReady = false;
    addEventListener("online", this.#hurry);
  }

  /** @param {string} ref the session's id */
  open(ref) {
    this.#drop();
    this.#ref = ref;
    this.#failures = this.#refusals = 0;
    this.#connect();
  }

  /** For good. */
  close() {
    removeEventListener("online", this.#hurry);
    this.#ref = "";
    this.#drop();
  }

  /** @param {object} frame @returns {boolean} was it handed to a socket that listens? */
  send(frame) {
    if (!this.isReady) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** The browser says that it is online again. */
  #hurry = () => {
    if (this.#ref && !this.#socket && this.#timers.again) this.#connect();
  };

  async #connect() {
    this.#drop();
    const attempt = this.#attempt;
    this.listener.state("connecting");
    try {
      const { ticket } = await this.api.call("POST", "ws-tickets");
      if (attempt === this.#attempt) this.#listen(ticket);
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
    }
  }

  /** No ticket: whoever is refused one asks no further. */
  #failed(error, code = error.code) {
    const final = error.status >= 400 && error.status < 500 && error.status !== 429;
    if (final) this.refuse(error.message, code);
    else this.#later(error.retryAfter * 1000);
  }

  #listen(ticket) {
    const url = `${this.api.base.replace(/^http/, "ws")}/ws/v1/sessions/${encodeURIComponent(this.#ref)}`;
    const socket = (this.#socket = new WebSocket(url, ["agui.v1", `ticket.${ticket}`]));
    socket.onopen = () => this.#ping();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#heard(JSON.parse(data));
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#lost(code, reason);
  }

  #ping() {
    this.#socket?.send('{"type":"ping"}');
    clearTimeout(this.#timers.pong);
    this.#timers.pong = setTimeout(() => this.#lost(0, ""), PATIENCE);
  }

  #heard(frame) {
    clearTimeout(this.#timers.pong);
    if (frame.type !== "pong") {
      this.listener.frame(frame);
      return;
    }
    this.#timers.ping = setTimeout(() => this.#ping(), PING_EVERY);
    if (this.isReady) return;
    this.isReady = true;
    this.#failures = this.#refusals = 0;
    this.listener.state("online");
    this.listener.ready();
  }

  /** A refusal may be a token's that has just ended or a role's that changed: the session says whether it is final. */
  async #lost(code, reason) {
    const attempt = this.#drop();
    if (code === TOO_BIG) this.listener.tooBig();
    if (code === UNAUTHENTICATED) this.api.who.renew();
    if (code !== UNAUTHENTICATED && code !== FORBIDDEN) return this.#later(code === RESTART ? FIRST_WAIT : 0);
    if (this.#refusals++ > 0) return this.refuse(reason, reason);
    this.listener.state("offline");
    try {
      await this.api.call("GET", `sessions/${encodeURIComponent(this.#ref)}`);
      if (attempt === this.#attempt) this.#later(0);
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error, code === FORBIDDEN ? reason : error.code);
    }
  }

  /** For good: no socket is tried again. @param {string} why @param {string} code */
  refuse(why, code) {
    this.#drop();
    this.listener.state("refused", why, code);
  }

  /** Twice as long after each failure, and never all clients at once. */
  #later(wait) {
    this.#drop();
    this.listener.state("offline");
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++);
    this.#timers.again = setTimeout(() => this.#connect(), Math.max(wait, longest * (0.5 + Math.random() / 2)));
  }

  #drop() {
    for (const name of Object.keys(this.#timers)) {
      clearTimeout(this.#timers[name]);
      this.#timers[name] = 0;
    }
    const socket = this.#socket;
    this.#socket = null;
    this.isReady = false;
    socket?.close();
    return ++this.#attempt;
  }
}
