"""The mock provider that turns are measured against: answers whole or in TOKENS chunks, at once.

Asked to go `slowly`, it pauses before each chunk, as a model does; below /failing it fails at once. Asked to `call`
something, it calls that CALLS times in one answer, or `once`, and then says how many results it was given.
python -m bench.provider PORT
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from aiohttp import web

TOKENS, TOKEN = 50, " word"
PAUSE = 0.010  # seconds
CALLS = 20
ARGUMENTS: dict[str, Callable[[int], dict[str, Any]]] = {  # by what a tool's name ends with
    "add_duration": lambda number: {"time": "2026-03-01T09:30", "days": number},
    "append_file": lambda number: {"filename": "bench.txt", "content": f"line {number}\n"},
}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


_CHUNKS = [_chunk({"role": "assistant", "content": ""}), *[_chunk({"content": TOKEN})] * TOKENS, _chunk({}, "stop")]
_USAGE = {"prompt_tokens": 1, "completion_tokens": TOKENS, "total_tokens": TOKENS + 1}
_MESSAGE = {"role": "assistant", "content": TOKEN * TOKENS}
_WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    "usage": _USAGE,
}


def _called(messages: list[dict[str, Any]]) -> list[bytes] | None:
    """The chunks that call tools, or that tell of their results; None where no call was asked for."""
    place = max(place for place, message in enumerate(messages) if message["role"] == "user")
    verb, _, wanted = messages[place]["content"].partition(" ")
    if verb != "call":
        return None
    results = sum(message["role"] == "tool" for message in messages[place:])
    if results:
        return [_chunk({"role": "assistant", "content": f"{results} done"}), _chunk({}, "stop")]
    tool, _, once = wanted.partition(" ")
    calls = [_call(tool, number) for number in range(1 if once else CALLS)]
    return [_chunk({"role": "assistant", "tool_calls": calls}), _chunk({}, "tool_calls")]


def _call(tool: str, number: int) -> dict[str, Any]:
    arguments = next(make(number) for name, make in ARGUMENTS.items() if tool.endswith(name))
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {"index": number, "id": f"call_{number}", "type": "function", "function": function}


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        return web.json_response(_WHOLE)
    slowly = "slowly" in str(body["messages"][-1]["content"])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in _called(body["messages"]) or _CHUNKS:
        if slowly:
            await asyncio.sleep(PAUSE)
        await response.write(chunk)
    await response.write(b"data: [DONE]\n\n")
    return response


async def fail(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"error": {"message": "down", "type": "server_error"}}, status=500)


def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/failing/v1/chat/completions", fail)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main()
