"""An OpenAI-compatible provider on loopback that can fail in every way. The model's name says how it behaves."""

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

WORDS = ["Grüße", " aus", " dem", " Norden", " 🌊"]
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
SECRET_TEXT = "sk-upstream-internal-detail"


def event(value: Any) -> bytes:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **extra: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event({"id": "c1", "object": "chat.completion.chunk", "model": "mock-1", "choices": [choice], **extra})


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = [chunk({"content": word}) for word in WORDS]
FINISH = chunk(finish="stop")
COUNTS = event({"choices": [], "usage": USAGE})
DONE = event("[DONE]")
GOOD = [ROLE, *TEXT, FINISH, COUNTS, DONE]

BODIES: dict[str, list[bytes]] = {
    "hello": GOOD,
    "no-done": [ROLE, *TEXT, FINISH],
    "no-finish": [ROLE, *TEXT, DONE],
    "no-blank-line": [ROLE, *TEXT, FINISH, b"data: [DONE]"],
    "cut": [ROLE, *TEXT[:2]],
    "cut-at-once": [ROLE],
    "cut-call": [
        TEXT[0],
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}),
    ],
    "filtered": [TEXT[0], chunk(finish="content_filter")],
    "empty": [],
    "crlf": [part.replace(b"\n", b"\r\n") for part in GOOD],
    "comments": [b": keep-alive\n\n", *(b": ping\nid: 1\nretry: 5\n" + part for part in GOOD)],
    "one-byte": [bytes([byte]) for byte in b"".join(GOOD)],
    "garbage": [ROLE, TEXT[0], b'data: {"choices": [{]\n\n', DONE],
    "error-event": [ROLE, TEXT[0], event({"error": {"message": SECRET_TEXT, "code": "server_error"}})],
    "error-first": [event({"error": {"message": SECRET_TEXT, "code": 429, "type": "rate_limit_error"}})],
    "error-named": [ROLE, b'event: error\ndata: {"message": "' + SECRET_TEXT.encode() + b'"}\n\n'],
    "error-finish": [ROLE, TEXT[0], chunk(finish="error")],
    "parts": [chunk({"content": [{"type": "text", "text": "Grüße"}, {"type": "thinking", "thinking": "hm"}]}), FINISH],
    "groq": [*TEXT, chunk(finish="stop", x_groq={"id": "r", "usage": {**USAGE, "queue_time": 0.1}})],
    "usage-null": [chunk({"content": "a"}, usage=None), chunk(finish="stop", usage={**USAGE, "total_tokens": None})],
    "broken-utf8": [b'data: {"choices":[{"delta":{"content":"a\xc3"}}]}\n\n', FINISH],
    "half-surrogate": [b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', FINISH],
    "big": [chunk({"content": "x" * 10_000_000}), FINISH, DONE],
    "two-choices": [event({"choices": [{"index": 1, "delta": {"content": "no"}}]}), *GOOD],
}

# Of requests that want no stream.
ODD_BODIES: dict[str, bytes] = {
    "garbage": b'{"choices": [{',
    "broken-utf8": b'{"choices":[{"message":{"content":"a\xc3"},"finish_reason":"stop"}]}',
    "big": b'{"choices":[{"message":{"content":"' + b"x" * 10_000_000 + b'"},"finish_reason":"stop"}]}',
    "error-event": b'{"error": {"message": "' + SECRET_TEXT.encode() + b'", "code": "server_error"}}',
    "error-first": b'{"error": {"message": "' + SECRET_TEXT.encode() + b'", "type": "rate_limit_error"}}',
}


def clever_answer(body: dict[str, Any]) -> dict[str, Any]:
    """What a model that understands would say to LangChain's standard suite, as an assistant message."""
    last = body["messages"][-1]
    if body.get("response_format"):
        return {"role": "assistant", "content": '{"setup": "Why did the cat sit?", "punchline": "To purr."}'}
    if body.get("tools") and last["role"] == "user":
        choice = body.get("tool_choice")
        functions = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
        name = choice["function"]["name"] if isinstance(choice, dict) else next(iter(functions))
        properties = functions[name]["parameters"].get("properties", {})
        quoted = re.search("'(.*?)'", str(last["content"]))
        word = quoted[1] if quoted else "Pirate"
        arguments = {key: 3 if value.get("type") == "integer" else word for key, value in properties.items()}
        call = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        }
    return {"role": "assistant", "content": "Hello there, how are you?"}


def clever_chunks(body: dict[str, Any]) -> Iterator[bytes]:
    message = clever_answer(body)
    yield ROLE
    for word in re.findall(r"\s*\S+", message["content"] or ""):
        yield chunk({"content": word})
    for place, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        yield chunk({"tool_calls": [{**call, "index": place, "function": {**call["function"], "arguments": ""}}]})
        for part in (arguments[:3], arguments[3:]):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": part}}]})
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    yield chunk(finish=finish, model=body["model"])
    yield from (COUNTS, DONE)


