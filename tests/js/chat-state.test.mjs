// Conversations of agentsite/static/chat/state.js from events and stored messages. Run by `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

const { Conversation } = await import("../../agentsite/static/chat/state.js");
const ADA = { kind: "user", id: "u1", label: "ada" };
const OMAR = { kind: "user", id: "u2", label: "omar" };

/** A conversation of Ada's, what it told, and a run's events with their places. */
function begin() {
  const told = { finished: [], returned: [], decided: [], ended: [] };
  const conversation = new Conversation({
    changed() {},
    finished: (turn) => told.finished.push(turn.kind === "said" ? turn.text : turn.runId),
    returned: ({ text }, why) => told.returned.push([text, why]),
    decided: ({ runId }) => told.decided.push(runId),
    ended: ({ runId }) => told.ended.push(runId),
  });
  conversation.me = ADA;
  const seqs = {};
  const run = (run_id, ...events) =>
    events.forEach(({ metadata, ...event }) =>
      conversation.receive({
        ...event,
        metadata: { ...metadata, run_id, seq: (seqs[run_id] = (seqs[run_id] ?? 0) + 1) },
      }),
    );
  return { conversation, told, run };
}

const user = (id, content, seq) => ({ id, role: "user", content, metadata: { seq } });
const started = (messages = [], { actor = ADA, ...more } = {}) => ({
  type: "RUN_STARTED",
  input: { messages },
  metadata: { actor, agent: "helper", ...more },
});
const text = (messageId, delta) => ({ type: "TEXT_MESSAGE_CONTENT", messageId, delta });
const finished = { type: "RUN_FINISHED", result: { finishReason: "stop" } };
const restarted = (keep) => ({ type: "CUSTOM", name: "attempt_restarted", value: { attempt: 2, keep } });
const stored = (seq, role, content, more = {}) => ({
  id: `m${seq}`,
  seq,
  role,
  content,
  status: "complete",
  tool_calls: null,
  run_id: "r0",
  author: role === "user" ? ADA : null,
  agent: null,
  ...more,
});
const shown = ({ turns }) =>
  turns.map((turn) => `${turn.kind === "said" ? turn.author?.label : turn.agent || "agent"}: ${turn.text}`);

test("a message is mine at once and everybody's with its run", () => {
  const { conversation, told, run } = begin();
  const said = conversation.say("hello", {});
  assert.deepEqual(conversation.pending, [said]);
  run("r1", started([user(said.clientId, "hello", 1)]), text("a", "Good "), text("a", "day"), finished);
  assert.deepEqual(conversation.pending, []);
  assert.deepEqual(shown(conversation), ["ada: hello", "helper: Good day"]);
  assert.deepEqual(told.finished, ["hello", "r1"]);
  assert.equal(said.seq, 1);
});

test("a message of somebody else comes before their answer and after what is mine", () => {
  const { conversation, run } = begin();
  conversation.say("mine", {});
  run("r1", started([user("x", "theirs", 1)], { actor: OMAR }), text("a", "Yes"));
  assert.deepEqual(shown(conversation), ["omar: theirs", "helper: Yes", "ada: mine"]);
  assert.deepEqual(
    conversation.turns.map(({ mine }) => mine),
    [false, undefined, true],
  );
});

test("what was seen is not added again", () => {
  const { conversation, run } = begin();
  run("r1", started([user("x", "a", 1)]), text("a", "b"));
  conversation.receive({ ...text("a", "b"), metadata: { run_id: "r1", seq: 2 } });
  assert.deepEqual(shown(conversation), ["ada: a", "helper: b"]);
  assert.deepEqual(conversation.cursors, [{ run_id: "r1", seq: 2 }]);
});

test("another attempt drops what came after what it keeps", () => {
  const { conversation, run } = begin();
  run(
    "r1",
    started([user("x", "a", 1)]),
    text("a", "kept"),
    text("a", " lost"),
    { type: "REASONING_START", messageId: "l" },
    restarted(2),
  );
  assert.deepEqual(shown(conversation), ["ada: a", "helper: kept"]);
  run("r1", text("a", " and new"), finished);
  assert.deepEqual(shown(conversation), ["ada: a", "helper: kept and new"]);
});

test("a snapshot replaces a message from a character on", () => {
  const { conversation, run } = begin();
  run("r1", started(), text("a", "one two"), {
    type: "CUSTOM",
    name: "message_snapshot",
    value: { messageId: "a", type: "TEXT_MESSAGE_CONTENT", start: 4, text: "three" },
  });
  assert.equal(conversation.turns[0].text, "one three");
});

