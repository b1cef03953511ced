"""Runs whose process is gone: another takes them over, and those who follow are told what to drop."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connection, transaction

from agents.services import agent_update
from audit.models import AuditEvent
from core.tenant import tenant_context
from runs import runner
from runs.events import make_event
from runs.models import Run, RunLease
from runs.process import OWNER, Process, process
from runs.services.begin import begin_turn
from runs.services.finish import Finished, Outcome, finish_turn
from runs.services.lease import event_append
from runs.services.take_over import run_take_over
from runs.services.turns import Turn, TurnRequest
from runs.tasks import forget_checkpoints, recover, take_over
from runs.tool_ledger import UNKNOWN
from sessions_app.models import Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_runs import activate, events_of
from tests.runs.test_socket import hear, hear_run, socket
from tests.toolsets.vault import DONE, vault
from toolsets.models import ToolCall
from toolsets.services import toolset_create
from usage.models import BudgetPeriod, UsageRecord
from usage.services.budgets import budget_create, budget_update
from usage.services.prices import price_create

__all__ = ["vault"]
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
STEPS = '#script [{"say": "one"}, {"say": "two", "delay_ms": 300}, {"say": "three", "delay_ms": 100}]'


@pytest.fixture(autouse=True)
def _long_lived_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test server has just started, and after that leases are given time."""
    claim = "pg_postmaster_start_time() + make_interval(secs => %s) < now()"
    from runs.services import lease

    assert claim in lease._CLAIM
    monkeypatch.setattr(lease, "_CLAIM", lease._CLAIM.replace(claim, "%s > 0"))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert not RunLease.objects.using("owner").exists()


def as_sql(statement: str, *given: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(given))


async def lose(run_id: Any) -> None:
    """As if its process was killed: its task is gone, and its lease is over."""
    here = await process()
    task = here.tasks[run_id]
    here.live[run_id].lose()
    await asyncio.wait([task])
    await sync_to_async(as_sql)(
        "UPDATE run_lease SET owner = %s, lease_until = now() - interval '1 s' WHERE run_id = %s", uuid4(), run_id
    )


async def begun(owner: Actor, text: str = STEPS, **request: Any) -> Run:
    asked = TurnRequest(model="helper", messages=user(text), source="api", session="s", **request)
    return await runner.begin(actor=owner.principal, request=asked)


@transaction.atomic
def paused_and_taken(tenant: Tenant, run: Run) -> Turn | Finished | None:
    """Its process slept past the lease, and another was faster."""
    as_sql("UPDATE run_lease SET lease_until = now() - interval '1 s'")
    return run_take_over(tenant_id=tenant.id, run_id=run.id, owner=uuid4())


async def until(check: Any) -> None:
    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def stored(owner: Actor, run: Run) -> list[tuple[int, dict[str, Any]]]:
    body = (await owner.aget(f"runs/{run.id}/events", limit=1000)).json()
    return [(row["seq"], row["event"]) for row in body["data"]]


def text_after_restart(events: list[tuple[int, dict[str, Any]]]) -> str:
    kept: list[tuple[int, dict[str, Any]]] = []
    for seq, event in events:
        if event.get("name") == "attempt_restarted":
            kept = [(place, told) for place, told in kept if place <= event["value"]["keep"]]
        kept.append((seq, event))
    return "".join(event["delta"] for _, event in kept if event["type"] == "TEXT_MESSAGE_CONTENT")


async def test_another_process_goes_on_and_every_reader_has_the_same(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    run = await begun(owner)
    accept = {**owner.headers, "Accept": "text/event-stream"}
    followed = await owner.ahttp.get(f"/v1/runs/{run.id}/events", headers=accept)
    async with socket(owner, "s") as ws:
        while (await hear(ws))["type"] != "TEXT_MESSAGE_CONTENT":
            pass
        await lose(run.id)
        task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
        assert task is not None
        assert await runner.take_over(tenant_id=in_acme.id, run_id=run.id) is None  # it has an owner again
        await hear_run(ws)
    seen = events_of(await frames(followed))
    assert seen == await stored(owner, run)
    assert [seq for seq, _ in seen] == list(range(1, len(seen) + 1))
    types = [event["type"] for _, event in seen]
    assert types.count("TEXT_MESSAGE_START") == types.count("TEXT_MESSAGE_END") == 2
    assert text_after_restart(seen) == "one two three"
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 2)
    contents = [message.content async for message in Message.objects.order_by("seq")]
    assert contents == [STEPS, "one two three"]
    assert await AuditEvent.objects.filter(action="run.restart", object_id=str(run.id)).acount() == 1


