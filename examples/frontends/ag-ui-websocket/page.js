import { SocketAgent } from "./socket-agent.js";

const log = document.querySelector("#log");
const agent = new SocketAgent({ agent: "scripted", open });
const shown = new Map();

async function open(threadId) {
  const { ticket, url } = await (await fetch("/ticket", { method: "POST" })).json();
  return new WebSocket(`${url}/${encodeURIComponent(threadId)}`, ["agui.v1", `ticket.${ticket}`]);
}

function show(id, who, text) {
  const line = shown.get(id) ?? log.appendChild(document.createElement("p"));
  shown.set(id, line);
  line.className = who;
  line.textContent = text;
}

document.querySelector("form").onsubmit = async (submitted) => {
  submitted.preventDefault();
  const field = submitted.target.elements.text;
  const message = { id: crypto.randomUUID(), role: "user", content: field.value };
  field.value = "";
  show(message.id, "user", message.content);
  agent.addMessage(message);
  try {
    await agent.runAgent({}, {
      onTextMessageContentEvent: ({ event, textMessageBuffer }) =>
        show(event.messageId, "assistant", textMessageBuffer + event.delta),
      onToolCallStartEvent: ({ event }) => show(event.toolCallId, "tool", `${event.toolCallName} …`),
      onToolCallResultEvent: ({ event }) => show(event.toolCallId, "tool", event.content),
      onRunErrorEvent: ({ event }) => show(message.id + "-error", "error", event.message),
    });
  } catch (error) {
    show(crypto.randomUUID(), "error", error.message);
  }
};