test("what is replaced goes, what is on its way stays", () => {
  const { conversation, run } = begin();
  conversation.load([stored(1, "user", "a"), stored(2, "assistant", "b"), stored(3, "user", "c", { run_id: "r9" })]);
  const said = conversation.say("c2", { replace_from: 3 });
  run("r1", started([user(said.clientId, "c2", 4)], { replaces_from: 3 }));
  assert.deepEqual(shown(conversation), ["ada: a", "agent: b", "ada: c2", "helper: "]);
});

test("stored messages complete what is known and stand in their order", () => {
  const { conversation, run } = begin();
  run("r1", started([user("x", "c", 3)]), text("a", "d"));
  conversation.load([
    stored(1, "user", "a"),
    stored(2, "assistant", "b"),
    stored(3, "user", "c", { client_id: "x", run_id: "r1" }),
  ]);
  assert.deepEqual(shown(conversation), ["ada: a", "agent: b", "ada: c", "helper: d"]);
  run("r1", finished);
  conversation.load(
    [stored(4, "assistant", "d", { run_id: "r1", agent: "helper", feedback: { up: 1, down: 0, mine: "up" } })],
    3,
  );
  const answer = conversation.turns[3];
  assert.deepEqual([answer.seq, answer.messageId, answer.feedback.mine], [4, "m4", "up"]);
  assert.equal(shown(conversation)[3], "helper: d");
});

test("what a message in place of another takes away is counted", () => {
  const { conversation } = begin();
  const theirs = { author: OMAR, run_id: "r1" };
  conversation.load([
    stored(1, "user", "a"),
    stored(2, "assistant", "b"),
    stored(3, "user", "c", theirs),
    stored(4, "assistant", "d", { run_id: "r1" }),
    stored(5, "user", "e", { run_id: "r2" }),
    stored(6, "assistant", "f", { run_id: "r2" }),
  ]);
  conversation.say("on its way", {});
  const [first, , , , last] = conversation.turns;
  assert.deepEqual(conversation.replacedBy(first), { count: 6, others: 1, answers: 3 });
  assert.deepEqual(conversation.replacedBy(last), { count: 2, others: 0, answers: 1 });
});

test("what is no longer stored goes", () => {
  const { conversation } = begin();
  conversation.load([stored(1, "user", "a"), stored(2, "assistant", "b"), stored(3, "user", "c", { run_id: "r1" })]);
  const said = conversation.say("mine", {});
  conversation.load([stored(4, "user", "d", { run_id: "r2" })], 2);
  assert.deepEqual(shown(conversation), ["ada: a", "agent: b", "ada: d", "ada: mine"]);
  assert.deepEqual(conversation.pending, [said]);
});

test("a message that a run takes in is told at once", () => {
  const { conversation, run } = begin();
  const said = conversation.say("and b", {});
  const heard = { run_id: "r2", messages: [{ id: said.clientId, role: "user", content: "and b", author: ADA }] };
  run("r1", started([user("x", "a", 1)]), { type: "CUSTOM", name: "heard", value: heard });
  assert.deepEqual(conversation.pending, []);
});

test("stored calls have their results", () => {
  const { conversation } = begin();
  const tool_calls = ["c1", "c2"].map((id) => ({ id, type: "function", function: { name: "clock", arguments: "{}" } }));
  conversation.load([
    stored(1, "user", "a"),
    stored(2, "assistant", null, { tool_calls }),
    stored(3, "tool", "noon", { tool_call_id: "c1" }),
    stored(4, "tool", "A person denied this call.", { tool_call_id: "c2", status: "failed" }),
    stored(5, "assistant", "It is noon."),
  ]);
  const [call, denied, said] = conversation.turns[1].parts;
  assert.deepEqual([call.name, call.args, call.result, said.text], ["clock", "{}", "noon", "It is noon."]);
  assert.deepEqual([call.failed, denied.failed, conversation.turns[1].status], [false, true, "done"]);
});

test("messages of a fork, which have no run, are one answer from the call to the text after its result", () => {
  const { conversation } = begin();
  const bare = (...given) => ({ ...stored(...given), run_id: null });
  const tool_calls = [{ id: "c1", type: "function", function: { name: "clock", arguments: "{}" } }];
  const rows = [
    bare(1, "user", "a"),
    bare(2, "assistant", "I look.", { tool_calls, agent: "helper" }),
    bare(3, "tool", "noon", { tool_call_id: "c1" }),
    bare(4, "assistant", "It is noon.", { agent: "helper" }),
    bare(5, "assistant", "Anything else?", { agent: "helper" }),
  ];
  conversation.load(rows);
  conversation.load(rows.slice(2), 2); // the last page again
  assert.deepEqual(shown(conversation), ["ada: a", "helper: I look.\n\nIt is noon.", "helper: Anything else?"]);
  const [, call] = conversation.turns[1].parts;
  assert.deepEqual([call.name, call.result, conversation.turns[1].messageId], ["clock", "noon", "m4"]);
});

