"""Servers that are told to stop under load: every request is answered, every stream says where it goes on.

The issue's size: DRAIN_STOPS=20 pytest tests/outside/test_drain.py
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pytest

from tests.outside.fleet import Fleet, fleet, scale
from tests.outside.readers import RETRY_SECONDS, Reader, frames
from tests.outside.site import Server, Site

STOPS = scale("DRAIN_STOPS", 5)
LANES = 12
WORDS = " ".join(str(number) for number in range(40))
SCRIPT = "#script " + orjson.dumps([{"say": WORDS, "delay_ms": 80}]).decode()
SHORT = "#script " + orjson.dumps([{"say": "a b c", "delay_ms": 50}]).decode()


@dataclass
class Seen:
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def pair(site: Site) -> Iterator[Fleet]:
    with fleet(site) as made:
        yield made


@pytest.mark.timeout(120 + 20 * STOPS)
def test_no_request_fails_and_every_stream_is_resumed(pair: Fleet) -> None:
    seen = asyncio.run(under_load(pair))
    print(f"\n{STOPS} SIGTERMs: {dict(seen.answers)}")
    assert seen.failures == []
    assert seen.answers["whole"] > LANES
    assert seen.answers["stream"] > LANES
    assert seen.answers["page"] > LANES // 2
    assert seen.answers["resumed"] > 0
    assert seen.answers["page resumed"] > 0
    assert "Traceback" not in pair.logs()


async def under_load(pair: Fleet) -> Seen:
    seen = Seen()
    headers = {"Authorization": f"Bearer {pair.servers[0].site.key('acme')}"}
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=30)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as http:
        stopping = asyncio.create_task(asyncio.to_thread(stop_each, pair))
        kinds = itertools.cycle([whole, stream, page])
        lanes = [lane(next(kinds), http, pair.servers, seen, lambda: not stopping.done()) for _ in range(LANES)]
        await asyncio.gather(*lanes)
        await stopping
    return seen


def stop_each(pair: Fleet) -> None:
    """One server at a time, and the worker now and then, as a rolling deployment does."""
    servers = [member for member in pair.members if member is not pair.worker]
    for number in range(STOPS):
        time.sleep(random.uniform(0.5, 2))
        member = pair.worker if number % 5 == 4 and pair.worker else servers[number % 2]
        member.end()
        member.until_ready()


Ask = Callable[[aiohttp.ClientSession, Sequence[Server], Seen], Any]


async def lane(
    ask: Ask, http: aiohttp.ClientSession, servers: Sequence[Server], seen: Seen, further: Callable[[], bool]
) -> None:
    while further():
        try:
            await ask(http, servers, seen)
        except Exception as error:
            seen.failures.append(f"{ask.__name__}: {error!r}")
            return


async def post(http: aiohttp.ClientSession, servers: Sequence[Server], path: str, body: Any) -> aiohttp.ClientResponse:
    """To whichever server takes it: one that is gone or stops is left for the other, with the same key.

    A connection from which a server has read nothing when it stops to listen is reset or closed.
    """
    headers = {"Idempotency-Key": uuid4().hex}
    reset = ""
    while True:
        server = random.choice(servers)
        try:
            response = await http.post(f"{server.api}/{path}", json=body, headers=headers)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if not isinstance(error, aiohttp.ClientConnectorError):
                reset = datetime.now(UTC).isoformat()
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if response.status == 503 and (await response.json())["error"]["code"] == "server_stopping":
            await asyncio.sleep(RETRY_SECONDS)
            continue
        assert response.status == 200, await response.text()
        if reset:
            async with http.get(f"{server.api}/runs/{response.headers['X-Run-Id']}") as run:
                assert datetime.fromisoformat((await run.json())["created_at"]) > datetime.fromisoformat(reset)
        return response


async def whole(http: aiohttp.ClientSession, servers: Sequence[Server], seen: Seen) -> None:
    text = random.choice([SCRIPT, SHORT])
    body = {"model": "scripted", "messages": [{"role": "user", "content": text}]}
    response = await post(http, servers, "chat/completions", body)
    answer = (await response.json())["choices"][0]["message"]["content"]
    assert answer == (WORDS if text == SCRIPT else "a b c"), answer
    seen.answers["whole"] += 1


async def stream(http: aiohttp.ClientSession, servers: Sequence[Server], seen: Seen) -> None:
    session = f"drain-{uuid4().hex}"
    message = {"id": "m", "role": "user", "content": SCRIPT}
    fields = {"runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {}}
    body = {"threadId": session, "messages": [message], **fields}
    response = await post(http, servers, "agents/scripted/ag-ui", body)
    reader = Reader(response.headers["X-Run-Id"], session)
    await follow(response, reader)
    while not reader.ended:
        seen.answers["resumed"] += 1
        await follow(await resumed(http, servers, reader), reader)
    assert reader.text == WORDS, reader.text
    seen.answers["stream"] += 1


async def follow(response: aiohttp.ClientResponse, reader: Reader) -> None:
    """Until the run has ended, or the server has said that it goes on elsewhere; any other end is a failure."""
    async with response:
        async for seq, _, event in frames(response):
            if seq is not None:
                reader.take(seq, event)
            elif event.get("name") == "resume":
                assert event["value"] == {"run_id": reader.run_id, "after": reader.last}
                return
    assert reader.ended, f"the stream of {reader.run_id} was cut after {reader.last}"


async def resumed(http: aiohttp.ClientSession, servers: Sequence[Server], reader: Reader) -> aiohttp.ClientResponse:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(reader.last)}
    while True:
        try:
            response = await http.get(f"{random.choice(servers).api}/runs/{reader.run_id}/events", headers=headers)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if response.status == 200:
            return response
        assert response.status == 503, await response.text()
        await asyncio.sleep(RETRY_SECONDS)


async def page(http: aiohttp.ClientSession, servers: Sequence[Server], seen: Seen) -> None:
    """As the AI SDK's `useChat` does it: the message is read anew from its beginning."""
    session = f"drain-{uuid4().hex}"
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": SCRIPT}]}
    response = await post(http, servers, "agents/scripted/ui-stream", {"id": session, "messages": [message]})
    parts = await parts_of(response)
    while parts[-1]["type"] == "error":
        error = parts[-2]["messageMetadata"]["error"]["code"]
        assert error in ("server_stopping", "attempt_restarted"), parts[-2]
        seen.answers["page resumed"] += 1
        reopened = await shown_anew(http, servers, session)
        if reopened is None:
            parts = [{"type": "text-delta", "delta": await stored(http, servers, session)}, {"type": "finish"}]
        else:
            parts = await parts_of(reopened)
    assert parts[-1]["type"] == "finish", parts[-1]
    text = "".join(part["delta"] for part in parts if part["type"] == "text-delta")
    assert text == WORDS, text
    seen.answers["page"] += 1


async def parts_of(response: aiohttp.ClientResponse) -> list[Any]:
    """Of a stream that ends in good order."""
    async with response:
        lines = [line for line in (await response.text()).split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]", lines[-1]
    return [orjson.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def shown_anew(
    http: aiohttp.ClientSession, servers: Sequence[Server], session: str
) -> aiohttp.ClientResponse | None:
    """None when the run has ended meanwhile."""
    response = await asked(http, servers, f"agents/scripted/ui-stream/{session}/stream")
    return None if response.status == 204 else response


async def stored(http: aiohttp.ClientSession, servers: Sequence[Server], session: str) -> str:
    response = await asked(http, servers, f"sessions/{session}/messages")
    return str((await response.json())["data"][-1]["content"])


async def asked(http: aiohttp.ClientSession, servers: Sequence[Server], path: str) -> aiohttp.ClientResponse:
    while True:
        try:
            response = await http.get(f"{random.choice(servers).api}/{path}")
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if response.status in (200, 204):
            return response
        assert response.status == 503, await response.text()
        await asyncio.sleep(RETRY_SECONDS)
