// Serves the page, and forwards what it asks of agents: the API key stays here.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";

const { API_KEY, BASE_URL = "http://127.0.0.1:8000", PORT = "5174" } = process.env;
const FILES = { "/": ["index.html", "text/html"], "/built/page.js": ["built/page.js", "text/javascript"] };

async function forward(request, response) {
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const answer = await fetch(`${BASE_URL}/v1${request.url}`, {
    method: request.method,
    headers: { Authorization: `Bearer ${API_KEY}`, "Content-Type": "application/json" },
    body: request.method === "POST" ? await text(request) : undefined,
    signal: gone.signal,
  });
  response.writeHead(answer.status, { "Content-Type": answer.headers.get("Content-Type") ?? "text/plain" });
  if (answer.body) await pipeline(Readable.fromWeb(answer.body), response).catch(() => {});
  else response.end();
}

async function answer(request, response) {
  const file = FILES[request.url];
  if (/^\/agents\/[\w-]+\/ui-stream(\/[\w-]+\/stream)?$/.test(request.url)) return forward(request, response);
  if (!file) return response.writeHead(404).end();
  response.setHeader("Content-Type", file[1]).end(await readFile(new URL(file[0], import.meta.url)));
}

const server = createServer((request, response) =>
  answer(request, response).catch((error) => response.headersSent || response.writeHead(502).end(String(error)))
);
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}`));
process.on("SIGTERM", () => process.exit(0));
