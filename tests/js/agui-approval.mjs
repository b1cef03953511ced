// A run that waits for a person, and goes on, by AG-UI's own client. Environment: URL, API_KEY, THREAD, PROMPT, EDITED.
// Prints {interrupts, first, second, messages} as JSON.
import { HttpAgent } from "@ag-ui/client";

const { URL: url, API_KEY, THREAD, PROMPT, EDITED } = process.env;
const agent = new HttpAgent({
  url,
  threadId: THREAD,
  headers: { Authorization: `Bearer ${API_KEY}` },
  initialMessages: [{ id: "m1", role: "user", content: PROMPT }],
});

async function run(input) {
  const events = [];
  let interrupts = [];
  await agent.runAgent(input, {
    onEvent: ({ event }) => void events.push(event),
    onRunFinishedEvent: (finished) => void (interrupts = finished.interrupts ?? []),
  });
  return { events, interrupts };
}

const first = await run({ runId: "r1" });
const resume = first.interrupts.map(({ id }) => ({
  interruptId: id,
  status: "resolved",
  payload: { approved: true, editedArgs: JSON.parse(EDITED) },
}));
const second = await run({ runId: "r2", resume });
console.log(
  JSON.stringify({ interrupts: first.interrupts, first: first.events, second: second.events, messages: agent.messages })
);
