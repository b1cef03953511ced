// One run by three clients: AG-UI's over SSE, which begins it, AG-UI's over the socket, and the AI SDK's. The model waits
// until all three have heard of it. Environment: API, SOCKETS, API_KEY, THREAD, AGENT, GATE.
// Prints {sse, socket, ui, errors} as JSON: the messages of each, and the errors that they were told.
import { HttpAgent } from "@ag-ui/client";
import { DefaultChatTransport } from "ai";
import { NodeChat } from "./node-chat.mjs";
import { SocketAgent } from "./socket-agent.js";

const { API, SOCKETS, API_KEY, THREAD, AGENT, GATE } = process.env;
const headers = { Authorization: `Bearer ${API_KEY}` };
const errors = {};

async function open(threadId) {
  const { ticket } = await (await fetch(`${API}/ws-tickets`, { method: "POST", headers })).json();
  return new WebSocket(`${SOCKETS}/${threadId}`, ["agui.v1", `ticket.${ticket}`]);
}

function heard(name, work) {
  return new Promise((resolve, reject) => {
    const listener = {
      onTextMessageContentEvent: () => void resolve(),
      onRunErrorEvent: ({ event }) => void (errors[name] = event.message),
    };
    ended.push(work(listener).catch((error) => reject(error)));
  });
}

const ended = [];
const initialMessages = [{ id: "m1", role: "user", content: "How late is it?" }];
const sse = new HttpAgent({ url: `${API}/agents/${AGENT}/ag-ui`, threadId: THREAD, headers, initialMessages });
const socket = new SocketAgent({ agent: AGENT, threadId: THREAD, open });
const transport = new DefaultChatTransport({ api: `${API}/agents/${AGENT}/ui-stream`, headers });
const chat = new NodeChat({ id: THREAD, transport, onError: (error) => void (errors.ui = error.message) });

await heard("sse", (listener) => sse.runAgent({}, listener));
await heard("socket", (listener) => socket.connectAgent({}, listener));
ended.push(chat.resumeStream());
while (!chat.lastMessage?.parts.some((part) => part.type === "text" && part.text)) {
  await new Promise((resolve) => setTimeout(resolve, 10));
}
await fetch(GATE, { method: "POST" });
await Promise.all(ended);
console.log(JSON.stringify({ sse: sse.messages, socket: socket.messages, ui: chat.messages, errors }));
