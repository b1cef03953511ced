"""AG-UI by its own client over SSE, and the same events over the `agui.v1` socket; on both servers."""

import asyncio
import json
import random
from itertools import groupby
from typing import Any
from uuid import uuid4

import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.outside.javascript import run_program
from tests.outside.site import Server

EVENT = TypeAdapter(Event)
TOOL_SCRIPT = '#script [{"say": "Looking"}, {"tool": "current_time", "args": {}}, {"say": "It is late"}]'


def socket(server: Server, session: str, *, key: str | None = None, ticket: str | None = None) -> connect:
    protocols = ["agui.v1", *([f"ticket.{ticket}"] if ticket else [])]
    headers = {} if ticket else {"Authorization": f"Bearer {key or server.site.key('acme')}"}
    return connect(
        f"{server.socket_url}/{session}",
        subprotocols=protocols,
        additional_headers=headers,
        proxy=None,
        open_timeout=20,
    )


def run_frame(text: str, session: str) -> str:
    message = {"id": str(uuid4()), "role": "user", "content": text}
    given = {"threadId": session, "runId": "r1", "state": {}, "messages": [message], "tools": [], "context": []}
    return json.dumps({"type": "run", "agent": "scripted", "input": {**given, "forwardedProps": {}}})


async def hear_run(ws: ClientConnection) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not events or events[-1]["type"] not in ("RUN_FINISHED", "RUN_ERROR", "error"):
            events.append(await hear(ws))
    return events


async def hear(ws: ClientConnection, *, presence: bool = False) -> dict[str, Any]:
    """The next frame; who is present comes when it comes, and is told only who asks for it."""
    while True:
        frame: dict[str, Any] = json.loads(await ws.recv())
        if (frame.get("name") == "presence") is presence:
            return frame


async def ask(server: Server, session: str, text: str, **options: Any) -> list[dict[str, Any]]:
    async with socket(server, session, **options) as ws:
        assert ws.subprotocol == "agui.v1"
        await ws.send(run_frame(text, session))
        return await hear_run(ws)


