// Requests of agentsite/static/chat/api.js, to a server that answers as told. Run by `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

const { Api, Visitor } = await import("../../agentsite/static/chat/api.js");
const GONE = "This chat is not available any more.";

/** A server which a page may read or not, and which may be away. */
function serve(state) {
  globalThis.fetch = async (url, { mode }) => {
    if (state.away || (mode !== "no-cors" && !state.readable)) throw new TypeError("Failed to fetch");
    return Response.json({ token: "t", secret: "s", visitor_id: "v", expires_in: 0 });
  };
  return new Api("https://agents.example", new Visitor("https://agents.example", "pk_x"), GONE);
}

const fault = (api) => api.call("GET", "sessions").then(String, ({ message, status }) => `${status} ${message}`);

test("a widget whose answers stay unreadable is gone, and one that reads again is not", async () => {
  const state = { readable: false };
  const api = serve(state);
  for (let time = 1; time < 6; time += 1) assert.equal(await fault(api), "0 The server cannot be reached.");
  assert.equal(await fault(api), `403 ${GONE}`);
  state.readable = true;
  await api.call("GET", "sessions");
  state.readable = false;
  assert.equal(await fault(api), "0 The server cannot be reached.");
});

test("a server that is away comes back", async () => {
  const api = serve({ away: true });
  for (let time = 0; time < 20; time += 1) assert.equal(await fault(api), "0 The server cannot be reached.");
});
