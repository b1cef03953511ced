"""Decisions while the process that waited is gone, and several at once."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from agents.services import agent_update
from core.aio import in_db_thread
from core.ids import uuid7
from runs import approvals, runner
from runs.agui import decisions
from runs.models import Run, ToolApproval
from runs.process import process
from runs.services.approvals import approval_look, run_resume
from runs.services.stop import run_cancel_request
from runs.tool_ledger import UNKNOWN, RunLedger
from sessions_app.models import Message
from sessions_app.services.sessions import session_delete
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_approvals import SEND, THREE, asked, begun, ended, events, resume, rows, says, waiting
from tests.runs.test_lost_runs import _long_lived_database, _nothing_is_left, as_sql, lose, until
from tests.runs.test_runs import activate
from tests.templates_app.conftest import AddTemplate, add_template
from tests.toolsets.test_agents import ask, team
from tests.toolsets.vault import DONE, vault
from toolsets import limits
from toolsets.ledger import Call
from toolsets.models import ToolCall
from toolsets.services import toolset_create, toolset_update

__all__ = ["_long_lived_database", "_nothing_is_left", "add_template", "team", "vault"]
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"]),
    pytest.mark.usefixtures("vault"),
]
STUCK = {"tool": "stuck", "args": {"name": "b"}}


@pytest.fixture
def safe(owner: Actor, scripted: str, in_acme: Tenant) -> Iterator[str]:
    limits.forget()
    toolset_create(actor=owner.principal, slug="safe", name="Safe", kind="vault")
    agent_update(actor=owner.principal, ref="helper", changes={"toolsets": ["safe"]})
    yield "safe"
    limits.forget()


async def taken_over(run: Run) -> None:
    assert await runner.take_over(tenant_id=run.tenant_id, run_id=run.id) is not None


async def tool_messages() -> list[str]:
    return [message.content async for message in Message.objects.filter(role="tool").order_by("seq")]


async def test_of_many_decisions_at_once_one_counts(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    entries = [says(approval, bool(place % 2), comment=f"{place}") for place in range(10)]
    answers = await asyncio.gather(*(resume(owner, run, entry) for entry in entries))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 9}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} == {"approval_decided"}
    await ended(run)
    decided = (await owner.aget(f"approvals/{approval['id']}")).json()
    assert (["a"] if decided["status"] == "approved" else []) == DONE
    assert answers[int(decided["comment"])].status_code == 200


async def test_what_was_decided_is_not_asked_for_again(
    owner: Actor, safe: str, add_template: AddTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two that were decided together is done before the run has read of the second."""
    add_template("three", THREE)
    fields = {"slug": "three", "name": "Three", "template": "three", "model": "scripted/default", "toolsets": ["safe"]}
    await activate(owner, fields)
    run, (first, second) = await waiting(owner, {"say": "x"}, model="three", count=2)

    async def told() -> bool:
        return any("outcome" in event for event in await events(owner, run))

    await until(told)

    def slow_look(**which: Any) -> Any:
        if str(which["approval_id"]) == second["id"]:
            time.sleep(0.5)
        return approval_look(**which)

    monkeypatch.setattr(approvals, "approval_look", slow_look)
    await resume(owner, run, says(first, False), says(second))
    assert (await ended(run)).status == "succeeded"
    assert ["outcome" in event for event in await events(owner, run)].count(True) == 1


