// What agentsite/static/chat/talk.js makes of answers and frames that come in an awkward order. Run by `node --test`.
import assert from "node:assert/strict";
import { after, test } from "node:test";

const ADA = { kind: "user", id: "u1", label: "ada" };
const SESSION = { id: "s1", title: "", role: "owner", status: "open", agent: "helper" };
const sockets = [];
const talks = [];

globalThis.addEventListener = globalThis.removeEventListener = () => {};
globalThis.WebSocket = class {
  sent = [];
  constructor() {
    sockets.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
  }
};
const { Talk } = await import("../../agentsite/static/chat/talk.js");
after(() => talks.forEach((talk) => talk.close()));

/** All that is ready to go on has gone on. */
const settled = () => new Promise((go) => setImmediate(go));

/** A talk of Ada's whose requests are answered by `answers`: values, or functions that are asked each time. */
function begin(answers = {}) {
  const told = { events: [], returned: [], failed: [] };
  const known = { "POST ws-tickets": { ticket: "t" }, "GET sessions/s1": SESSION, "POST sessions": SESSION };
  known["GET sessions/s1/runs?limit=1"] = { data: [] };
  Object.assign(known, answers);
  const give = async (asked) => (typeof known[asked] === "function" ? known[asked]() : known[asked]);
  const api = {
    base: "http://here",
    me: async () => ADA,
    call: (method, path) => give(`${method} ${path}`),
    all: async (path, cursor = null) => (await give(`ALL ${path} ${cursor}`)) ?? { rows: [], cursor, before: null },
  };
  const host = {
    words: {},
    changed() {},
    finished() {},
    asked() {},
    returned: (text, why) => told.returned.push([text, why]),
    failed: ({ message }) => told.failed.push(message),
    tell: (name, detail) => told.events.push([name, detail.id]),
  };
  const talk = new Talk(api, "helper", host);
  talks.push(talk);
  return { talk, told, known };
}

/** A promise that the test keeps. */
function later() {
  const kept = {};
  kept.promise = new Promise((give, refuse) => Object.assign(kept, { give, refuse }));
  return kept;
}

/** The socket that was made last has opened and listens. */
async function listens() {
  await settled();
  const socket = sockets.at(-1);
  socket.onopen();
  hear(socket, { type: "pong" });
  await settled();
  return socket;
}

const hear = (socket, frame) => socket.onmessage({ data: JSON.stringify(frame) });
const refused = { message: "Too many.", code: "too_many_messages", type: "rate_limit_error" };

async function opened(answers) {
  const made = begin(answers);
  await made.talk.open("s1");
  return { ...made, socket: await listens() };
}

test("a refusal gives back the message that was refused, not one that waits for its turn", async () => {
  const { talk, told, socket } = await opened();
  await talk.send("waits");
  await talk.send("refused");
  const [, key] = socket.sent.filter(({ type }) => type === "run").map((frame) => frame.idempotency_key);
  hear(socket, { type: "error", error: refused, metadata: { idempotency_key: key } });
  assert.deepEqual(told.returned, [["refused", "Too many."]]);
  assert.deepEqual(
    talk.conversation.pending.map(({ text }) => text),
    ["waits"],
  );
});

test("an error that is of no message gives none back", async () => {
  const { talk, told, socket } = await opened();
  await talk.send("on its way");
  hear(socket, { type: "error", error: { message: "Away.", code: "database_unavailable", type: "server_error" } });
  assert.deepEqual([told.returned, told.failed], [[], ["Away."]]);
  hear(socket, { type: "error", error: { message: "NUL.", code: "invalid_character", type: "invalid_request_error" } });
  assert.deepEqual(told.returned, [["on its way", "NUL."]]);
});

test("what was said before its talk was left is sent, and nothing is told of it", async () => {
  const made = later();
  const { talk, told } = begin({ "POST sessions": () => made.promise });
  talk.send("hello");
  await settled();
  talk.close();
  made.give(SESSION);
  const socket = await listens();
  assert.deepEqual(
    socket.sent.flatMap(({ input }) => input?.messages.map(({ content }) => content) ?? []),
    ["hello"],
  );
  assert.deepEqual([told.events, socket.closed], [[], true]);
});

test("a decision that came second shows the first, however late its refusal comes", async () => {
  const answer = later();
  const conflict = Object.assign(new Error("Decided."), { status: 409 });
  const { talk, socket } = await opened({
    "POST runs/r1/resume": () => answer.promise,
    "GET approvals/i1": { id: "i1", status: "approved", decided_by: { label: "omar" }, comment: "" },
  });
  const schema = { properties: {} };
  const asked = { id: "i1", toolCallId: "c1", responseSchema: schema, metadata: { tool: "t", arguments: {} } };
  const place = (seq) => ({ metadata: { run_id: "r1", seq } });
  hear(socket, { type: "RUN_STARTED", input: { messages: [] }, ...place(1) });
  hear(socket, { type: "RUN_FINISHED", outcome: { type: "interrupt", interrupts: [asked] }, ...place(2) });
  const [run] = talk.conversation.open;
  const [approval] = run.approvals;
  const decided = talk.decide(run, approval, { approved: false });
  hear(socket, { type: "RUN_STARTED", ...place(3) });
  await settled();
  assert.deepEqual([approval.status, approval.by], ["approved", "omar"]);
  answer.refuse(conflict);
  await decided;
  assert.deepEqual([approval.status, approval.by], ["approved", "omar"]);
});

test("a run that failed while the socket was away is told when it is back", async () => {
  const { talk, socket, known } = await opened();
  const asked = { id: "m1", seq: 1, role: "user", content: "hello", run_id: "r1", author: ADA };
  known["ALL sessions/s1/messages null"] = { rows: [asked], cursor: null, before: null };
  known["GET sessions/s1/runs?limit=1"] = { data: [{ id: "r1", error: { message: "Broke.", code: "run_failed" } }] };
  socket.onclose({ code: 1006, reason: "" });
  talk.connection.open("s1");
  await listens();
  assert.deepEqual(
    talk.conversation.turns.map(({ text, error }) => error?.message ?? text),
    ["hello", "Broke."],
  );
});

test("what was replaced while the socket was away goes, however far back", async () => {
  const row = (seq, text) => ({ id: `m${seq}`, seq, role: "user", content: text, run_id: "r0", author: ADA });
  const { talk, socket, known } = await opened({
    "ALL sessions/s1/messages null": { rows: [row(1, "a"), row(2, "b"), row(3, "c")], cursor: "2", before: row(2) },
  });
  known["ALL sessions/s1/messages null"] = { rows: [row(1, "a"), row(4, "d")], cursor: null, before: null };
  known["ALL sessions/s1/messages 2"] = { rows: [row(4, "d")], cursor: "2", before: null };
  socket.onclose({ code: 1006, reason: "" });
  talk.connection.open("s1");
  await listens();
  assert.deepEqual(
    talk.conversation.turns.map(({ text }) => text),
    ["a", "d"],
  );
});