class Upstream:
    """`calls` holds the bodies received; `closed_at` when a model's client went away, by the monotonic clock."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self.closed_at: dict[str, float] = {}
        self.connections: set[Any] = set()
        self.broken = True  # whether "heals" fails still
        self.url = ""

    def reset(self) -> None:
        self.calls.clear()
        self.headers.clear()
        self.seen.clear()
        self.closed_at.clear()
        self.connections.clear()
        self.broken = True

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model = body["model"]
        self.calls.append(body)
        self.headers.append(dict(request.headers))
        self.connections.add(request.transport)
        self.seen[model] += 1
        try:
            return await self._answer(request, body, model)
        except (asyncio.CancelledError, ConnectionError):
            self.closed_at[model] = time.monotonic()
            raise

    async def _answer(self, request: web.Request, body: dict[str, Any], model: str) -> web.StreamResponse:
        name, _, value = model.partition(":")
        match name:
            case "status":
                return self._failure(int(value))
            case "flaky" if self.seen[model] <= int(value):
                return self._failure(500)
            case "busy" if self.seen[model] <= 1:
                return self._failure(429, {"retry-after-ms": value})
            case "wait" if self.seen[model] <= 1:
                return self._failure(429, {"Retry-After": value})
            case "limited":
                return self._failure(429, {"Retry-After": value})
            case "heals":
                if self.broken:
                    return self._failure(500)
            case "code":
                return web.json_response({"error": {"message": SECRET_TEXT, "code": value}}, status=400)
            case "context":
                message = f"request (9 tokens) exceeds the available context size {SECRET_TEXT}"
                return web.json_response({"error": {"message": message}}, status=400)
            case "quota":
                return web.json_response({"error": {"message": "", "code": "insufficient_quota"}}, status=429)
            case "redirect":
                raise web.HTTPFound("http://169.254.169.254/latest")
            case "html":
                return web.Response(text="<html>Hello</html>", content_type="text/html")
            case "silent":
                await asyncio.sleep(30)
            case "reset":
                return await self._stream(request, self._reset(request))
            case "late":
                return await self._stream(request, self._late(float(value or 1)))
            case "one-byte" if not body.get("stream"):
                whole = self._whole(name, body).body
                return await self._stream(request, _parts([bytes([byte]) for byte in whole]), "application/json")
            case "stall" | "slow" | "late-close":
                return await self._stream(request, getattr(self, f"_{name.replace('-', '_')}")())
        if not body.get("stream") or name == "json":
            return self._whole(name, body)
        parts = list(clever_chunks(body)) if name == "clever" else BODIES.get(name, GOOD)
        return await self._stream(request, _parts(parts))

    def _failure(self, status: int, headers: dict[str, str] | None = None) -> web.Response:
        body = {"error": {"message": SECRET_TEXT, "type": "x", "code": None}}
        return web.json_response(body, status=status, headers=headers)

    def _whole(self, name: str, body: dict[str, Any]) -> web.Response:
        if name == "cut":
            return web.json_response({"choices": []})
        if name in ODD_BODIES:
            return web.Response(body=ODD_BODIES[name], content_type="application/json")
        clever = name == "clever"
        message = clever_answer(body) if clever else {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        model = body["model"] if clever else "mock-1"
        return web.json_response({"id": "c1", "model": model, "choices": [choice], "usage": USAGE})

    async def _stream(
        self, request: web.Request, parts: AsyncIterator[bytes], kind: str = "text/event-stream"
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": f"{kind}; charset=utf-8"})
        await response.prepare(request)
        async for part in parts:
            await response.write(part)
        await response.write_eof()
        return response

    async def _reset(self, request: web.Request) -> AsyncIterator[bytes]:
        yield ROLE
        yield TEXT[0]
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0.05)

    async def _stall(self) -> AsyncIterator[bytes]:
        yield TEXT[0]
        await asyncio.sleep(30)

    async def _late(self, seconds: float) -> AsyncIterator[bytes]:
        yield ROLE
        await asyncio.sleep(seconds)
        for part in GOOD:
            yield part

    async def _slow(self) -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield TEXT[0]
            await asyncio.sleep(0.01)

    async def _late_close(self) -> AsyncIterator[bytes]:
        for part in GOOD:
            yield part
        await asyncio.sleep(30)

    async def models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == "Bearer wrong":
            return self._failure(401)
        return web.json_response({"object": "list", "data": [{"id": "mock-2"}, {"id": "mock-1"}]})


async def _parts(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", upstream.chat)
    app.router.add_get("/v1/models", upstream.models)
    with served(app) as url:
        upstream.url = f"{url}/v1"
        yield upstream


@contextmanager
def served(app: web.Application) -> Iterator[str]:
    """The address of an application in a thread with a loop of its own, so that synchronous tests can use it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(70)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
