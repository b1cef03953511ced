"""A process that stops waits until those who follow runs there are told where these go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest

from runs import consumers, runner
from runs.process import process
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_lost_runs import begun
from tests.runs.test_socket import hear, socket
from tests.runs.test_socket_faults import HANG

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


@asynccontextmanager
async def stopped() -> AsyncIterator[None]:
    here = await process()
    try:
        await runner.shut_down(0)
        yield
    finally:
        runner._stopping.clear()
        here.moving = here.hub._moved = False


def sent(ws: Any) -> list[dict[str, Any]]:
    """What the client was sent by now."""
    found = []
    with suppress(asyncio.QueueEmpty):
        while True:
            found.append(ws.output_queue.get_nowait())
    return found


async def test_a_slow_socket_is_told_before_the_server_goes_on(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await begun(owner, HANG)
    send = consumers.SessionConsumer.send

    async def slow(self: Any, **given: Any) -> None:
        await asyncio.sleep(0.1)
        await send(self, **given)

    async with socket(owner, "s") as ws:
        while (last := await hear(ws))["type"] != "TEXT_MESSAGE_CONTENT":
            pass
        monkeypatch.setattr(consumers.SessionConsumer, "send", slow)
        async with stopped():
            *_, told, closed = sent(ws)
    value = {"run_id": str(run.id), "after": last["metadata"]["seq"]}
    assert orjson.loads(told["text"])["value"] == value
    assert (closed["type"], closed["code"], closed["reason"]) == ("websocket.close", 1012, "server_stopping")


async def test_a_slow_reader_of_a_stream_is_told_before_the_server_goes_on(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    run = await begun(owner, HANG)
    accept = {**owner.headers, "Accept": "text/event-stream"}
    response: Any = await owner.ahttp.get(f"/v1/runs/{run.id}/events", headers=accept)
    chunks: list[bytes] = []

    async def read() -> None:
        async for chunk in response.streaming_content:
            await asyncio.sleep(0.1)
            chunks.append(chunk)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    async with stopped():
        assert b'"name":"resume"' in chunks[-1]
    await reading


async def test_who_does_not_read_holds_a_stop_up_for_a_moment_only(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TELL_SECONDS", 0.1)
    here = await process()
    with here.telling():
        async with asyncio.timeout(20), stopped():
            pass
