import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, isToolUIPart, getToolName, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { createRoot } from "react-dom/client";

// The session's name is in the address, so that a reload finds it and goes on with its answer.
if (!location.hash) location.hash = crypto.randomUUID();
const id = location.hash.slice(1);
const transport = new DefaultChatTransport({ api: "/agents/scripted/ui-stream" });
const MOVED = new Set(["server_stopping", "attempt_restarted"]);

function Chat() {
  const chat = useChat({
    id,
    transport,
    resume: true,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    onFinish: ({ message, isError }) => {
      if (isError && MOVED.has(message.metadata?.error?.code)) setTimeout(chat.resumeStream, 1000);
    },
  });
  const send = (submitted) => {
    submitted.preventDefault();
    chat.sendMessage({ text: submitted.target.elements.text.value });
    submitted.target.reset();
  };
  return (
    <>
      <h1>The AI SDK's useChat</h1>
      <div role="log">
        {chat.messages.map((message) => (
          <article key={message.id} className={message.role}>
            {message.parts.map((part, place) => <Part key={place} part={part} answer={chat.addToolApprovalResponse} />)}
          </article>
        ))}
        {chat.error && <p className="error">{chat.error.message}</p>}
      </div>
      <form onSubmit={send}>
        <input name="text" aria-label="Message" required autoFocus /> <button>Send</button>
        {chat.status === "ready" && chat.messages.length > 0 && (
          <button type="button" onClick={() => chat.regenerate()}>Again</button>
        )}
      </form>
    </>
  );
}

function Part({ part, answer }) {
  if (part.type === "text") return <p>{part.text}</p>;
  if (part.type === "reasoning") return <p className="tool">{part.text}</p>;
  if (!isToolUIPart(part)) return null;
  const said = part.state === "output-error" ? part.errorText : part.output;
  return (
    <p className="tool">
      {getToolName(part)}({JSON.stringify(part.input)}) {said !== undefined && JSON.stringify(said)}
      {part.state === "approval-requested" &&
        [true, false].map((approved) => (
          <button key={approved} onClick={() => answer({ id: part.approval.id, approved })}>
            {approved ? "Approve" : "Deny"}
          </button>
        ))}
    </p>
  );
}

createRoot(document.querySelector("main")).render(<Chat />);
