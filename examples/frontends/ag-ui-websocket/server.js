// Serves the page, and gets a ticket for each socket: the API key stays here.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const { API_KEY, BASE_URL = "http://127.0.0.1:8000", PORT = "5173" } = process.env;
const FILES = { "/": ["index.html", "text/html"], "/built/page.js": ["built/page.js", "text/javascript"] };

async function answer(request, response) {
  const file = FILES[request.url];
  if (request.method === "POST" && request.url === "/ticket") {
    const headers = { Authorization: `Bearer ${API_KEY}` };
    const { ticket } = await (await fetch(`${BASE_URL}/v1/ws-tickets`, { method: "POST", headers })).json();
    const url = `${BASE_URL.replace(/^http/, "ws")}/ws/v1/sessions`;
    response.setHeader("Content-Type", "application/json").end(JSON.stringify({ ticket, url }));
  } else if (file) {
    const body = await readFile(new URL(file[0], import.meta.url));
    response.setHeader("Content-Type", file[1]).end(body);
  } else {
    response.writeHead(404).end();
  }
}

const server = createServer((request, response) =>
  answer(request, response).catch((error) => response.writeHead(502).end(String(error)))
);
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}`));
process.on("SIGTERM", () => process.exit(0));