test("steps hold what they say", () => {
  const { conversation, run } = begin();
  const metadata = { step: "plan" };
  run(
    "r1",
    started(),
    { type: "STEP_STARTED", stepName: "plan" },
    { type: "TEXT_MESSAGE_START", messageId: "a", metadata },
    text("a", "first"),
  );
  run("r1", {
    type: "CUSTOM",
    name: "step_failed",
    value: { step: "plan", message: "no", code: "x", again: true },
    metadata: { cut: ["a"] },
  });
  run(
    "r1",
    { type: "TEXT_MESSAGE_START", messageId: "b", metadata },
    text("b", "second"),
    { type: "STEP_FINISHED", stepName: "plan" },
    text("c", "answer"),
  );
  const [step, answer] = conversation.turns[0].parts;
  assert.deepEqual(
    [step.name, step.done, step.fault, step.parts.map((part) => part.text)],
    ["plan", true, "no", ["second"]],
  );
  assert.equal(answer.text, "answer");
  assert.equal(conversation.turns[0].text, "answer");
});

const interrupted = (id, toolCallId) => ({
  type: "RUN_FINISHED",
  outcome: {
    type: "interrupt",
    interrupts: [
      {
        id,
        toolCallId,
        message: "?",
        expiresAt: "2030-01-01T00:00:00Z",
        responseSchema: { properties: {} },
        metadata: { tool: "write", role: "member", arguments: { a: 1 } },
      },
    ],
  },
});

test("a run waits for a decision, goes on, and tells who decided", () => {
  const { conversation, told, run } = begin();
  run(
    "r1",
    started(),
    { type: "TOOL_CALL_START", toolCallId: "c1", toolCallName: "write" },
    { type: "TOOL_CALL_ARGS", toolCallId: "c1", delta: '{"a":1}' },
    interrupted("i1", "c1"),
  );
  const answer = conversation.turns[0];
  assert.equal(answer.status, "interrupted");
  assert.deepEqual(
    answer.approvals.map(({ status, canEdit }) => [status, canEdit]),
    [["pending", false]],
  );
  run("r1", started());
  assert.deepEqual(told.decided, ["r1"]);
  conversation.decide({ id: "i1", status: "denied", decided_by: OMAR, comment: "no", edited_arguments: null });
  run("r1", { type: "TOOL_CALL_RESULT", toolCallId: "c1", content: "denied", metadata: { error: true } }, finished);
  assert.deepEqual(
    [answer.approvals[0].status, answer.approvals[0].by, answer.parts[0].failed],
    ["denied", "omar", true],
  );
  assert.deepEqual(told.ended, ["r1"]);
});

test("a run that ends without a decision withdraws the question", () => {
  const { conversation, run } = begin();
  run("r1", started(), interrupted("i1"), { type: "RUN_ERROR", message: "Stopped.", code: "run_cancelled" });
  assert.equal(conversation.turns[0].approvals[0].status, "withdrawn");
  assert.equal(conversation.turns[0].status, "cancelled");
});

test("a message whose run never began is given back", () => {
  const { conversation, told, run } = begin();
  const ended = (messages) => ({ type: "RUN_ERROR", message: "Stopped.", code: "run_cancelled", metadata: { messages } });
  const [first, second] = ["first", "second"].map((text) => conversation.say(text, {}));
  run("r1", ended([second.clientId]));
  run("r2", ended(["of somebody else"]));
  assert.deepEqual(told.returned, [["second", "Stopped."]]);
  assert.deepEqual(conversation.turns, [first]);
});

test("where nothing more is told, nothing is under way", () => {
  const { conversation, told, run } = begin();
  run("r1", started([user("x", "a", 1)]), text("a", "half"));
  conversation.say("mine", {});
  conversation.abandon("gone");
  assert.deepEqual([conversation.open, conversation.pending], [[], []]);
  assert.deepEqual(told.returned, [["mine", "gone"]]);
  assert.equal(conversation.turns[1].status, "cancelled");
});

test("a message that another run heard has no answer of its own", () => {
  const { conversation, run } = begin();
  run("r1", started([user("x", "a", 1)]));
  run("r2", started([user("y", "b", 2)]), { type: "RUN_FINISHED", result: {}, metadata: { answered_by: "r1" } });
  assert.deepEqual(shown(conversation), ["ada: a", "helper: ", "ada: b"]);
});

test("a program may speak for somebody of its own", () => {
  const { conversation, run } = begin();
  const actor = { kind: "api_key", id: "k", label: "backend" };
  run("r1", started([{ ...user("x", "a", 1), name: "Zoë" }], { actor }));
  assert.deepEqual(shown(conversation), ["Zoë: a", "helper: "]);
});