async def test_what_it_waits_for_survives_its_process(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    await lose(run.id)
    await taken_over(run)

    async def waits() -> bool:
        return run.id in (await process()).waiting

    await until(waits)
    assert [each["id"] for each in await asked(owner)] == [approval["id"]]
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert (DONE, run.attempt, await tool_messages()) == (["a"], 2, ["put a"])
    types = [event["type"] for event in await events(owner, run)]
    assert [kind for kind in types if kind.startswith(("RUN_", "CUSTOM"))] == [
        "RUN_STARTED",
        "RUN_FINISHED",
        "RUN_STARTED",  # for the word that the attempt begins anew
        "CUSTOM",
        "RUN_FINISHED",
        "RUN_STARTED",
        "RUN_FINISHED",
    ]


@pytest.mark.parametrize("approved", [True, False])
async def test_what_was_decided_while_nobody_ran_it_counts(owner: Actor, safe: str, approved: bool) -> None:
    run, (approval,) = await waiting(owner)
    await lose(run.id)
    answer = await resume(owner, run, says(approval, approved, **({"editedArgs": {"name": "c"}} if approved else {})))
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    await taken_over(run)
    assert (await ended(run)).status == "succeeded"
    assert (["c"] if approved else []) == DONE
    made = {(row.status, row.arguments) for row in await rows()}
    assert made == {("succeeded", '{"name":"c"}') if approved else ("failed", '{"name":"a"}')}


async def test_what_was_approved_and_done_is_not_done_again(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner, SEND, {"tool": "stuck", "args": {"name": "b"}}, {"say": "ok"})
    await resume(owner, run, says(approval))

    async def stuck() -> bool:
        return DONE == ["a", "b"]

    await until(stuck)
    await lose(run.id)
    await taken_over(run)
    (unknown,) = await asked(owner)
    assert (unknown["reason"], unknown["tool"]) == ("unknown", "stuck")
    edited = await resume(owner, run, says(unknown, editedArgs={"name": "c"}))
    assert (edited.status_code, edited.json()["error"]["code"]) == (400, "not_editable")
    await resume(owner, run, says(unknown, False))
    assert (await ended(run)).status == "succeeded"
    assert (DONE, await tool_messages()) == (["a", "b"], ["put a", UNKNOWN.content])


async def test_a_person_may_have_a_call_of_unknown_end_made_again(owner: Actor, safe: str, settings: Any) -> None:
    settings.RUN_ATTEMPTS = 10
    run = await begun(owner, STUCK, {"say": "ok"})

    async def stuck() -> bool:
        return DONE == ["b"]

    await until(stuck)
    await lose(run.id)
    await taken_over(run)
    (approval,) = await asked(owner)
    await resume(owner, run, says(approval))

    async def again() -> bool:
        return DONE == ["b", "b"]

    await until(again)
    assert [(row.status, row.fence) for row in await rows()] == [("started", 2)]
    await lose(run.id)
    await taken_over(run)
    (once_more,) = await asked(owner)  # it was approved once
    assert (once_more["id"] == approval["id"], DONE) == (False, ["b", "b"])
    await lose(run.id)
    await taken_over(run)
    assert [each["id"] for each in await asked(owner)] == [once_more["id"]]
    await resume(owner, run, says(once_more, False))
    assert (await ended(run)).status == "succeeded"
    assert DONE == ["b", "b"]


async def test_what_another_attempt_does_not_ask_for_is_withdrawn(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    await in_db_thread(toolset_update, actor=owner.principal, ref="safe", changes={"policy": {"approval": "never"}})
    await lose(run.id)
    await taken_over(run)
    assert (await ended(run)).status == "succeeded"
    assert DONE == ["a"]
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["status"] == "withdrawn"


async def test_a_cancel_while_nobody_runs_it(owner: Actor, safe: str) -> None:
    """It ends by whoever takes it over; before anything that follows an interrupt comes a RUN_STARTED."""
    run, (approval,) = await waiting(owner)
    await lose(run.id)
    await in_db_thread(run_cancel_request, actor=owner.principal, ref=str(run.id))
    assert await runner.take_over(tenant_id=run.tenant_id, run_id=run.id) is None
    assert (await ended(run)).status == "cancelled"
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["status"] == "withdrawn"
    types = [event["type"] for event in await events(owner, run)]
    assert types[-3:] == ["RUN_FINISHED", "RUN_STARTED", "RUN_ERROR"]


async def test_a_stopping_server_gives_up_a_run_that_waits_at_once(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    here = await process()
    here.leaving = True
    here.give_up(run.id)
    await until(lambda: _gone(run))
    here.leaving = False
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("waiting", 1)
    await taken_over(run)
    await until(lambda: _waits(run))
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert (DONE, run.attempt) == (["a"], 1)  # it was no loss


async def _gone(run: Run) -> bool:
    return run.id not in (await process()).tasks


async def _waits(run: Run) -> bool:
    return run.id in (await process()).waiting


async def test_what_an_asked_agent_waited_for_is_withdrawn_with_its_process(owner: Actor, team: None) -> None:
    """Nobody knows how far it came: a person says whether it is asked again."""
    run, (inner,) = await waiting(owner, ask("b", SEND, {"say": "sent"}), {"say": "ok"}, model="a")
    await lose(run.id)
    await taken_over(run)
    await until(lambda: _waits(run))
    (outer,) = await asked(owner)
    assert (outer["tool"], outer["reason"]) == ("ask_b", "unknown")
    assert (await owner.aget(f"approvals/{inner['id']}")).json()["status"] == "withdrawn"
    await resume(owner, run, says(outer))
    (again,) = await asked(owner)
    assert (again["tool"], again["id"] == inner["id"]) == ("ask", False)
    await resume(owner, run, says(again))
    await ended(run)
    assert DONE == ["a"]


def _waits_for_lock(cursor: Any) -> bool:
    cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
    return cursor.fetchone() is not None


async def while_locked(lock: str, free: str, id: Any, work: Awaitable[Any]) -> Any:
    """The answer of `work`, which waits for the row of `lock`, and has not locked that of `free` by then."""
    locked = threading.Event()

    @transaction.atomic
    def hold() -> None:
        as_sql(lock, id)
        locked.set()
        with connection.cursor() as cursor:
            until = time.monotonic() + 10
            while not _waits_for_lock(cursor):
                assert time.monotonic() < until, "It does not wait for this lock."
                time.sleep(0.01)
        as_sql(f"{free} NOWAIT", id)

    holding = asyncio.ensure_future(in_db_thread(hold))
    await asyncio.to_thread(locked.wait, 10)
    try:
        return await work
    finally:
        await holding


SESSION = "SELECT 1 FROM chat_session WHERE id = (SELECT session_id FROM run WHERE id = %s) FOR UPDATE"
RUN = "SELECT 1 FROM run WHERE id = %s FOR UPDATE"
LEASE = "SELECT 1 FROM run_lease WHERE run_id = %s FOR UPDATE"


async def test_a_decision_and_a_deleted_session_do_not_wait_for_each_other(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    await lose(run.id)  # nothing else waits for the session
    answer = await while_locked(SESSION, RUN, run.id, resume(owner, run, says(approval)))
    assert answer.status_code == 200
    await taken_over(run)
    assert (await ended(run)).status == "succeeded"


async def test_a_call_and_a_cancel_do_not_wait_for_each_other(owner: Actor, safe: str) -> None:
    """A call begins while somebody stops, ends or deletes the run."""
    run, _ = await waiting(owner)
    about = {"call_id": "c", "toolset": "safe", "tool": "put", "risk": "write", "arguments": "{}"}
    call = Call(uuid7(), "key", datetime.now(UTC), **about)
    begin = RunLedger(run, 1, asyncio.Event().wait, cast("Any", None))._begin
    assert await while_locked(RUN, LEASE, run.id, in_db_thread(begin, call)) is None
    assert [row.status for row in await rows()] == ["started"]
    await runner.stop(actor=owner.principal, ref=str(run.id))


async def test_a_deleted_session_ends_the_wait(owner: Actor, safe: str, settings: Any) -> None:
    settings.RUN_LEASE_SECONDS = 3  # a third of it later, the process sees that the run is gone
    run, _ = await waiting(owner)
    await in_db_thread(session_delete, actor=owner.principal, ref="s")
    await until(lambda: _gone(run))
    assert (await ToolApproval.objects.acount(), await ToolCall.objects.acount(), DONE) == (0, 0, [])


async def test_another_process_decides(owner: Actor, safe: str) -> None:
    """What it tells this one by a notification, as another process would: the run does not wait for its next look."""
    run, (approval,) = await waiting(owner)
    here = await process()
    work = {"actor": owner.principal, "run": run, "decisions": decisions({"resume": [says(approval)]})}
    await sync_to_async(run_resume)(**work)
    await asyncio.sleep(0.2)
    assert run.id in here.waiting
    here.listener._hear(f"a{run.id}")
    assert (await ended(run)).status == "succeeded"
    assert DONE == ["a"]
