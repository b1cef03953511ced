"""The mock provider that turns are measured against: answers whole or in TOKENS chunks, at once.

Asked to go `slowly`, it pauses before each chunk, as a model does; below /failing it fails at once.
python -m bench.provider PORT
"""

import asyncio
import json
import sys

from aiohttp import web

TOKENS, TOKEN = 50, " word"
PAUSE = 0.010  # seconds


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
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


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        return web.json_response(_WHOLE)
    slowly = "slowly" in str(body["messages"][-1]["content"])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in _CHUNKS:
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
