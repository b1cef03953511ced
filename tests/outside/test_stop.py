"""What becomes of the runs of a server that ends: by a signal, and by force."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.outside.site import Server, Site, serving
from tests.outside.test_agui import run_frame, socket

SCRIPT = '#script [{"say": "half an"}, {"fail": "hang"}]'


@pytest.fixture
def doomed(site: Site) -> Iterator[Server]:
    with serving(site) as server:
        yield server


def ask(client: httpx.Client) -> Any:
    messages = [{"role": "user", "content": SCRIPT}]
    return client.stream("POST", "chat/completions", json={"model": "scripted", "messages": messages, "stream": True})


def until_it_hangs(lines: Iterator[str]) -> None:
    for line in lines:
        if "half" in line:
            return


def run_of(server: Server, run_id: str) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get(f"runs/{run_id}").json()
        return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_up_each_run_with_a_word_to_its_client(
    doomed: Server, uvicorn: Server, number: signal.Signals
) -> None:
    with doomed.client() as client, ask(client) as response:
        lines = response.iter_lines()
        until_it_hangs(lines)
        os.kill(doomed.pid, number)
        rest = list(lines)
    assert "event: error" in rest
    error = json.loads(rest[rest.index("event: error") + 1].removeprefix("data: "))["error"]
    assert error["code"] == "server_stopping"
    run = run_of(uvicorn, response.headers["X-Run-Id"])
    assert run["status"] == "running"
    with uvicorn.client() as client:
        ended = client.post(f"runs/{run['id']}/cancel").json()
        assert ended["status"] == "cancelled"
        messages = client.get(f"sessions/{response.headers['X-Session-Id']}/messages").json()["data"]
    assert (messages[-1]["status"], messages[-1]["content"].strip()) == ("cancelled", "half an")
    assert "Traceback" not in doomed.log.read_text()


def test_a_run_of_a_killed_server_can_be_cancelled(site: Site, uvicorn: Server) -> None:
    with pytest.raises(httpx.TransportError), serving(site) as server:  # noqa: SIM117 the order of exits matters
        with server.client() as client, ask(client) as response:
            lines = response.iter_lines()
            until_it_hangs(lines)
            os.kill(server.pid, signal.SIGKILL)
            list(lines)
    run_id = response.headers["X-Run-Id"]
    assert run_of(uvicorn, run_id)["status"] == "running"
    with uvicorn.client() as client:
        ended = client.post(f"runs/{run_id}/cancel").json()
        events = client.get(f"runs/{run_id}/events").json()["data"]
        messages = client.get(f"sessions/{response.headers['X-Session-Id']}/messages").json()["data"]
    assert (ended["status"], ended["error"]["code"]) == ("cancelled", "run_cancelled")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"]["type"] == "RUN_ERROR"
    assert (messages[-1]["status"], messages[-1]["content"].strip()) == ("cancelled", "half an")


async def test_each_socket_is_told_where_its_run_goes_on(doomed: Server) -> None:
    session = f"s-{uuid4().hex[:12]}"
    async with AsyncExitStack() as held:
        sockets = [await held.enter_async_context(socket(doomed, session)) for _ in range(16)]
        await sockets[0].send(run_frame(SCRIPT, session))
        for ws in sockets:
            await until_it_says(ws, "half")
        os.kill(doomed.pid, signal.SIGTERM)
        for ws in sockets:
            await until_it_says(ws, '"name":"resume"')
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "server_stopping")
    assert "Traceback" not in doomed.log.read_text()


async def until_it_says(ws: ClientConnection, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in str(await ws.recv()):
            pass
