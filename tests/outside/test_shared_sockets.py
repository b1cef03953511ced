"""Participants on two real servers: who is demoted on one loses their socket on the other."""

import asyncio
import json
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.outside.site import Server, new_database, new_site, serving


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    name = f"shared_{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with new_database(os.environ["DATABASE_URL"], name) as url, ExitStack() as running:
        site = new_site(tmp_path_factory.mktemp("shared"), url)
        yield [running.enter_context(serving(site)) for _ in range(2)]


def accepted(server: Server, token: str) -> tuple[str, dict[str, str]]:
    """A guest's session and the headers of their requests."""
    answer = httpx.post(f"{server.api}/invitations/accept", json={"token": token}, trust_env=False, timeout=30).json()
    return answer["session_id"], {"Authorization": f"Bearer {answer['guest']['token']}"}


def connected(server: Server, session: str, headers: dict[str, str]) -> Any:
    answer = httpx.post(f"{server.api}/ws-tickets", headers=headers, trust_env=False, timeout=30).json()
    offered = ["agui.v1", f"ticket.{answer['ticket']}"]
    return connect(f"{server.socket_url}/{session}", subprotocols=offered, proxy=None, open_timeout=20)


async def heard(ws: Any, type: str) -> None:
    while json.loads(await ws.recv())["type"] != type:
        pass


async def ended(ws: Any) -> tuple[int, str]:
    """Within the five seconds that are promised."""
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await ws.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("change", "reason"), [("demoted", "participation_changed"), ("revoked", "participation_ended")]
)
async def test_who_is_demoted_on_one_server_loses_their_socket_on_the_other(
    servers: list[Server], change: str, reason: str
) -> None:
    here, there = servers
    with here.client() as http:
        session = http.post("sessions", json={"agent": "scripted"}).json()["id"]
        body = {"role": "member", "audience": "anyone"}
        invited, kept = (http.post(f"sessions/{session}/invitations", json=body).json() for _ in range(2))
        _, ann = accepted(there, invited["token"])
        _, ben = accepted(here, kept["token"])
        async with connected(there, session, ann) as one, connected(here, session, ben) as two:
            body = {"type": "run", "input": {"threadId": session, "runId": "r", "tools": [], "context": []}}
            body["input"] |= {"state": {}, "forwardedProps": {}}  # type: ignore[operator]
            body["input"] |= {"messages": [{"id": "m", "role": "user", "content": "hi"}]}  # type: ignore[operator]
            await one.send(json.dumps(body))
            await asyncio.gather(heard(one, "RUN_FINISHED"), heard(two, "RUN_FINISHED"))
            await asyncio.sleep(random.random() * 2)
            people = http.get(f"sessions/{session}/participants").json()["data"]
            if change == "demoted":
                done = http.patch(f"sessions/{session}/participants/{people[0]['id']}", json={"role": "viewer"})
            else:
                done = http.delete(f"sessions/{session}/invitations/{invited['id']}?participants=true")
            assert done.is_success
            assert await ended(one) == (4403, reason)
            await two.send('{"type": "ping"}')
            await heard(two, "pong")
            assert http.delete(f"sessions/{session}").status_code == 204
            assert await ended(two) == (4403, "session_deleted")
