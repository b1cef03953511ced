"""The `agui.v1` socket, driven through the real ASGI application."""

import asyncio
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from ag_ui.core import Event
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import OperationalError
from django.utils import timezone
from pydantic import TypeAdapter

from agentsite.asgi import application
from core.tenant import tenant_context
from runs import socket_watch
from runs.models import Run
from tenants.authentication import ended
from tenants.models import ApiKey, Tenant
from tests.conftest import Actor

pytestmark = pytest.mark.django_db
EVENT = TypeAdapter(Event)


def run_input(text: str, thread: str = "room") -> dict[str, Any]:
    message = {"id": "m1", "role": "user", "content": text}
    return {
        "threadId": thread,
        "runId": "r1",
        "state": {},
        "messages": [message],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }


def communicator(
    session: str, token: str | None, protocols: list[str] | None = None, origin: str | None = None
) -> WebsocketCommunicator:
    headers = [(b"host", b"testserver")]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    if origin:
        headers.append((b"origin", origin.encode()))
    wanted = ["agui.v1"] if protocols is None else protocols
    return WebsocketCommunicator(application, f"/ws/v1/sessions/{session}", headers=headers, subprotocols=wanted)


@asynccontextmanager
async def socket(actor: Actor, session: str = "room", **options: Any) -> Any:
    ws = communicator(session, actor.token, **options)
    connected, protocol = await ws.connect(timeout=20)
    assert (connected, protocol) == (True, "agui.v1")
    try:
        yield ws
    finally:
        await ws.disconnect()


async def say(ws: WebsocketCommunicator, frame: dict[str, Any]) -> None:
    await ws.send_to(text_data=orjson.dumps(frame).decode())


async def hear(ws: WebsocketCommunicator, *, presence: bool = False) -> dict[str, Any]:
    """The next frame; who is present comes when it comes, and is told only who asks for it."""
    frame: dict[str, Any] = orjson.loads(await ws.receive_from(timeout=20))
    if (frame.get("name") == "presence") is presence:
        return frame
    return await hear(ws, presence=presence)


async def silent(ws: WebsocketCommunicator, timeout: float) -> bool:
    """Nothing comes for so long, but who is present."""
    while not await ws.receive_nothing(timeout=timeout):
        if orjson.loads(await ws.receive_from()).get("name") != "presence":
            return False
    return True


async def hear_run(ws: WebsocketCommunicator) -> list[dict[str, Any]]:
    events = [await hear(ws)]
    while events[-1]["type"] not in ("RUN_FINISHED", "RUN_ERROR", "error"):
        events.append(await hear(ws))
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


async def test_a_run_streams_agui_events(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("hello there")})
        events = await hear_run(ws)
    assert [kind for kind, _ in groupby(event["type"] for event in events)] == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert text_of(events) == "You said: hello there"
    assert [event["metadata"]["seq"] for event in events] == list(range(1, len(events) + 1))
    for event in events:
        EVENT.validate_python(event)
    run = await Run.objects.aget()
    assert {event["metadata"]["run_id"] for event in events} == {str(run.id)}


async def test_two_sockets_of_a_session_see_the_same_run(owner: Actor, viewer: Actor, scripted: str) -> None:
    async with socket(owner) as first:
        await say(first, {"type": "run", "agent": scripted, "input": run_input("one")})
        await hear_run(first)
        async with socket(viewer) as second, socket(owner, "elsewhere") as other:
            await say(first, {"type": "run", "input": run_input("two")})
            assert await hear_run(first) == await hear_run(second)
            assert await other.receive_nothing(timeout=0.1)


async def test_since_replays_what_was_missed(owner: Actor, scripted: str) -> None:
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("hello there")})
        events = await hear_run(ws)
    async with socket(owner) as ws:
        run_id = events[0]["metadata"]["run_id"]
        await say(ws, {"type": "since", "run_id": run_id, "seq": 3})
        assert await hear_run(ws) == events[3:]


WORDS = '#script [{"repeat": "word", "times": 20, "delay_ms": 50}]'


