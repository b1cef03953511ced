import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";

// An agent whose runs come over the `agui.v1` socket of their session. `open(threadId)` resolves to a new WebSocket.
export class SocketAgent extends AbstractAgent {
  constructor({ agent, open, ...config }) {
    super(config);
    Object.assign(this, { agent, open, seen: {} });
  }

  run(input) {
    const { resume, ...asked } = input;
    if (resume?.length) return this.talk(input, { type: "resume", run_id: this.seen.run_id, resume });
    return this.talk(input, { type: "run", agent: this.agent, input: asked });
  }

  connect(input) {
    return this.talk(input); // only listens: `connectAgent` shows the run that is under way
  }

  talk({ threadId, messages }, frame) {
    return new Observable((told) => {
      let ours = frame?.run_id; // a socket shows all runs of its session
      const begins = ({ input }) => !frame || input.messages.some(({ id }) => id === messages.at(-1).id);
      const hear = (event) => {
        if (event.type === "error") return told.error(new Error(event.error.message));
        const { run_id, seq } = event.metadata ?? {};
        if (event.type === "RUN_STARTED" && !ours && begins(event)) ours = run_id;
        if (!ours || run_id !== ours || (run_id === this.seen.run_id && seq <= this.seen.seq)) return;
        this.seen = { run_id, seq };
        told.next(event);
        if (event.type === "RUN_FINISHED" || event.type === "RUN_ERROR") told.complete();
      };
      const opening = this.open(threadId);
      opening.then((socket) => {
        socket.onopen = () => frame && socket.send(JSON.stringify(frame));
        socket.onmessage = ({ data }) => hear(JSON.parse(data));
        socket.onclose = ({ code, reason }) => told.error(new Error(`The socket was closed: ${code} ${reason}`));
      }, (error) => told.error(error));
      return () => opening.then((socket) => socket.close(), () => {});
    });
  }
}
