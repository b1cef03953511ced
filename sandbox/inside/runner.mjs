// The JavaScript and TypeScript runtime of a slot, as runner.py: one job from standard input, its result as a line of
// its own on standard output. It runs in the tenant's process and is no boundary.
import { stripTypeScriptTypes } from "node:module";

const FRAME = "\0agentsite ";
const MAX_FILES = 100, MB = 1 << 20, MAX_FILES_BYTES = 8 * MB;
const encoder = new TextEncoder(), decoder = new TextDecoder();
const { stringify, parse } = JSON;
const AsyncFunction = (async () => {}).constructor;
const stdout = Deno.stdout, exit = Deno.exit;

class JobError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

class HostError extends Error {
  name = "HostError";
}

function send(kind, value) {
  let bytes = encoder.encode(FRAME + kind + stringify(value) + "\n");
  while (bytes.length) bytes = bytes.subarray(stdout.writeSync(bytes));
}

async function* lines() {
  let parts = [];
  for await (const chunk of Deno.stdin.readable) {
    let start = 0;
    for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
      parts.push(chunk.slice(start, end));
      yield decoder.decode(await new Blob(parts).arrayBuffer());
      parts = [];
    }
    parts.push(chunk.slice(start));
  }
}

const input = lines();
const waiting = new Map();
let numbers = 0;

async function listen() {
  for await (const line of input) {
    const { id, result, error } = parse(line);
    const promise = waiting.get(id);
    waiting.delete(id);
    if (error) promise?.reject(new HostError(error.message));
    else promise?.resolve(result);
  }
}

let listening = false;

function call(method, params = {}) {
  if (!listening) {
    listening = true;
    listen();
  }
  const id = ++numbers;
  const promise = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  send("C", { jsonrpc: "2.0", id, method, params });
  return promise;
}

globalThis.agentsite = Object.freeze({ call, HostError });
send("R", null);

const first = await input.next();
if (first.done) exit(0);
const job = parse(first.value);
const name = job.language === "typescript" ? "main.ts" : "main.js";
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  fail(event.reason);
});

try {
  const before = putFiles(job.files);
  const value = await run();
  finish({ ok: true, value: plain(value), files: changed(before) });
} catch (error) {
  fail(error);
}

async function run() {
  const entry = job.entry_point;
  if (entry) return await (await entryPoint(entry))(job.input);
  if (job.input !== null) globalThis.input = job.input;
  if (/(^|[;\s}])(import|export)\b/.test(job.code)) return await (await module(job.code)).default;
  const script = job.language === "typescript" ? stripTypeScriptTypes(job.code) : job.code;
  return await (0, eval)(`${awaiting(script)}\n//# sourceURL=${name}`);
}

// A script's value is that of its last expression. One that awaits at its top level becomes a function, which answers
// its last line where that is an expression.
function awaiting(script) {
  if (reads(Function, script) || !/\bawait\b/.test(script)) return script;
  const lines = script.trimEnd().split("\n");
  const last = lines.pop().replace(/;\s*$/, "");
  const answering = [...lines, `return (${last}\n);`].join("\n");
  const body = [answering, script].find((code) => reads(AsyncFunction, code));
  return body === undefined ? script : `(async () => {${body}\n})()`;
}

function reads(kind, code) {
  try {
    new kind(code);
    return true;
  } catch {
    return false;
  }
}

async function entryPoint(entry) {
  const exported = /(^|[;\s}])export\b/.test(job.code);
  const missing = () => new JobError("no_entry_point", `The code has no function '${entry}' as entry point; export it.`);
  if (!exported && !/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(entry)) throw missing();
  let found;
  try {
    found = (await module(exported ? job.code : `${job.code}\nexport { ${entry} };`))[entry];
  } catch (error) {
    if (error instanceof SyntaxError && error.message.includes(`'${entry}' is not defined`)) throw missing();
    if (error instanceof SyntaxError && error.message.includes(`Export '${entry}'`)) throw missing();
    throw error;
  }
  if (typeof found !== "function") throw missing();
  return found;
}

function module(code) {
  const type = job.language === "typescript" ? "typescript" : "javascript";
  return import(`data:application/${type};base64,${encoder.encode(code).toBase64()}`);
}

function plain(value) {
  try {
    return value === undefined ? null : parse(stringify(value) ?? "null");
  } catch (error) {
    throw new JobError("bad_result", `The result cannot be told as JSON: ${error.message}`);
  }
}

function fail(error) {
  if (error instanceof JobError) finish({ ok: false, code: error.code, message: error.message });
  const text = String(error?.stack ?? error).replace(/data:application\/\w+;base64,[\w+\/=.…]*/g, name);
  const shown = text.split("\n").filter((line) => !/(file|ext|node):/.test(line)).join("\n");
  const unread = error instanceof SyntaxError || String(error?.message).startsWith("SyntaxError:");
  const where = shown.split("\n").find((line) => /^ +at /.test(line)) ?? "";
  const code = unread && /^ +at (main\.[jt]s:[\d:]+|eval \(<anonymous>\))$/.test(where) ? "syntax" : "error";
  finish({ ok: false, code, message: shown.slice(0, 8000) });
}

function finish(result) {
  try {
    send("E", result);
  } finally {
    exit(0);
  }
}

function putFiles(files) {
  for (const [path, content] of Object.entries(files)) {
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    if (folder) Deno.mkdirSync(folder, { recursive: true });
    Deno.writeFileSync(path, Uint8Array.fromBase64(content));
  }
  return snapshot();
}

function snapshot(folder = ".", found = new Map()) {
  for (const entry of Deno.readDirSync(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) snapshot(path, found);
    if (!entry.isFile) continue;
    const { size, mtime } = Deno.statSync(path);
    found.set(path.slice(2), { size, mark: `${size} ${mtime?.getTime()}` });
  }
  return found;
}

function changed(before) {
  const after = [...snapshot()].filter(([path, file]) => before.get(path)?.mark !== file.mark);
  if (after.length > MAX_FILES || after.reduce((sum, [, file]) => sum + file.size, 0) > MAX_FILES_BYTES) {
    const limits = `${MAX_FILES} files and ${MAX_FILES_BYTES / MB} MB`;
    throw new JobError("output", `The code may leave ${limits} in its folder; delete what is not needed.`);
  }
  return Object.fromEntries(after.map(([path]) => [path, Deno.readFileSync(path).toBase64()]));
}
