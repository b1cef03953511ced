// Two runs by AG-UI's own client, and an observer that is given their events only.
// Environment: URL, API_KEY, THREAD. Prints {sender, observer}: the messages that each has in the end.
import { AbstractAgent, HttpAgent } from "@ag-ui/client";
import { from } from "rxjs";

class Observer extends AbstractAgent {
  run() {
    return from(this.told);
  }
}

const { URL: url, API_KEY, THREAD } = process.env;
const sender = new HttpAgent({ url, threadId: THREAD, headers: { Authorization: `Bearer ${API_KEY}` } });
const observer = new Observer({ threadId: THREAD });
const script = '#script [{"say": "Looking"}, {"tool": "current_time", "args": {}}, {"say": "It is late"}]';
for (const [id, content] of [["m1", "hello there"], ["m2", script], ["m3", "bye"]]) {
  const events = [];
  sender.addMessage({ id, role: "user", content });
  await sender.runAgent({}, { onEvent: ({ event }) => void events.push(event) });
  observer.told = events;
  await observer.runAgent({});
}
console.log(JSON.stringify({ sender: sender.messages, observer: observer.messages }));
