// One run by AG-UI's own client. Environment: URL, API_KEY, THREAD, PROMPT. Prints {events, messages} as JSON.
import { HttpAgent } from "@ag-ui/client";

const { URL: url, API_KEY, THREAD, PROMPT } = process.env;
const agent = new HttpAgent({
  url,
  threadId: THREAD,
  headers: { Authorization: `Bearer ${API_KEY}` },
  initialMessages: [{ id: "m1", role: "user", content: PROMPT }],
});
const events = [];
await agent.runAgent({ runId: "r1" }, { onEvent: ({ event }) => void events.push(event) });
console.log(JSON.stringify({ events, messages: agent.messages }));
