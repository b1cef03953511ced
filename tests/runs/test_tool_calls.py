"""The tool calls of a run: their rows, their limits, and that none is made twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from django.db.models import F

from agents.models import Agent
from agents.services import agent_update
from core.aio import in_db_thread
from core.ids import uuid7
from core.tenant import tenant_context
from runs.models import Run, RunLease, ToolApproval
from runs.services.lease import lease_create
from runs.stream import RunLost
from runs.tasks import forget_tool_calls, forget_workspaces
from runs.tool_ledger import RunLedger
from sessions_app.models import ChatSession
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, script
from tests.toolsets.vault import DONE, WITH, vault
from toolsets import limits
from toolsets.ledger import Answer, Call, row_of, tool_call_store
from toolsets.models import ToolCall
from toolsets.services import toolset_create, toolset_update

__all__ = ["vault"]
pytestmark = pytest.mark.usefixtures("vault")
TIME = {"tool": "current_time", "args": {}}


@pytest.fixture
def safe(owner: Actor, scripted: str, in_acme: Tenant) -> Iterator[str]:
    """The agent has the vault's tools as well."""
    limits.forget()
    toolset_create(actor=owner.principal, slug="safe", name="Safe", kind="vault", secrets={"token": "hunter2"})
    agent_update(actor=owner.principal, ref="helper", changes={"toolsets": ["time", "safe"]})
    yield "safe"
    limits.forget()


def uses(tool: str, name: str = "a") -> dict[str, Any]:
    return {"tool": tool, "args": {"name": name}}


async def rows() -> list[ToolCall]:
    return await in_db_thread(lambda: list(ToolCall.objects.order_by("created_at", "id")))


async def set_policy(owner: Actor, **policy: Any) -> None:
    with tenant_context(owner.tenant.id):
        await in_db_thread(toolset_update, actor=owner.principal, ref="safe", changes={"policy": policy})


async def test_rows_events_and_messages_tell_the_same(owner: Actor, safe: str) -> None:
    steps = script(
        uses("look"), uses("put", "b"), {"tool": "current_time", "args": {}}, uses("put", "c"), {"say": "ok"}
    )
    answer = orjson.loads((await chat(owner, steps, metadata={"session_id": "s"})).content)
    run_id = answer["metadata"]["run_id"]
    events = [each["event"] for each in (await owner.aget(f"runs/{run_id}/events")).json()["data"]]
    results = {each["toolCallId"]: each for each in events if each["type"] == "TOOL_CALL_RESULT"}
    messages = [each for each in (await owner.aget("sessions/s/messages")).json()["data"] if each["role"] == "tool"]
    found = await rows()
    assert [(row.tool, row.toolset, row.risk) for row in found] == [
        ("look", "safe", "read"),
        ("put", "safe", "write"),
        ("current_time", "time", "read"),
        ("put", "safe", "write"),
    ]
    assert {row.status for row in found} == {"succeeded"}
    assert {str(row.run_id) for row in found} == {run_id}
    assert [results[row.call_id]["content"] for row in found] == [row.result for row in found]
    assert [results[row.call_id]["metadata"]["ms"] for row in found] == [row.ms for row in found]
    assert len(messages) == len(found)
    assert (DONE, WITH) == (["b", "c"], ["hunter2", "hunter2"])


async def test_the_same_call_again_and_again_is_cut_off(owner: Actor, safe: str) -> None:
    await chat(owner, script(*[uses("put")] * 5, {"say": "ok"}))
    found = await rows()
    assert (len(DONE), [row.status for row in found]) == (3, ["succeeded"] * 3 + ["failed"] * 2)
    assert "You made this same call 3 times" in found[-1].result


@pytest.mark.parametrize(
    ("policy", "words"),
    [({"calls_per_run": 2}, "may be called 2 times in a run"), ({"calls_per_minute": 2}, "2 times a minute")],
)
async def test_a_toolset_bounds_its_calls(owner: Actor, safe: str, policy: dict[str, Any], words: str) -> None:
    await set_policy(owner, **policy)
    steps = script(
        uses("put", "a"), uses("look", "b"), uses("put", "c"), {"tool": "current_time", "args": {}}, {"say": "x"}
    )
    await chat(owner, steps, metadata={"session_id": "s"})
    assert DONE == ["a"]
    found = await rows()
    assert [row.status for row in found] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert words in found[2].result
    stored = (await owner.aget("sessions/s/messages")).json()["data"]
    assert [each["status"] for each in stored if each["role"] == "tool"] == [*["complete"] * 2, "failed", "complete"]
    assert stored[-1]["status"] == "complete"