async def talking(ws: WebsocketCommunicator, agent: str, events: int) -> str:
    """The id of a run of which the socket has heard the first, and so many events more."""
    await say(ws, {"type": "run", "agent": agent, "input": run_input(WORDS)})
    run_id: str = (await hear(ws))["metadata"]["run_id"]
    for _ in range(events):
        await hear(ws)
    return run_id


async def seqs_after(ws: WebsocketCommunicator, run_id: str, seq: int) -> list[int]:
    """All that comes when the client asks for what follows `seq`."""
    await say(ws, {"type": "since", "run_id": run_id, "seq": seq})
    events = await hear_run(ws)
    assert await ws.receive_nothing(timeout=0.1)
    return [event["metadata"]["seq"] for event in events]


async def test_since_repeats_nothing_that_the_socket_sends_anyway(owner: Actor, scripted: str) -> None:
    async with socket(owner) as first:
        run_id = await talking(first, scripted, 3)
        async with socket(owner) as ws:
            seen = [(await hear(ws))["metadata"]["seq"] for _ in range(4)]
            seen += await seqs_after(ws, run_id, 2)
    assert seen == list(range(1, len(seen) + 1))


async def test_since_goes_back_to_what_the_socket_has_not_sent(owner: Actor, scripted: str) -> None:
    async with socket(owner) as first:
        run_id = await talking(first, scripted, 5)
        async with socket(owner, "elsewhere") as ws:
            await say(ws, {"type": "since", "run_id": run_id, "seq": 5})
            assert (await hear(ws))["metadata"]["seq"] == 6
            seqs = await seqs_after(ws, run_id, 2)
    back = seqs.index(3)
    assert seqs[:back] == list(range(7, 7 + back))
    assert seqs[back:] == list(range(3, seqs[-1] + 1))


async def test_since_goes_on_after_what_the_client_has(owner: Actor, scripted: str) -> None:
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input('#script [{"fail": "hang"}]')})
        seen = [await hear(ws)]
        run_id = seen[0]["metadata"]["run_id"]
        await say(ws, {"type": "since", "run_id": run_id, "seq": 1})
        assert await ws.receive_nothing(timeout=0.1)
        await say(ws, {"type": "cancel", "run_id": run_id})
        seen += await hear_run(ws)
        assert await ws.receive_nothing(timeout=0.1)
    assert [event["metadata"]["seq"] for event in seen] == list(range(1, len(seen) + 1))


async def test_a_repeated_frame_shows_its_run_again(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    frame = {"type": "run", "agent": scripted, "input": run_input("hello"), "idempotency_key": "k"}
    async with socket(owner) as ws:
        await say(ws, frame)
        events = await hear_run(ws)
        await say(ws, frame)
        assert await hear_run(ws) == events
        assert await ws.receive_nothing(timeout=0.1)
    assert await Run.objects.acount() == 1


async def test_a_frame_that_is_repeated_meanwhile_changes_nothing(owner: Actor, scripted: str) -> None:
    frame = {"type": "run", "agent": scripted, "input": run_input(WORDS), "idempotency_key": "k"}
    async with socket(owner) as ws:
        for _ in range(2):
            await say(ws, frame)
        events = await hear_run(ws)
        assert await ws.receive_nothing(timeout=0.1)
    assert [event["metadata"]["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_a_run_outlives_its_socket(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    script = '#script [{"repeat": "word", "times": 20, "delay_ms": 5}]'
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input(script)})
        run_id = (await hear(ws))["metadata"]["run_id"]
    async with socket(owner) as ws:
        events = await hear_run(ws)
    assert {name: events[0]["metadata"][name] for name in ("seq", "run_id")} == {"seq": 1, "run_id": run_id}
    assert len(text_of(events).split()) == 20


async def test_cancel_keeps_what_was_said(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    script = '#script [{"say": "half an"}, {"fail": "hang"}]'
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input(script)})
        run_id = (await hear(ws))["metadata"]["run_id"]
        while (await hear(ws))["type"] != "TEXT_MESSAGE_CONTENT":
            pass
        await say(ws, {"type": "cancel", "run_id": run_id})
        events = await hear_run(ws)
    assert events[-1] == {**events[-1], "type": "RUN_ERROR", "code": "run_cancelled"}
    run = await Run.objects.aget()
    assert (run.status, str(run.id)) == ("cancelled", run_id)
    messages = (await owner.aget("sessions/room/messages")).json()["data"]
    assert (messages[-1]["status"], messages[-1]["content"].strip()) == ("cancelled", "half an")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "unknown_frame"),
        ('{"type": "dance"}', "unknown_frame"),
        ('{"type": "run"}', "missing"),
        ('{"type": "run", "agent": "helper", "input": {}}', "missing"),
        ('{"type": "run", "agent": "nosuch", "input": %s}', "model_not_found"),
        ('{"type": "run", "input": %s}', "agent_required"),
        ('{"type": "since", "run_id": "x", "seq": 1}', "not_found"),
        ('{"type": "cancel", "run_id": 7}', "string_type"),
        ('{"type": "since", "run_id": "x", "seq": 1, "extra": 2}', "extra_forbidden"),
        ('{"type": "ping", "x": "\\u0000"}', "invalid_character"),
    ],
)
async def test_a_bad_frame_is_an_error_and_the_socket_stays(
    owner: Actor, scripted: str, in_acme: Tenant, frame: str, code: str
) -> None:
    async with socket(owner) as ws:
        await ws.send_to(text_data=frame.replace("%s", orjson.dumps(run_input("x")).decode()))
        answer = await hear(ws)
        assert (answer["type"], answer["error"]["code"]) == ("error", code)
        await say(ws, {"type": "ping"})
        assert await hear(ws) == {"type": "pong"}
    assert not await Run.objects.aexists()


