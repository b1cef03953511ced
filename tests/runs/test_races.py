"""What happens to a turn while others delete, cancel and ask: nothing is lost, and nothing is left over."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from llm.selectors.providers import _connections
from runs import runner
from runs.models import Run, RunLease
from runs.process import Process, process
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tenants.services import ticket_create
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_socket import communicator

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    held: list[Process] = []
    made = Process.__init__
    monkeypatch.setattr(Process, "__init__", lambda self: held.append(self) or made(self))  # type: ignore[func-returns-value]
    yield
    _connections.clear()
    assert not runner._beginning
    for here in held:
        assert not here.tasks
        assert not here.live
        assert not here.cancelled
        assert not here.ending
        assert not here.hub.keys()
        assert here.writer.size == 0
    assert not RunLease.objects.using("owner").exists()


async def remove(actor: Actor, path: str) -> Any:
    return await actor.ahttp.generic("DELETE", f"/v1/{path}", headers=actor.headers)


async def began(actor: Actor, **fields: Any) -> Any:
    """A streamed answer that has said its first word."""
    return await chat(actor, script({"repeat": "word", "times": 20, "delay_ms": 10}), stream=True, **fields)


async def test_an_agent_that_is_deleted_during_its_run_still_answers(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    response = await began(owner)
    assert (await remove(owner, "agents/helper")).status_code == 204
    assert (await frames(response))[-1] == "data: [DONE]"
    listed = (await owner.aget(f"sessions/{response['X-Session-Id']}/messages")).json()["data"]
    assert [(message["role"], message["agent_version"]) for message in listed] == [("user", None), ("assistant", None)]
    assert (await Run.objects.aget()).status == "succeeded"


async def test_a_session_that_is_deleted_during_its_run_is_gone(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await began(owner)
    assert (await remove(owner, f"sessions/{response['X-Session-Id']}")).status_code == 204
    await frames(response)
    assert not await Run.objects.aexists()
    assert not await Message.objects.aexists()


async def test_a_session_deleted_while_turns_begin_and_end(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    statuses: Counter[int] = Counter()

    async def talk(number: int) -> None:
        statuses[(await chat(owner, user(f"hi {number}"), metadata={"session_id": "s"})).status_code] += 1

    async def delete() -> None:
        statuses[(await remove(owner, "sessions/s")).status_code] += 1

    for _ in range(4):
        await asyncio.gather(*(talk(number) for number in range(3)), delete(), delete(), talk(9), delete())
    assert set(statuses) <= {200, 204, 404}, statuses
    assert not await Run.objects.filter(finished_at=None).aexists()


async def test_turns_at_once_in_one_session_lose_no_message(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    asked = [chat(owner, user(f"question {number}"), metadata={"session_id": "s"}) for number in range(12)]
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200}

    def said() -> list[tuple[int, str, Any]]:
        return list(Message.objects.order_by("seq").values_list("seq", "role", "content"))

    rows = await sync_to_async(said)()
    assert [seq for seq, _, _ in rows] == list(range(1, 25))
    questions = {f"question {number}" for number in range(12)}
    assert {content for _, role, content in rows if role == "user"} == questions
    assert {content for _, role, content in rows if role == "assistant"} == {f"You said: {q}" for q in questions}
    assert await ChatSession.objects.acount() == 1


async def test_a_run_that_ends_while_it_is_cancelled_ends_once(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    for delay in (0.0, 0.002, 0.004, 0.006, 0.008, 0.012):
        response = await chat(owner, script({"say": "a"}, {"say": "b", "delay_ms": 5}), stream=True)
        await asyncio.sleep(delay)
        run_id = response["X-Run-Id"]
        stopped = await asyncio.gather(*(owner.apost(f"runs/{run_id}/cancel", None) for _ in range(3)))
        statuses = {answer.json()["status"] for answer in stopped}
        assert len(statuses) == 1
        assert statuses <= {"succeeded", "cancelled"}
        last = (await frames(response))[-1]
        assert (last == "data: [DONE]") == (statuses == {"succeeded"})
        events = (await owner.aget(f"runs/{run_id}/events")).json()["data"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert [event["event"]["type"] in ("RUN_FINISHED", "RUN_ERROR") for event in events].count(True) == 1


async def test_a_caller_that_goes_while_its_turn_begins_leaves_no_turn_without_a_run(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    for delay in (0.0, 0.002, 0.005, 0.01):
        for model in ("helper", "scripted/default"):
            caller = asyncio.create_task(chat(owner, user("hi"), model=model))
            await asyncio.sleep(delay)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
    for _ in range(200):
        await asyncio.sleep(0.02)
        if not runner._beginning and not (await process()).live:
            break
    assert not await Run.objects.filter(finished_at=None).aexists()


async def test_the_limit_of_runs_counts_turns_that_begin(
    owner: Actor, scripted: str, in_acme: Tenant, settings: Any
) -> None:
    settings.MAX_CONCURRENT_RUNS = 2
    answers = await asyncio.gather(*(chat(owner, user("hi")) for _ in range(10)))
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) == {200, 429}
    assert counted[200] == await Run.objects.acount()
    assert counted[200] <= 4  # two at once; a later one may find room again


async def test_a_ticket_opens_one_of_many_sockets(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    ticket, _ = await sync_to_async(ticket_create)(actor=owner.principal)
    sockets = [communicator("room", None, protocols=["agui.v1", f"ticket.{ticket}"]) for _ in range(20)]

    async def opened(ws: Any) -> bool:
        await ws.connect(timeout=20)
        try:
            told = await ws.receive_output(timeout=0.5)
        except TimeoutError:
            return True
        if told["type"] == "websocket.send":  # who is present
            return True
        assert told["code"] == 4401
        return False

    assert (await asyncio.gather(*(opened(ws) for ws in sockets))).count(True) == 1
    for ws in sockets:
        with suppress(asyncio.CancelledError):  # a communicator whose wait ran out has cancelled its application
            await ws.disconnect()
