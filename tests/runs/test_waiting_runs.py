"""Runs that wait for their turn, whatever becomes of the run before them: none waits for ever, none is forgotten."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from core.aio import in_db_thread
from runs import heard, runner
from runs.models import Run, RunLease
from runs.process import process
from runs.services import stop
from runs.services.stop import run_cancel_request, run_expire
from runs.services.turns import TurnRequest
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import script, user
from tests.runs.test_lost_runs import begun, until
from tests.runs.test_runs import activate

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
SLOW = script({"repeat": "word", "times": 20, "delay_ms": 40})[0]["content"]
HANG = script({"say": "half an"}, {"fail": "hang"})[0]["content"]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert not RunLease.objects.using("owner").exists()


async def all_done() -> None:
    async def done() -> bool:
        return not await Run.objects.filter(finished_at=None).aexists()

    await until(done)


async def is_heard(run: Run) -> bool:
    return "heard_by" in (await Run.objects.aget(id=run.id)).request


async def said(owner: Actor) -> list[Any]:
    listed = (await owner.aget("sessions/s/messages", limit=100)).json()["data"]
    return [message["content"] for message in listed]


async def test_a_message_takes_over_from_runs_that_nobody_has_begun(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def died(*_: Any) -> None:
        """The process that ended the first run begins no other."""

    first = await begun(owner, SLOW)
    waiting = await begun(owner, "two")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_claim", died)
        await asyncio.wait([(await process()).tasks[first.id]])
    third = await begun(owner, "three", when_busy="interrupt")
    await all_done()
    for run, status in ((first, "succeeded"), (waiting, "cancelled"), (third, "succeeded")):
        await run.arefresh_from_db()
        assert run.status == status
    assert (await said(owner))[2:] == ["three", "You said: three"]


async def test_a_run_that_is_cancelled_while_another_takes_over_ends(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(owner, HANG)
    waiting = await begun(owner, "two")
    reached, cancel = asyncio.Event(), stop.cancel_request
    loop = asyncio.get_running_loop()

    def slowly(**fields: Any) -> None:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run(asyncio.sleep(0.3))
        cancel(**fields)

    monkeypatch.setattr(stop, "cancel_request", slowly)
    cancelling = asyncio.create_task(in_db_thread(run_cancel_request, actor=owner.principal, ref=str(waiting.id)))
    await reached.wait()
    await begun(owner, "three", when_busy="interrupt")
    assert (await cancelling).status == "cancelled"
    await all_done()
    assert (await said(owner))[-2:] == ["three", "You said: three"]


async def test_a_run_whose_agent_is_gone_asks_no_bare_model(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await begun(owner, SLOW)
    waiting = await begun(owner, "two")
    await owner.ahttp.generic("DELETE", "/v1/agents/helper", headers=owner.headers)
    await all_done()
    await first.arefresh_from_db()
    await waiting.arefresh_from_db()
    assert first.status == "succeeded"
    assert (waiting.status, waiting.error_code) == ("failed", "agent_deleted")


async def test_a_message_to_another_agent_is_not_heard(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    other = {"slug": "other", "name": "O", "template": "conversation", "model": "scripted/default"}
    await activate(owner, other)
    await begun(owner, SLOW)
    asked = TurnRequest(model="other", messages=user("two"), source="api", session="s", when_busy="steer")
    second = await runner.begin(actor=owner.principal, request=asked)
    await all_done()
    assert not await is_heard(second)
    assert (await said(owner))[-2:] == ["two", "You said: two"]


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_message_whose_commit_was_not_answered_is_not_forgotten(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    hear, lost = heard.steering_hear, []

    def unanswered(**fields: Any) -> Any:
        found = hear(**fields)
        if found and not lost:
            lost.append(found)
            raise OperationalError("the connection is gone")
        return found

    monkeypatch.setattr(heard, "steering_hear", unanswered)
    words = {"repeat": "word", "times": 10, "delay_ms": 20}
    await begun(owner, script(*[words, {"tool": "no_such"}, words][-2 * steps + 1 :])[0]["content"])
    await begun(owner, "two", when_busy="steer")
    await all_done()
    assert len(lost) == 1
    assert (await said(owner)).count("two") == 1
    assert "two" in (await said(owner))[-1]


async def test_a_run_that_was_heard_does_not_wait_any_more(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await begun(owner, SLOW)
    second = await begun(owner, HANG, when_busy="steer")
    await until(lambda: is_heard(second))
    await in_db_thread(run_expire, tenant_id=in_acme.id, run_id=second.id)
    await second.arefresh_from_db()
    assert second.status == "queued"
    third = await begun(owner, "three")
    await sync_to_async(run_expire)(tenant_id=in_acme.id, run_id=third.id)
    await third.arefresh_from_db()
    assert (third.status, third.error_code) == ("expired", "queue_timeout")
    await runner.stop(actor=owner.principal, ref=str(first.id))
    await all_done()