async def refused(ws: WebsocketCommunicator) -> int:
    await ws.connect(timeout=20)
    closed = await ws.receive_output(timeout=20)
    assert closed["type"] == "websocket.close"
    return int(closed["code"])


async def test_who_may_open_a_socket(owner: Actor, stranger: Actor, scripted: str) -> None:
    assert await refused(communicator("room", None)) == 4401
    assert await refused(communicator("room", "ask_wrong_key")) == 4401
    assert await refused(communicator("room", owner.token, protocols=[])) == 4401
    assert await refused(communicator("room", owner.token, origin="https://evil.example")) == 4403
    async with socket(owner, origin="http://testserver"):
        pass
    async with socket(owner) as ws, socket(stranger) as theirs:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("secret")})
        events = await hear_run(ws)
        assert await theirs.receive_nothing(timeout=0.1)
        await say(theirs, {"type": "since", "run_id": events[0]["metadata"]["run_id"], "seq": 0})
        assert (await hear(theirs))["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["/ws", "/ws/v1/sessions/", "/ws/v2/sessions/room", "/ws/v1/sessions/a%0Ab"])
async def test_an_unknown_address_is_refused(path: str) -> None:
    ws = WebsocketCommunicator(application, path)
    assert await ws.connect(timeout=20) == (False, 1000)
    ws = WebsocketCommunicator(application, path)
    ws.scope["extensions"] = {"websocket.http.response": {}}
    await ws.send_input({"type": "websocket.connect"})
    start, body = [await ws.receive_output(timeout=20) for _ in range(2)]
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert orjson.loads(body["body"])["error"]["code"] == "not_found"


async def test_a_client_learns_which_of_its_messages_was_not_taken(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    """Also while others wait for their turn: one is refused at once, and one ends before it has begun."""
    async with socket(owner) as ws:
        frame = {"type": "run", "agent": scripted, "input": run_input(WORDS), "idempotency_key": "k1"}
        await say(ws, frame)
        await hear(ws)
        waits = {**run_input("waits"), "messages": [{"id": "m2", "role": "user", "content": "waits"}]}
        await say(ws, {**frame, "input": waits, "idempotency_key": "k2"})
        await say(ws, {**frame, "agent": "nobody", "idempotency_key": "k3"})
        while (told := await hear(ws))["type"] != "error":
            pass
        assert (told["error"]["code"], told["metadata"]) == ("model_not_found", {"idempotency_key": "k3"})
        waiting = await Run.objects.aget(status="queued")
        await say(ws, {"type": "cancel", "run_id": str(waiting.id)})
        while told.get("metadata", {}).get("run_id") != str(waiting.id):
            told = await hear(ws)
        assert (told["type"], told["metadata"]["seq"], told["metadata"]["messages"]) == ("RUN_ERROR", 1, ["m2"])
        EVENT.validate_python(told)


async def test_a_viewer_watches_and_does_not_run(viewer: Actor, scripted: str) -> None:
    async with socket(viewer) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("x")})
        assert (await hear(ws))["error"]["code"] == "role_too_low"