async def test_a_result_is_cut_as_the_policy_says(owner: Actor, safe: str) -> None:
    await set_policy(owner, max_result_kb=1)
    await chat(owner, script(uses("look", "x" * 3000), {"say": "x"}))
    (row,) = await rows()
    assert row.size == 3000 + len(" is there")
    assert row.result.startswith("x" * 1024 + "\n[cut: 3009 characters in all; the toolset's policy (max_result_kb)")


async def test_wrong_arguments_have_a_row_too(owner: Actor, safe: str) -> None:
    await chat(owner, script({"tool": "put", "args": {"nam": "a"}}, {"say": "x"}))
    (row,) = await rows()
    assert (row.status, row.arguments, DONE) == ("failed", '{"nam":"a"}', [])


@pytest.fixture
def run(owner: Actor, in_acme: Tenant) -> Run:
    """One that this process has, with the fence 1."""
    run = Run.objects.create(tenant=in_acme, model="m", status="running", source="api", actor_kind="x", actor_label="x")
    lease_create(run, uuid7())
    return run


def call(key: str = "k") -> Call:
    return Call(uuid7(), key, datetime.now(UTC), "call_1", "safe", "put", "write", '{"name":"a"}')


async def nothing() -> None:
    """There is no event to be stored."""


def ledger(run: Run, fence: int = 1) -> RunLedger:
    """Of a run that asks no person."""
    return RunLedger(run, fence, nothing, Mock())


async def taken_over(run: Run) -> RunLedger:
    await in_db_thread(RunLease.objects.filter(run_id=run.id).update, fence=2)
    return ledger(run, 2)


async def test_a_call_that_was_finished_is_answered_from_its_row(run: Run) -> None:
    first = ledger(run)
    begun = call()
    assert await first.begin(begun, once=True) is None
    await first.finish(begun, Answer("put a", False, 5, 7), begun=True)
    second = await taken_over(run)
    again = await second.begin(call(), once=True)
    assert again == Answer("put a", False, 5)
    assert await second.begin(call("other"), once=True) is None
    assert [(row.key, row.fence, row.status) for row in await rows()] == [
        ("k", 1, "succeeded"),
        ("other", 2, "started"),
    ]


async def test_a_process_that_has_lost_the_run_begins_nothing(run: Run) -> None:
    await taken_over(run)
    with pytest.raises(RunLost):
        await ledger(run).begin(call(), once=True)
    assert await rows() == []


async def test_another_tenants_call_of_the_same_run_is_not_seen(run: Run, stranger: Actor) -> None:
    assert await ledger(run).begin(call(), once=True) is None
    with tenant_context(stranger.tenant.id):
        assert await rows() == []


async def test_a_call_goes_with_its_run(run: Run) -> None:
    whole = ledger(run)
    begun = call()
    assert await whole.begin(begun, once=True) is None
    await in_db_thread(Run.objects.filter(id=run.id).delete)
    assert await rows() == []


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_old_calls_are_removed(run: Run) -> None:
    for days in (29, 31):
        began = datetime.now(UTC) - timedelta(days=days)
        whose = {"run_id": run.id, "tenant_id": run.tenant_id, "created_at": began}
        tool_call_store(row_of(call(f"{days}"), "succeeded", whose))
        ToolApproval.objects.create(
            tenant_id=run.tenant_id, run=run, key=f"{days}", status="denied", arguments="{}", expires_at=began
        )
    ToolApproval.objects.update(created_at=F("expires_at"))
    forget_tool_calls()
    assert [row.key for row in ToolCall.objects.all()] == ["29"]
    assert [row.key for row in ToolApproval.objects.all()] == ["29"]


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_files_go_with_their_session_their_run_and_their_tenant(
    run: Run, acme: Tenant, settings: Any, tmp_path: Path
) -> None:
    settings.WORKSPACE_DIR = tmp_path
    agent = Agent.objects.create(tenant=acme, slug="a")
    session = ChatSession.objects.create(tenant=acme, agent=agent, created_by="x")
    old = Run.objects.create(tenant=acme, model="m", status="failed", source="api", actor_kind="x", actor_label="x")
    Run.objects.filter(id=old.id).update(finished_at=datetime.now(UTC) - timedelta(days=2))
    kept = {f"{acme.id}/shared", f"{acme.id}/session-{session.id}", f"{acme.id}/run-{run.id}", f"{acme.id}/else"}
    gone = {f"{acme.id}/session-{uuid7()}", f"{acme.id}/run-{old.id}", f"{acme.id}/run-{uuid7()}", f"{uuid7()}/shared"}
    for path in kept | gone:
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "file.txt").write_text("x")
        (tmp_path / f"{path}.lock").touch()
    (tmp_path / f"{acme.id}/run-{old.id}/away").symlink_to(tmp_path / f"{acme.id}/shared")
    forget_workspaces()
    left = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.glob("*/*/file.txt")}
    assert left == kept
    assert len(list(tmp_path.glob("*/*.lock"))) == len(kept)