async def test_openais_clients_see_one_answer(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await chat(owner, user(STEPS), stream=True, metadata={"session_id": "s"})
    run = await Run.objects.aget()
    await lose(run.id)
    await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    found = await frames(response)
    assert found[-1] == "data: [DONE]"
    import orjson

    deltas = [orjson.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in found[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "one two three"


async def test_a_process_that_comes_back_stores_nothing(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner, '#script [{"repeat": "word", "times": 30, "delay_ms": 10}]')
    here = await process()
    await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
    turn = await sync_to_async(paused_and_taken)(in_acme, run)
    assert isinstance(turn, Turn)
    zombie = here.tasks[run.id]
    await asyncio.wait([zombie], timeout=20)
    assert zombie.done()
    assert not here.live
    lease = await RunLease.objects.aget()
    assert (lease.fence, lease.last_seq) == (2, turn.stored)
    events = await stored(owner, run)
    assert (events[-1][0], events[-1][1]["name"]) == (turn.stored, "attempt_restarted")
    await run.arefresh_from_db()
    assert run.status == "running"
    await runner.finished(runner.start(here, turn))
    assert text_after_restart(await stored(owner, run)).split() == ["word"] * 30


async def test_an_end_that_does_not_follow_the_log_is_not_stored(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner)
    here = await process()
    await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
    outcome = Outcome("succeeded", [], None)
    last = make_event(2, "RUN_FINISHED", {"runId": str(run.id)})
    assert await sync_to_async(finish_turn)(run=run, fence=1, outcome=outcome, events=[last]) is None
    await runner.finished(here.tasks[run.id])
    events = await stored(owner, run)
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert text_after_restart(events) == "one two three"


async def test_a_run_has_only_so_many_attempts(owner: Actor, scripted: str, in_acme: Tenant, settings: Any) -> None:
    settings.RUN_ATTEMPTS = 2
    run = await begun(owner, '#script [{"say": "half an"}, {"fail": "hang"}]')
    for expected in (True, False):
        await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
        await asyncio.sleep(0.05)
        await lose(run.id)
        task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
        assert (task is not None) is expected
        await asyncio.sleep(0.05)
    await run.arefresh_from_db()
    assert (run.status, run.error_code, run.attempt) == ("failed", "run_lost", 2)
    assert "RUN_ATTEMPTS" in run.error_message
    said = [message async for message in Message.objects.order_by("seq")]
    assert (said[-1].status, said[-1].content.strip()) == ("failed", "half an")


async def test_a_lost_run_that_was_cancelled_ends_with_what_it_said(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    run = await begun(owner, '#script [{"say": "half an"}, {"fail": "hang"}]')
    await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
    await lose(run.id)
    stopped = (await owner.apost(f"runs/{run.id}/cancel", None)).json()
    assert (stopped["status"], stopped["error"]["code"]) == ("cancelled", "run_cancelled")
    said = [message async for message in Message.objects.order_by("seq")]
    assert (said[-1].status, said[-1].content.strip()) == ("cancelled", "half an")


async def test_a_lost_run_that_nobody_can_read_expires(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    asked = TurnRequest(model="scripted/default", messages=user('#script [{"fail": "hang"}]'), source="api")
    run = await runner.begin(actor=owner.principal, request=asked)
    await lose(run.id)
    assert await runner.take_over(tenant_id=in_acme.id, run_id=run.id) is None
    await run.arefresh_from_db()
    assert (run.status, run.error_code) == ("expired", "run_lost")


async def test_the_worker_finds_what_is_lost_and_what_is_due(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner)
    await lose(run.id)
    enqueued: list[Any] = []
    import runs.tasks

    original = runs.tasks.enqueue
    try:
        runs.tasks.enqueue = lambda *names, **fields: enqueued.append((names, fields))  # type: ignore[assignment]
        await sync_to_async(recover)()
    finally:
        runs.tasks.enqueue = original
    assert enqueued == [(("runs.take_over",), {"once": f"run {run.id}", "run_id": str(run.id)})]
    with tenant_context(in_acme.id):
        await take_over(run_id=str(run.id))
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 2)
    await sync_to_async(recover)()  # nothing is left to find
    await sync_to_async(forget_checkpoints)()


async def test_a_stranger_takes_nothing_over(owner: Actor, stranger: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner)
    await lose(run.id)
    theirs = stranger.tenant.id
    assert await runner.take_over(tenant_id=theirs, run_id=run.id) is None
    with tenant_context(theirs):
        assert await sync_to_async(run_take_over)(tenant_id=in_acme.id, run_id=run.id, owner=OWNER) is None
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await runner.finished(task)


async def test_a_run_whose_model_is_gone_fails_and_lets_the_next_one_begin(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await begun(owner)
    await lose(run.id)
    waiting = await begun(owner, "two")
    from llm.exceptions import model_not_found
    from runs.services import turns

    def gone(**_: Any) -> None:
        raise model_not_found("scripted/default")

    with monkeypatch.context() as patch, tenant_context(in_acme.id):
        patch.setattr(turns, "model_resolve", gone)
        ended = await sync_to_async(run_take_over)(tenant_id=in_acme.id, run_id=run.id, owner=OWNER)
    assert isinstance(ended, Finished)
    assert ended.next_run == waiting.id
    await run.arefresh_from_db()
    assert (run.status, run.error_code) == ("failed", "model_not_found")
    task = await runner.take_over(tenant_id=in_acme.id, run_id=waiting.id)
    assert task is not None
    await runner.finished(task)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE run_event SET type = 'TEXT_MESSAGE_CONTENT', data = '{}' WHERE run_id = %s AND seq = 1",
        "UPDATE run SET request = '{}' WHERE id = %s",
    ],
)
async def test_a_run_that_cannot_be_read_any_more_fails(
    owner: Actor, scripted: str, in_acme: Tenant, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = await begun(owner)
    await lose(run.id)
    await sync_to_async(as_sql)(damage, run.id)
    assert await runner.take_over(tenant_id=in_acme.id, run_id=run.id) is None
    await run.arefresh_from_db()
    assert (run.status, run.error_code) == ("failed", "run_failed")
    assert "A run could not be taken over" in caplog.text


async def test_a_run_that_waits_and_cannot_be_read_any_more_fails(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await begun(owner)
    waiting = await begun(owner, "two")
    await sync_to_async(as_sql)("UPDATE run SET request = request - 'messages' WHERE id = %s", waiting.id)

    async def ended() -> bool:
        return not await RunLease.objects.aexists()

    await until(ended)
    await first.arefresh_from_db()
    await waiting.arefresh_from_db()
    assert (first.status, waiting.status, waiting.error_code) == ("succeeded", "failed", "run_failed")


@pytest.mark.parametrize("fault", [OperationalError, InterfaceError])
async def test_a_database_that_does_not_answer_fails_no_run(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    run = await begun(owner)
    await lose(run.id)
    from runs.services import take_over as service

    def gone(**_: Any) -> None:
        raise fault("the connection is gone")

    with monkeypatch.context() as patch:
        patch.setattr(service, "turn_of", gone)
        with pytest.raises(fault):
            await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await runner.finished(task)
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 2)


async def test_a_stopping_process_gives_its_runs_up(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner, '#script [{"repeat": "word", "times": 30, "delay_ms": 10}]')
    accept = {**owner.headers, "Accept": "text/event-stream"}
    followed = await owner.ahttp.get(f"/v1/runs/{run.id}/events", headers=accept)
    await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
    here = await process()
    try:
        await runner.shut_down(0)
        refused = await chat(owner, user("x"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
    finally:
        runner._stopping.clear()
        here.moving = here.hub._moved = False
    *seen, _, last = await frames(followed)
    assert '"name":"resume"' in last
    after = events_of(seen)[-1][0]
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    headers = {**accept, "Last-Event-ID": str(after)}
    rest = events_of(await frames(await owner.ahttp.get(f"/v1/runs/{run.id}/events", headers=headers)))
    assert [seq for seq, _ in rest] == list(range(after + 1, after + 1 + len(rest)))
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 1)  # it was not lost
    assert text_after_restart(await stored(owner, run)).split() == ["word"] * 30


async def test_another_attempt_sees_the_session_as_it_was_replaced(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    first = await begun(owner, "one")
    await runner.finished((await process()).tasks[first.id])
    run = await begun(owner, replace_from=1)
    await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
    await lose(run.id)
    with tenant_context(in_acme.id):
        taken = await sync_to_async(run_take_over)(tenant_id=in_acme.id, run_id=run.id, owner=OWNER)
    assert isinstance(taken, Turn)
    assert [message["content"] for message in taken.context] == [STEPS]
    await runner.finished(runner.start(await process(), taken))
    (started, *_) = [event for _, event in await stored(owner, run)]
    assert started["metadata"]["replaces_from"] == 1
    said = (await owner.aget("sessions/s/messages")).json()["data"]
    assert [message["role"] for message in said] == ["user", "assistant"]


async def test_a_process_that_slept_takes_nothing_over_from_itself(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    run = await begun(owner, '#script [{"say": "one"}, {"repeat": "word", "times": 5, "delay_ms": 100}]')
    await until(lambda: RunLease.objects.filter(last_seq__gt=2).aexists())
    await asyncio.sleep(0.05)
    await sync_to_async(as_sql)("UPDATE run_lease SET lease_until = now() - interval '1 s'")
    assert await runner.take_over(tenant_id=in_acme.id, run_id=run.id) is None
    await runner.finished((await process()).tasks[run.id])
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 1)


async def test_a_run_is_cancelled_while_it_is_taken_over(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await begun(owner, '#script [{"say": "half an"}, {"fail": "hang"}]')
    await lose(run.id)
    from runs.services import take_over as service

    reached, restart = asyncio.Event(), service._restart
    loop = asyncio.get_running_loop()

    def slowly(*given: Any) -> Any:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run(asyncio.sleep(0.3))
        return restart(*given)

    monkeypatch.setattr(service, "_restart", slowly)
    taking = asyncio.create_task(runner.take_over(tenant_id=in_acme.id, run_id=run.id))
    await reached.wait()
    assert (await runner.stop(actor=owner.principal, ref=str(run.id))).status == "cancelled"
    assert await taking is not None


async def test_what_is_taken_over_while_the_process_stops_is_given_up_again(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    run = await begun(owner, '#script [{"say": "one"}, {"say": "two", "delay_ms": 50}]')
    await lose(run.id)
    here = await process()
    here.moving = True
    try:
        task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
        assert task is not None
        await runner.finished(task)
    finally:
        here.moving = False
    lease = await RunLease.objects.aget()
    assert (lease.owner, lease.lease_until.year) == (None, 1970)
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await runner.finished(task)
    await run.arefresh_from_db()
    assert run.status == "succeeded"


GRAPH = """
import asyncio
from typing import Any, TypedDict

from templates_app.events import Answer
from templates_app.langgraph import LangGraphTemplate

RAN = []


class State(TypedDict):
    text: str


class Steps(LangGraphTemplate):
    slug = "steps"
    version = "1.0.0"
    title = "Steps"
    description = "Says something, then something else."

    def graph(self, config: Any, model: Any, tools: Any) -> Any:
        from langgraph.graph import END, START, StateGraph

        async def first(state: State) -> dict[str, str]:
            RAN.append("first")
            return {"text": (await model.ainvoke('#script [{"say": "one"}]')).text}

        async def second(state: State) -> dict[str, str]:
            RAN.append("second")
            said = await model.ainvoke('#script [{"say": "t"}, {"say": "wo", "delay_ms": 1500}]')
            return {"text": state["text"] + " " + said.text}

        graph = StateGraph(State)
        graph.add_node("first", first)
        graph.add_node("second", second)
        graph.add_edge(START, "first")
        graph.add_edge("first", "second")
        graph.add_edge("second", END)
        return graph

    def state(self, context: Any) -> Any:
        return {"text": ""}

    def answer(self, state: Any) -> Answer:
        return Answer({"role": "assistant", "content": state["text"]}, "stop")
"""


async def test_a_lost_graph_goes_on_from_its_last_checkpoint(
    owner: Actor, scripted: str, in_acme: Tenant, add_template: Any
) -> None:
    add_template("steps", GRAPH)
    await activate(owner, {"slug": "steps", "name": "Steps", "template": "steps", "model": "scripted/default"})
    asked = TurnRequest(model="steps", messages=user("go"), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=asked)

    async def in_second() -> bool:
        return any(event.get("stepName") == "second" for _, event in await stored(owner, run))

    await until(in_second)
    await asyncio.sleep(0.1)
    await lose(run.id)
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await runner.finished(task)
    events = await stored(owner, run)
    restart = next(event for _, event in events if event.get("name") == "attempt_restarted")
    kept = [event for seq, event in events if seq <= restart["value"]["keep"]]
    assert kept[-1]["name"] == "checkpoint"
    steps = [event["stepName"] for _, event in events if event["type"] == "STEP_STARTED"]
    assert steps == ["first", "second", "second"]
    said = [message.content async for message in Message.objects.order_by("seq")]
    assert said == ["go", "one", "t wo", "one t wo"]
    await sync_to_async(forget_checkpoints)()


async def test_begin_says_what_it_holds(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    asked = TurnRequest(model="helper", messages=user("hi"), source="api", session="s")
    made = await sync_to_async(begin_turn)(actor=owner.principal, request=asked, owner=OWNER)
    assert made.turn is not None
    lease = await RunLease.objects.aget(run_id=made.run.id)
    assert (lease.owner, lease.fence, lease.last_seq, lease.status) == (OWNER, 1, 1, "running")
    here: Process = await process()
    await runner.finished(runner.start(here, made.turn))


def test_what_a_lost_attempt_held_is_free_and_what_it_used_is_estimated(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    """A process that is killed hands nothing over."""
    price_create(actor=owner.principal, provider="scripted", model="*", input=1_000_000, output=1_000_000)
    budget_create(actor=owner.principal, slug="cap", scope="tenant", amount=100_000)
    asked = TurnRequest(model="helper", messages=user("hello"), source="api", session="s")
    run = begin_turn(actor=owner.principal, request=asked, owner=uuid4()).run
    before = BudgetPeriod.objects.get()
    with transaction.atomic():
        event_append(run, fence=1, after=1, type="TEXT_MESSAGE_START", fields={"messageId": "m", "role": "assistant"})
        event_append(run, fence=1, after=2, type="TEXT_MESSAGE_CONTENT", fields={"messageId": "m", "delta": "x" * 400})
    turn = paused_and_taken(in_acme, run)
    assert isinstance(turn, Turn)
    lost = UsageRecord.objects.get()
    assert (lost.fence, lost.error_code, lost.certainty, lost.output_tokens) == (1, "run_lost", "estimated", 100)
    period = BudgetPeriod.objects.get()
    assert (period.spent, period.reserved) == (lost.charge, before.reserved)  # the new attempt holds as much
    failed = Outcome("failed", [], None, error_code="x", error_message="x")
    finish_turn(run=run, fence=2, outcome=failed, events=[make_event(turn.stored + 1, "RUN_ERROR", {"message": "x"})])
    run.refresh_from_db()
    assert (run.prompt_tokens, run.completion_tokens) == (lost.input_tokens, 100)
    assert BudgetPeriod.objects.get().reserved == 0


def test_what_a_lost_attempt_used_is_paid_though_no_other_can_begin(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    price_create(actor=owner.principal, provider="scripted", model="*", input=1_000_000, output=1_000_000)
    budget_create(actor=owner.principal, slug="cap", scope="tenant", amount=100_000)
    asked = TurnRequest(model="helper", messages=user("word " * 400), source="api", session="s")
    run = begin_turn(actor=owner.principal, request=asked, owner=uuid4()).run
    budget_update(actor=owner.principal, ref="cap", changes={"amount": 1})
    assert isinstance(paused_and_taken(in_acme, run), Finished)
    run.refresh_from_db()
    assert (run.status, run.error_code) == ("failed", "budget_exceeded")
    lost = UsageRecord.objects.get()
    assert (lost.error_code, lost.input_tokens > 400) == ("run_lost", True)  # the instructions and the history count
    period = BudgetPeriod.objects.get()
    assert (period.reserved, period.spent) == (0, lost.charge)


async def _denied(owner: Actor, run: Run) -> bool:
    """A person says that the call of which nobody knows the end shall not be made again, once that is asked."""
    found = (await owner.aget("approvals", status="pending")).json()["data"]
    for approval in found:
        entry = {"interruptId": approval["id"], "status": "cancelled"}
        assert (await owner.apost(f"runs/{run.id}/resume", {"resume": [entry]})).status_code == 200
    return bool(found)


async def test_no_tool_that_changes_something_is_called_twice(
    owner: Actor, scripted: str, in_acme: Tenant, vault: None
) -> None:
    """One call was finished and one was under way when the process was killed."""
    await sync_to_async(toolset_create)(actor=owner.principal, slug="safe", name="Safe", kind="vault")
    await sync_to_async(agent_update)(actor=owner.principal, ref="helper", changes={"toolsets": ["safe"]})
    put, stuck = ({"tool": tool, "args": {"name": name}} for tool, name in (("put", "a"), ("stuck", "b")))
    (asked,) = script(put, stuck, {"say": "ok"})
    run = await begun(owner, asked["content"])

    async def under_way() -> bool:
        return DONE == ["a", "b"]

    await until(under_way)
    await lose(run.id)
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await until(lambda: _denied(owner, run))
    await runner.finished(task)
    assert DONE == ["a", "b"]
    calls = [(call.tool, call.fence, call.status) async for call in ToolCall.objects.order_by("created_at")]
    assert calls == [("put", 1, "succeeded"), ("stuck", 1, "started")]
    messages = [message.content async for message in Message.objects.filter(role="tool").order_by("seq")]
    assert messages == ["put a", UNKNOWN.content]
    fences = [record.fence async for record in UsageRecord.objects.order_by("fence", "number")]
    assert fences.count(2) == 1  # the answers of the first attempt were not asked for again
    await run.arefresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 2)
    assert text_after_restart(await stored(owner, run)).replace(" ", "") == "ok"


async def test_an_attempt_without_such_calls_begins_anew(
    owner: Actor, scripted: str, in_acme: Tenant, vault: None
) -> None:
    await sync_to_async(toolset_create)(actor=owner.principal, slug="safe", name="Safe", kind="vault")
    await sync_to_async(agent_update)(actor=owner.principal, ref="helper", changes={"toolsets": ["safe"]})
    look = {"tool": "look", "args": {"name": "a"}}
    (asked,) = script(look, {"say": "o"}, {"say": "k", "delay_ms": 1500})
    run = await begun(owner, asked["content"])
    await until(lambda: ToolCall.objects.filter(tool="look").aexists())
    await asyncio.sleep(0.1)
    await lose(run.id)
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await runner.finished(task)
    assert [call.fence async for call in ToolCall.objects.order_by("created_at")] == [1, 2]
    assert text_after_restart(await stored(owner, run)).replace(" ", "") == "ok"
