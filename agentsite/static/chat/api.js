/** REST: who asks (a signed-in member, a guest or a visitor of a widget), errors, lists. */

const UNREADABLE = 6; // answers in a row that a page of another origin may not read, until its key counts as revoked
const EARLY = 30; // seconds before its end at which a token is renewed

/** What the server, or the way to it, has against a request; `status` is 0 when there was no answer. */
export class ApiError extends Error {
  /** @param {string} message @param {{code?: string, status?: number, retryAfter?: number}} more */
  constructor(message, { code = "network", status = 0, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { code, status, retryAfter });
  }
}

/** A member of the tenant, by the session cookie of this site. */
export class Member {
  /** @param {string} tenant its slug */
  constructor(tenant) {
    this.tenant = tenant;
  }

  async headers() {
    const csrf = document.cookie.match(/(?:^|; )csrftoken=([^;]*)/)?.[1] ?? "";
    return { "X-Tenant": this.tenant, "X-CSRFToken": csrf };
  }

  /** Nothing can be renewed: the person must sign in again. */
  renew() {
    return false;
  }
}

/** Somebody without an account, by a token that is renewed with their secret. */
class Bearer {
  #token = "";
  #until = 0;
  /** @type {Promise<void> | null} */
  #asking = null;

  async headers() {
    if (Date.now() > this.#until) await (this.#asking ??= this.#ask());
    return { Authorization: `Bearer ${this.#token}` };
  }

  renew() {
    this.#until = 0;
    return true;
  }

  async #ask() {
    try {
      const { token, expires_in } = await this.issue();
      this.#token = token;
      this.#until = Date.now() + (expires_in - EARLY) * 1000;
    } finally {
      this.#asking = null;
    }
  }
}

/** Somebody who was invited. */
export class Guest extends Bearer {
  /** @param {string} base @param {string} secret */
  constructor(base, secret) {
    super();
    Object.assign(this, { base, secret });
  }

  issue() {
    return request(`${this.base}/v1/guest-tokens`, "POST", { secret: this.secret });
  }
}

/** A visitor of a page that has the widget. The browser keeps their secret, so that they find their sessions again. */
export class Visitor extends Bearer {
  /** @param {string} base @param {string} key the publishable key */
  constructor(base, key) {
    super();
    Object.assign(this, { base, key, store: `agent-chat ${base} ${key}` });
  }

  /** Has this browser been here before? */
  get isKnown() {
    return Boolean(this.secret ?? storage()?.getItem(this.store));
  }

  async issue() {
    const store = storage();
    const secret = this.secret ?? store?.getItem(this.store);
    const headers = { Authorization: `Bearer ${this.key}` };
    const found = await request(`${this.base}/v1/visitors`, "POST", secret ? { secret } : {}, headers);
    this.secret = found.secret;
    this.me = { kind: "guest", id: found.visitor_id, label: "" };
    store?.setItem(this.store, found.secret);
    return found;
  }
}

/** Null where the browser allows none: then a visitor is somebody new on each page. */
function storage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

export class Api {
  #unreadable = 0;

  /**
   * @param {string} base origin of the server @param {Member | Guest | Visitor} who
   * @param {string} gone what is said of a widget whose key was revoked
   */
  constructor(base, who, gone) {
    Object.assign(this, { base, who, gone });
  }

  /** @param {string} method @param {string} path below /v1/ @param {object} [body] @returns {Promise<any>} */
  async call(method, path, body) {
    try {
      const answer = await this.#call(method, path, body);
      this.#unreadable = 0;
      return answer;
    } catch (error) {
      throw await this.#judged(error);
    }
  }

  /** A page whose key was revoked may read no answer, not even why: it sees only that the server is there. */
  async #judged(error) {
    if (error.status !== 0 || !(this.who instanceof Visitor)) this.#unreadable = 0;
    else if (await isThere(this.base)) this.#unreadable += 1;
    return this.#unreadable < UNREADABLE ? error : new ApiError(this.gone, { code: "gone", status: 403 });
  }

  async #call(method, path, body) {
    const url = `${this.base}/v1/${path}`;
    try {
      return await request(url, method, body, await this.who.headers());
    } catch (error) {
      if (error.status !== 401 || !this.who.renew()) throw error;
      return request(url, method, body, await this.who.headers());
    }
  }

  /** Who asks. @returns {Promise<{kind: string, id: string, label: string}>} */
  async me() {
    await this.who.headers();
    return this.who.me ?? (await this.call("GET", "me")).principal;
  }

  /** The rows of a list from a cursor on, the cursor that led to the last of its pages, and the row `before` that page. */
  async all(path, cursor) {
    const rows = [];
    let before = null;
    for (;;) {
      const page = await this.call("GET", `${path}?limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
      rows.push(...page.data);
      if (!page.has_more) return { rows, cursor, before };
      before = page.data.at(-1);
      cursor = page.next_cursor;
    }
  }
}

/** Does the server answer, readable or not? */
function isThere(base) {
  const options = { mode: "no-cors", credentials: "omit", cache: "no-store" };
  return fetch(`${base}/v1/health`, options).then(
    () => true,
    () => false,
  );
}

async function request(url, method, body, headers = {}) {
  const told = body === undefined ? headers : { ...headers, "Content-Type": "application/json" };
  const options = { method, headers: told, body: body && JSON.stringify(body), credentials: "same-origin" };
  const response = await fetch(url, options).catch(() => {
    throw new ApiError("The server cannot be reached.");
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  const { message = `The server answered ${response.status}.`, code = "" } = answer?.error ?? {};
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw new ApiError(message, { code, status: response.status, retryAfter });
}