async def test_a_ticket_opens_one_socket(owner: Actor, scripted: str) -> None:
    body = (await owner.apost("ws-tickets", {})).json()
    assert body["expires_in"] == 60
    protocols = ["agui.v1", f"ticket.{body['ticket']}"]
    ws = communicator("room", None, protocols)
    assert await ws.connect(timeout=20) == (True, "agui.v1")
    await say(ws, {"type": "run", "agent": scripted, "input": run_input("hi")})
    assert text_of(await hear_run(ws)) == "You said: hi"
    await ws.disconnect()
    assert await refused(communicator("room", None, protocols)) == 4401
    for wrong in ("ticket.", "ticket.x.y", f"ticket.{'0' * 32}.abc"):
        assert await refused(communicator("room", None, ["agui.v1", wrong])) == 4401


async def test_a_revoked_key_closes_its_sockets(owner: Actor, viewer: Actor, stranger: Actor, settings: Any) -> None:
    assert settings.SOCKET_RECHECK_SECONDS < 5
    settings.SOCKET_RECHECK_SECONDS = 0.05
    async with socket(owner) as one, socket(owner, "hall") as two, socket(viewer) as other, socket(stranger) as theirs:
        await sync_to_async(revoke)(owner)
        for ws in (one, two):
            closed = await ws.receive_output(timeout=20)
            assert (closed["type"], closed["code"]) == ("websocket.close", 4401)
        for ws in (other, theirs):
            await say(ws, {"type": "ping"})
            assert await hear(ws) == {"type": "pong"}


def revoke(actor: Actor) -> None:
    with tenant_context(actor.tenant.id):
        ApiKey.objects.filter(id=actor.principal.id).update(revoked_at=timezone.now())


async def test_sockets_are_looked_at_together(
    owner: Actor, stranger: Actor, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.05
    looks: list[Any] = []

    def look(principals: Any) -> Any:
        looks.append(principals)
        return ended(principals)

    monkeypatch.setattr(socket_watch, "ended", look)
    async with socket(owner), socket(owner), socket(stranger):
        looks.clear()
        await asyncio.sleep(0.3)
    assert looks[:2] == [[owner.principal, stranger.principal]] * 2


async def test_sockets_stay_while_nobody_can_look(
    owner: Actor, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.02
    with monkeypatch.context() as broken:
        broken.setattr(socket_watch, "ended", Mock(side_effect=OperationalError))
        async with socket(owner) as ws:
            await asyncio.sleep(0.1)
            await say(ws, {"type": "ping"})
            assert await hear(ws) == {"type": "pong"}
            broken.undo()
            await sync_to_async(revoke)(owner)
            assert (await ws.receive_output(timeout=20))["code"] == 4401
    assert "could not be checked" in caplog.text


async def test_disconnecting_leaves_no_task(owner: Actor, scripted: str) -> None:
    before = len(asyncio.all_tasks())
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("hi")})
        await hear_run(ws)
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= before


async def test_a_client_that_is_gone_when_it_is_answered_leaves_no_task(owner: Actor, caplog: Any) -> None:
    before = len(asyncio.all_tasks())
    ping = {"type": "websocket.receive", "text": '{"type": "ping"}'}
    heard = iter([{"type": "websocket.connect"}, ping, ping, {"type": "websocket.disconnect", "code": 1006}])

    async def receive() -> Any:
        return next(heard)

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionError

    await asyncio.create_task(application(communicator("room", owner.token).scope, receive, send))
    assert next(heard, None) is None
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= before
    assert caplog.text == ""
