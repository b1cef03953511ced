// The REST API, asked as a signed-in person in one tenant, as a guest, or as nobody yet.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? "";
  }
}

function cookie(name) {
  const found = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

async function ask(path, { method = "GET", body, headers = {}, credentials = "same-origin" } = {}) {
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const typed = sent === undefined ? headers : { ...headers, "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(`/v1/${path}`, { method, body: sent, headers: typed, credentials, cache: "no-store" });
  } catch {
    throw new ApiError(0, { error: { message: "The server cannot be reached. Check the connection and try again." } });
  }
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null));
  return response;
}

async function parsed(response) {
  return response.status === 204 ? null : response.json();
}

// `headers()` is asked before each request, so that a credential which ends is a new one by then.
export class Api {
  #headers;
  #options;

  constructor(headers = async () => ({}), options = {}) {
    this.#headers = headers;
    this.#options = options;
  }

  async raw(path, options = {}) {
    return ask(path, { ...this.#options, ...options, headers: await this.#headers() });
  }

  get = async (path) => parsed(await this.raw(path));
  post = async (path, body) => parsed(await this.raw(path, { method: "POST", body }));
  patch = async (path, body) => parsed(await this.raw(path, { method: "PATCH", body }));
  delete = async (path) => parsed(await this.raw(path, { method: "DELETE" }));

  // All pages of a list that is short by nature.
  async all(path) {
    const found = [];
    let cursor = "";
    do {
      const page = await this.get(`${path}${path.includes("?") ? "&" : "?"}limit=100${cursor}`);
      found.push(...page.data);
      cursor = page.has_more ? `&cursor=${encodeURIComponent(page.next_cursor)}` : "";
    } while (cursor);
    return found;
  }
}

export function asPerson(tenant) {
  return new Api(async () => ({ ...(tenant ? { "X-Tenant": tenant } : {}), "X-CSRFToken": cookie("csrftoken") }));
}

export function asNobody() {
  return new Api(undefined, { credentials: "omit" });
}

export function asGuest(secret) {
  let token = "";
  let until = 0;
  return new Api(
    async () => {
      if (Date.now() >= until) {
        const made = await asNobody().post("guest-tokens", { secret });
        token = made.token;
        until = Date.now() + (made.expires_in - 60) * 1000;
      }
      return { Authorization: `Bearer ${token}` };
    },
    { credentials: "omit" },
  );
}
