"""What fails behind a socket is told on it, and a client cannot make it work without end."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError

from runs import consumers, runner
from tests.conftest import Actor
from tests.runs.test_socket import hear, hear_run, run_input, say, socket, text_of

pytestmark = pytest.mark.django_db
HANG = '#script [{"say": "half an"}, {"fail": "hang"}]'


async def begin(ws: Any, agent: str, text: str) -> str:
    await say(ws, {"type": "run", "agent": agent, "input": run_input(text)})
    run_id: str = (await hear(ws))["metadata"]["run_id"]
    return run_id


async def test_a_stream_that_breaks_says_where_and_goes_on_when_asked(
    owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follow = consumers.follow

    async def breaking(*given: Any, **options: Any) -> Any:
        async for event in follow(*given, **options):
            yield event
            if event is not None and event.seq == 2:
                raise KeyError("a poisoned event")

    async with socket(owner) as ws:
        with monkeypatch.context() as patch:
            patch.setattr(consumers, "follow", breaking)
            await say(ws, {"type": "run", "agent": scripted, "input": run_input("hello there")})
            *seen, broken = await hear_run(ws)
        about = {"run_id": seen[0]["metadata"]["run_id"], "seq": 2}
        assert (broken["error"]["code"], broken["metadata"]) == ("internal_error", about)
        assert "poisoned" in caplog.text
        await say(ws, {"type": "since", **about})
        seen += await hear_run(ws)
    assert [event["metadata"]["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert text_of(seen) == "You said: hello there"


async def test_a_cursor_that_cannot_be_served_names_its_run(owner: Actor, scripted: str) -> None:
    async with socket(owner) as ws:
        run_id = await begin(ws, scripted, "hi")
        await hear_run(ws)
        await say(ws, {"type": "since", "run_id": run_id, "seq": 99})
        answer = await hear(ws)
        assert answer["error"]["code"] == "unknown_cursor"
        assert answer["metadata"] == {"run_id": run_id, "seq": 99}


@pytest.mark.parametrize(
    ("fault", "code"), [(OperationalError("gone"), "database_unavailable"), (KeyError("x"), "internal_error")]
)
async def test_a_cancel_that_fails_is_told(
    owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch, fault: Exception, code: str
) -> None:
    async def failing(**_: Any) -> None:
        raise fault

    async with socket(owner) as ws:
        with monkeypatch.context() as patch:
            patch.setattr(runner, "stop", failing)
            await say(ws, {"type": "cancel", "run_id": "x"})
            answer = await hear(ws)
    assert (answer["error"]["code"], answer["metadata"]) == (code, {"run_id": "x"})


@pytest.mark.parametrize("run_id", ["x", str(UUID(int=1))])
async def test_a_since_that_fails_names_its_run(owner: Actor, run_id: str) -> None:
    async with socket(owner) as ws:
        await say(ws, {"type": "since", "run_id": run_id, "seq": 0})
        answer = await hear(ws)
    assert (answer["error"]["code"], answer["metadata"]) == ("not_found", {"run_id": run_id})


async def test_a_socket_that_cannot_look_for_runs_must_be_opened_again(
    owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: Any) -> None:
        raise OperationalError("gone")

    async with socket(owner) as ws:
        await begin(ws, scripted, "hi")
        await hear_run(ws)
    monkeypatch.setattr(consumers, "runs_to_follow", failing)
    async with socket(owner) as ws:
        assert (await hear(ws))["error"]["code"] == "database_unavailable"
        closed = await ws.receive_output(timeout=20)
        assert (closed["type"], closed["code"]) == ("websocket.close", 1012)


async def test_a_run_that_began_is_followed_although_others_cannot_be_found(
    owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def failing(self: Any) -> None:
        asked.set()
        raise OperationalError("gone")

    monkeypatch.setattr(consumers.SessionConsumer, "_follow_open", failing)
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("hi")})
        assert text_of(await hear_run(ws)) == "You said: hi"
    assert asked.is_set()


async def test_a_socket_has_so_much_under_way(owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "MAX_ASKED", 2)
    go, stop = asyncio.Event(), runner.stop

    async def waiting(**given: Any) -> Any:
        await go.wait()
        return await stop(**given)

    monkeypatch.setattr(runner, "stop", waiting)
    async with socket(owner) as ws:
        run_id = await begin(ws, scripted, HANG)
        while (await hear(ws))["type"] != "TEXT_MESSAGE_CONTENT":
            pass
        for _ in range(2):
            await say(ws, {"type": "cancel", "run_id": run_id})
        for frame in ({"type": "cancel", "run_id": run_id}, {"type": "since", "run_id": run_id, "seq": 0}):
            await say(ws, frame)
            error = (await hear(ws))["error"]
            assert (error["code"], error["type"]) == ("socket_busy", "rate_limit_error")
            assert "2 frames of this socket" in error["message"]
        go.set()
        assert (await hear_run(ws))[-1]["code"] == "run_cancelled"
        last: dict[str, Any] = {"type": "error"}
        while last["type"] == "error":  # until a cancel has ended as well
            await say(ws, {"type": "since", "run_id": run_id, "seq": 0})
            last = (await hear_run(ws))[-1]
        assert last["code"] == "run_cancelled"
