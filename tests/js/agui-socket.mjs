// One run by AG-UI's own client over the socket, with the agent of docs/frontends.md. Environment: API, SOCKETS, API_KEY,
// THREAD, PROMPT. Prints {messages} as JSON.
import { SocketAgent } from "./documented-agent.js";

const { API, SOCKETS, API_KEY, THREAD, PROMPT } = process.env;
const headers = { Authorization: `Bearer ${API_KEY}` };

async function open(threadId) {
  const { ticket } = await (await fetch(`${API}/ws-tickets`, { method: "POST", headers })).json();
  return new WebSocket(`${SOCKETS}/${threadId}`, ["agui.v1", `ticket.${ticket}`]);
}

const initialMessages = [{ id: "m1", role: "user", content: PROMPT }];
const agent = new SocketAgent({ agent: "scripted", threadId: THREAD, open, initialMessages });
await agent.runAgent({});
console.log(JSON.stringify({ messages: agent.messages }));
