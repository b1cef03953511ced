// A conversation by the AI SDK's chat. Environment: API, API_KEY, THREAD, AGENT, SCRIPT.
// SCRIPT is a JSON array of [method, ...arguments] of the chat; `approve` answers the open question, and `tool` the call
// of the page's own tool. Prints {told} as JSON, with {messages, status, error} after each.
import { DefaultChatTransport, isToolUIPart, lastAssistantMessageIsCompleteWithApprovalResponses as decided } from "ai";
import { lastAssistantMessageIsCompleteWithToolCalls as answered } from "ai";
import { NodeChat } from "./node-chat.mjs";

const { API, API_KEY, THREAD, AGENT, SCRIPT } = process.env;
const tools = [{ name: "weather", description: "", parameters: { type: "object" } }];
const chat = new NodeChat({
  id: THREAD,
  transport: new DefaultChatTransport({
    api: `${API}/agents/${AGENT}/ui-stream`,
    headers: { Authorization: `Bearer ${API_KEY}` },
    body: { tools },
  }),
});
const parts = () => chat.lastMessage.parts.filter(isToolUIPart);
const goOn = (ready) => (ready({ messages: chat.messages }) ? chat.sendMessage() : undefined);
const steps = {
  approve: async (approved) => {
    const { approval } = parts().find((part) => part.state === "approval-requested");
    await chat.addToolApprovalResponse({ id: approval.id, approved });
    await goOn(decided);
  },
  tool: async (output) => {
    const { toolCallId } = parts().find((part) => part.type === "tool-weather");
    await chat.addToolOutput({ tool: "weather", toolCallId, output });
    await goOn(answered);
  },
};

const told = [];
for (const [name, ...given] of JSON.parse(SCRIPT)) {
  await (steps[name] ?? chat[name])(...given);
  const { messages, status, error } = chat;
  told.push(structuredClone({ messages, status, error: error?.message }));
}
console.log(JSON.stringify({ told }));