def shape(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What is the same in every run of one script: pieces that come together are joined."""
    groups = groupby(events, key=lambda event: (event["type"], event.get("messageId") or event.get("toolCallId")))
    return [(kind, "".join(event.get("delta", "") for event in group)) for (kind, _), group in groups]


def ticket_of(server: Server) -> str:
    with server.client() as http:
        return str(http.post("ws-tickets").json()["ticket"])


@pytest.fixture
def session() -> str:
    return f"s-{uuid4().hex[:12]}"


@pytest.mark.parametrize("text", ["hello there", TOOL_SCRIPT])
def test_the_client_and_the_socket_get_the_same_events(server: Server, node: str, session: str, text: str) -> None:
    url = f"{server.api}/agents/scripted/ag-ui"
    key = server.site.key("acme")
    found = run_program(node, "agui-client.mjs", URL=url, API_KEY=key, THREAD=f"{session}-sse", PROMPT=text)
    by_key = asyncio.run(ask(server, f"{session}-key", text))
    by_ticket = asyncio.run(ask(server, f"{session}-ticket", text, ticket=ticket_of(server)))
    assert shape(found["events"]) == shape(by_key) == shape(by_ticket)
    assert (by_key[0]["type"], by_key[-1]["type"]) == ("RUN_STARTED", "RUN_FINISHED")
    for event in [*found["events"], *by_key, *by_ticket]:
        EVENT.validate_python(event)
    spoken = "".join(event["delta"] for event in by_key if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert spoken == "".join(m["content"] or "" for m in found["messages"] if m["role"] == "assistant")


def test_the_client_approves_a_call(server: Server, node: str, session: str) -> None:
    """The client checks the order of events by itself, over both streams of the run."""
    slug = f"clerk-{session}"
    with server.client() as http:
        files = {"slug": slug, "name": "Files", "kind": "files", "policy": {"approval": "side_effects"}}
        assert http.post("toolsets", json=files).status_code == 201
        agent = {"slug": slug, "name": "Clerk", "template": "conversation", "model": "scripted/default"}
        assert http.post("agents", json={**agent, "toolsets": [slug]}).status_code == 201
        assert http.patch(f"agents/{slug}/status", json={"status": "active"}).status_code == 200
    text = '#script [{"tool": "create_file", "args": {"filename": "a", "content": "x"}}, {"say": "Written."}]'
    url, key = f"{server.api}/agents/{slug}/ag-ui", server.site.key("acme")
    edited = json.dumps({"filename": "b", "content": "y"})
    found = run_program(node, "agui-approval.mjs", URL=url, API_KEY=key, THREAD=session, PROMPT=text, EDITED=edited)
    (interrupt,) = found["interrupts"]
    assert interrupt["metadata"]["arguments"] == {"filename": "a", "content": "x"}
    assert [event["type"] for event in found["second"]][:2] == ["RUN_STARTED", "TOOL_CALL_RESULT"]
    assert [message["role"] for message in found["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert "'b'" in found["messages"][2]["content"]
    for event in [*found["first"], *found["second"]]:
        EVENT.validate_python(event)


def test_events_over_sse_have_their_place(server: Server, session: str) -> None:
    given = json.loads(run_frame("hello there", session))["input"]
    with server.client() as http, http.stream("POST", "agents/scripted/ag-ui", json=given) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-cache", "no")
        frames = response.read().decode().strip().split("\n\n")
    assert [frame.split("\n")[0] for frame in frames] == [f"id: {seq}" for seq in range(1, len(frames) + 1)]


async def test_two_sockets_of_a_session_see_one_run(server: Server, session: str) -> None:
    async with socket(server, session) as first:
        await first.send(run_frame("one", session))
        await hear_run(first)
        async with socket(server, session) as second, socket(server, f"{session}-other") as other:
            await second.send('{"type": "ping"}')  # answered once the socket listens
            assert await hear(second) == {"type": "pong"}
            await first.send(run_frame("two", session))
            heard = await hear_run(first)
            assert heard == await hear_run(second)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await hear(other)


async def test_since_replays_what_a_client_missed(server: Server, session: str) -> None:
    events = await ask(server, session, "hello there")
    run_id = events[0]["metadata"]["run_id"]
    places = [(event["metadata"]["seq"], event["metadata"]["run_id"]) for event in events]
    assert places == [(seq, run_id) for seq in range(1, len(events) + 1)]
    async with socket(server, session) as ws:
        await ws.send(json.dumps({"type": "since", "run_id": run_id, "seq": 2}))
        assert await hear_run(ws) == events[2:]


async def test_a_run_is_cancelled_from_another_connection(server: Server, session: str) -> None:
    async with socket(server, session) as watching, socket(server, session) as other:
        await watching.send(run_frame('#script [{"say": "half an"}, {"fail": "hang"}]', session))
        begun = await hear(watching)
        await other.send(json.dumps({"type": "cancel", "run_id": begun["metadata"]["run_id"]}))
        ended = (await hear_run(watching))[-1]
        assert (ended["type"], ended["code"]) == ("RUN_ERROR", "run_cancelled")
    with server.client() as http:
        assert http.get(f"runs/{begun['metadata']['run_id']}").json()["status"] == "cancelled"


async def test_a_ticket_is_good_for_one_socket(server: Server, session: str) -> None:
    ticket = ticket_of(server)
    async with socket(server, session, ticket=ticket):
        pass
    for wrong in (ticket, "x.y"):
        async with socket(server, session, ticket=wrong) as ws:
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
        assert closed.value.rcvd.code == 4401


async def test_a_strangers_key_opens_another_session(server: Server, session: str) -> None:
    """The client's own id names a session in each tenant."""
    async with socket(server, session) as ours, socket(server, session, key=server.site.key("globex")) as theirs:
        await ours.send(run_frame("secret", session))
        run_id = (await hear_run(ours))[0]["metadata"]["run_id"]
        await theirs.send(json.dumps({"type": "since", "run_id": run_id, "seq": 0}))
        assert (await hear_run(theirs))[0]["error"]["code"] == "not_found"


async def test_a_revoked_key_closes_its_sockets_in_time(server: Server, session: str) -> None:
    with server.client() as http:
        made = http.post("api-keys", json={"name": "Short-lived", "role": "viewer"}).json()
        async with socket(server, session, key=made["token"]) as one, socket(server, session, key=made["token"]) as two:
            await asyncio.sleep(random.random() * 2)
            assert http.delete(f"api-keys/{made['id']}").status_code == 204
            async with asyncio.timeout(5):
                for ws in (one, two):
                    with pytest.raises(ConnectionClosed) as closed:
                        await hear(ws)
                    assert closed.value.rcvd.code == 4401


async def test_an_unknown_socket_is_refused(server: Server) -> None:
    before = len(server.log.read_text())
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.socket_url.replace("/v1/", "/v2/"), proxy=None, open_timeout=20)
    assert refused.value.response.status_code == (404 if server.kind == "uvicorn" else 403)
    assert "Traceback" not in server.log.read_text()[before:]
