"""How soon a turn says something, over a provider that answers at once: `make bench`, or python -m bench.first_event.

Turns one after the other, each in a session of its own; a socket is open before its turn is asked for.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import orjson

from bench.report import figure, goal, percentiles
from bench.site import Site, prepare, site
from bench.socket_client import Socket, run_frame, run_input
from bench.targets import Target, provider

TURNS, WARM_UP = 200, 10
LIMIT = 50  # milliseconds until the first event
AGENT = "first-event"
FIRST_TOKEN = "TEXT_MESSAGE_CONTENT"
ENDS = ("RUN_FINISHED", "RUN_ERROR", "error")

Arrivals = dict[str, float]  # of the first event of each type, in milliseconds since the turn was asked for


def main(where: Site, upstream: Target) -> None:
    prepare(where, upstream.base_url, AGENT)
    asyncio.run(measure(where.base_url, where.token))


async def measure(base_url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as http:
        url = f"{base_url}/v1/agents/{AGENT}/ag-ui"
        show("AG-UI over SSE", [await by_sse(http, url) for _ in range(WARM_UP + TURNS)])
    parts = urlsplit(base_url)
    assert parts.hostname
    assert parts.port
    show("socket", [await by_socket(parts.hostname, parts.port, token) for _ in range(WARM_UP + TURNS)])


async def by_sse(http: aiohttp.ClientSession, url: str) -> Arrivals:
    came: Arrivals = {}
    began = time.perf_counter()
    async with http.post(url, json=run_input(uuid4().hex, "go")) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith(b"data: "):
                note(came, orjson.loads(line.removeprefix(b"data: ")), began)
    return came


async def by_socket(host: str, port: int, token: str) -> Arrivals:
    session = uuid4().hex
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(lambda: Turn(f"{host}:{port}", session, token), host, port)
    await socket.opened
    came = await asyncio.wait_for(socket.ask(session), 30)
    socket.close()
    return came


class Turn(Socket):
    """A socket that has one run."""

    def __init__(self, host: str, session: str, token: str) -> None:
        super().__init__(host, f"/ws/v1/sessions/{session}", token)
        self._came: Arrivals = {}
        self._ended = asyncio.Event()

    async def ask(self, session: str) -> Arrivals:
        self._began = time.perf_counter()
        self.say(run_frame(AGENT, session, "go"))
        await self._ended.wait()
        return self._came

    def heard(self, message: bytes) -> None:
        event = orjson.loads(message)
        note(self._came, event, self._began)
        if event["type"] in ENDS:
            self._ended.set()


def note(came: Arrivals, event: dict[str, Any], began: float) -> None:
    came.setdefault(event["type"], (time.perf_counter() - began) * 1000)


def show(edge: str, turns: list[Arrivals]) -> None:
    counted = turns[WARM_UP:]
    first, token = [min(came.values()) for came in counted], [came[FIRST_TOKEN] for came in counted]
    print(f"\n{edge}, {len(counted)} turns one after the other")
    figure("first event p50", percentiles(first)[0], "ms")
    goal("first event p95", percentiles(first)[1], LIMIT, "ms")
    figure("first token p50", percentiles(token)[0], "ms")
    figure("first token p95", percentiles(token)[1], "ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home, site(Path(home)) as mine, provider() as upstream:
        main(mine, upstream)
