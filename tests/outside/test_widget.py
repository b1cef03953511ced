"""A widget on a page of another origin, as its browser asks; on both servers."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.outside.site import Server
from tests.outside.test_agui import hear_run, run_frame

SHOP, EVIL = "https://shop.example", "https://evil.example"
DEADLINE = 30  # seconds; 5 are promised, on a machine that is not this busy


@dataclass
class Key:
    server: Server
    id: str
    token: str

    def change(self, **changes: Any) -> None:
        with self.server.client() as http:
            assert http.patch(f"publishable-keys/{self.id}", json=changes).status_code == 200

    def revoke(self) -> None:
        with self.server.client() as http:
            assert http.delete(f"publishable-keys/{self.id}").status_code == 204


@pytest.fixture
def key(server: Server) -> Key:
    with server.client() as http:
        made = http.post("publishable-keys", json={"name": "Shop", "agent": "scripted", "origins": [SHOP]}).json()
    return Key(server, made["id"], made["token"])


def page(server: Server, token: str, origin: str = SHOP) -> httpx.Client:
    """What a page of this origin asks with; as a browser it gets to see what CORS lets it."""
    headers = {"Authorization": f"Bearer {token}", "Origin": origin}
    return httpx.Client(base_url=server.api, headers=headers, timeout=30, trust_env=False)


@pytest.fixture
def visitor(key: Key) -> Iterator[httpx.Client]:
    with page(key.server, key.token) as http:
        answer = http.post("visitors", json={})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (201, SHOP)
    with page(key.server, answer.json()["token"]) as http:
        yield http


def preflight(server: Server, origin: str) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return httpx.options(f"{server.api}/visitors", headers=headers, timeout=30, trust_env=False)


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def socket(server: Server, visitor: httpx.Client, session: str, origin: str = SHOP) -> connect:
    ticket = visitor.post("ws-tickets").json()["ticket"]
    return connect(
        f"{server.socket_url}/{session}",
        subprotocols=["agui.v1", f"ticket.{ticket}"],
        origin=origin,
        proxy=None,
        open_timeout=20,
    )


async def closed_with(ws: Any) -> int:
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ConnectionClosed) as end:
            while True:
                await ws.recv()
    return int(end.value.rcvd.code)


def test_a_page_of_the_key_talks(server: Server, key: Key, visitor: httpx.Client) -> None:
    asked = preflight(server, SHOP)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, SHOP)
    made = visitor.post("sessions", json={})
    assert made.headers["access-control-allow-origin"] == SHOP
    session = made.json()["id"]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "metadata": {"session_id": session}}
    answer = visitor.post("chat/completions", json=body)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)

    async def over_the_socket() -> list[dict[str, Any]]:
        async with socket(server, visitor, session) as ws:
            await ws.send(run_frame("hello", session))
            return await hear_run(ws)

    assert asyncio.run(over_the_socket())[-1]["type"] == "RUN_FINISHED"
    said = visitor.get(f"sessions/{session}/messages").json()["data"]
    assert [message["content"] for message in said if message["role"] == "user"] == ["hi", "hello"]


def test_a_page_of_another_origin_is_refused(server: Server, key: Key, visitor: httpx.Client) -> None:
    asked = preflight(server, EVIL)
    assert (asked.status_code, "access-control-allow-origin" in asked.headers) == (403, False)
    for token, path in ((key.token, "visitors"), (visitor.headers["Authorization"].split()[1], "sessions")):
        with page(server, token, EVIL) as http:
            refused = http.post(path, json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin")
        assert "access-control-allow-origin" not in refused.headers
    session = visitor.post("sessions", json={}).json()["id"]

    async def over_the_socket() -> int:
        async with socket(server, visitor, session, EVIL) as ws:
            return await closed_with(ws)

    assert asyncio.run(over_the_socket()) == 4403


@pytest.mark.parametrize(
    ("end", "code", "status"),
    [(lambda key: key.change(origins=["https://new.example"]), 4403, 403), (lambda key: key.revoke(), 4401, 401)],
    ids=["another origin", "revoked"],
)
def test_what_a_key_no_longer_covers_ends(
    server: Server, key: Key, visitor: httpx.Client, end: Callable[[Key], None], code: int, status: int
) -> None:
    session = visitor.post("sessions", json={}).json()["id"]

    async def watch() -> int:
        async with socket(server, visitor, session) as ws:
            await ws.send(json.dumps({"type": "ping"}))
            assert json.loads(await ws.recv()) == {"type": "pong"}
            await asyncio.to_thread(end, key)
            return await closed_with(ws)

    assert asyncio.run(watch()) == code
    wait_until(lambda: visitor.get("sessions").status_code == status)
    with page(server, key.token) as http:
        wait_until(lambda: http.post("visitors", json={}).status_code == status)
