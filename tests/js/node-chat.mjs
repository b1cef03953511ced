// The AI SDK's chat, without a page: what `useChat` is in React.
import { AbstractChat } from "ai";

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => void this.messages.push(structuredClone(message));
  popMessage = () => void this.messages.pop();
  replaceMessage = (place, message) => void (this.messages[place] = structuredClone(message));
  snapshot = (value) => structuredClone(value);
}

export class NodeChat extends AbstractChat {
  constructor(options) {
    super({ ...options, state: new State() });
  }
}
