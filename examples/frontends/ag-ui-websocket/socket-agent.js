import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";

// An agent whose runs come over the `agui.v1` socket of their session. `open(threadId)` resolves to a new WebSocket.
export class SocketAgent extends AbstractAgent {
  constructor({ agent, open, ...config }) {
    super(config);
    Object.assign(this, { agent, open, seen: {} });
  }

  run(input) {
    return this.talk(input, this.frame(input));
  }

  connect(input) {
    return this.talk(input); // only listens: `connectAgent` shows the run that is under way
  }

  talk(input, frame) {
    return new Observable((told) => {
      const opening = this.open(input.threadId);
      opening.then((socket) => {
        socket.onopen = () => frame && socket.send(JSON.stringify(frame));
        socket.onmessage = ({ data }) => this.hear(JSON.parse(data), told);
        socket.onclose = ({ code, reason }) => told.error(new Error(`The socket was closed: ${code} ${reason}`));
      }, (error) => told.error(error));
      return () => opening.then((socket) => socket.close(), () => {});
    });
  }

  frame({ resume, ...input }) {
    if (resume?.length) return { type: "resume", run_id: this.seen.run_id, resume };
    return { type: "run", agent: this.agent, input };
  }

  hear(event, told) {
    if (event.type === "error") return told.error(new Error(event.error.message));
    const { run_id, seq } = event.metadata;
    if (run_id === this.seen.run_id && seq <= this.seen.seq) return; // a new socket shows open runs from their beginning
    this.seen = { run_id, seq };
    told.next(event);
    if (event.type === "RUN_FINISHED" || event.type === "RUN_ERROR") told.complete();
  }
}
