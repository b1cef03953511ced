"""A person decides about a tool's call: once, in time, with the role that it takes; the run waits meanwhile."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.utils import timezone

from agents.services import agent_update
from audit.models import AuditEvent
from core.aio import in_db_thread
from core.tenant import tenant_context
from runs import runner
from runs.models import Run, ToolApproval
from runs.process import process
from runs.replay import run_replay
from runs.services.turns import TurnRequest
from tenants.models import Tenant
from tests.conftest import Actor, make_actor
from tests.runs.test_chat_completions import chat, frames, script
from tests.runs.test_runs import activate, events_of
from tests.runs.test_socket import hear_run, run_input, say, socket
from tests.templates_app.conftest import AddTemplate, add_template
from tests.toolsets.test_agents import ask, team
from tests.toolsets.vault import DONE, vault
from toolsets import limits
from toolsets.models import ToolCall, Toolset
from toolsets.services import toolset_create, toolset_update

__all__ = ["add_template", "team", "vault"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault")]
SEND = {"tool": "ask", "args": {"name": "a"}}

# Two calls at once, of which each must be approved, and one that need not.
THREE = """
import asyncio

from templates_app.base import AgentTemplate
from templates_app.events import Answer


class Three(AgentTemplate):
    slug = "three"
    version = "1.0.0"
    title = "Three"
    capabilities = frozenset({"tools"})

    async def run(self, context):
        async def call(id, tool):
            function = {"name": tool, "arguments": {"name": id}}
            return (await context.tools.call({"id": id, "type": "function", "function": function}))["content"]

        answers = await asyncio.gather(call("a", "ask"), call("b", "ask"), call("c", "one_by_one"))
        yield Answer({"role": "assistant", "content": ", ".join(answers)}, "stop")
"""


@pytest.fixture
def safe(owner: Actor, scripted: str, in_acme: Tenant) -> Iterator[str]:
    """The agent has the vault's tools as well, of which `ask` must be approved."""
    limits.forget()
    toolset_create(actor=owner.principal, slug="safe", name="Safe", kind="vault", secrets={"token": "hunter2"})
    agent_update(actor=owner.principal, ref="helper", changes={"toolsets": ["time", "safe"]})
    yield "safe"
    limits.forget()


async def set_policy(owner: Actor, **policy: Any) -> None:
    with tenant_context(owner.tenant.id):
        await in_db_thread(toolset_update, actor=owner.principal, ref="safe", changes={"policy": policy})


async def begun(owner: Actor, *steps: Any, model: str = "helper", **fields: Any) -> Run:
    asked = TurnRequest(model=model, messages=script(*steps), source="api", session="s", **fields)
    return await runner.begin(actor=owner.principal, request=asked)


async def waiting(owner: Actor, *steps: Any, count: int = 1, **fields: Any) -> tuple[Run, list[dict[str, Any]]]:
    """A run that waits, and what it asks."""
    run = await begun(owner, *(steps or (SEND, {"say": "ok"})), **fields)
    return run, await asked(owner, count)


async def asked(owner: Actor, count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        while len(found := (await owner.aget("approvals", status="pending")).json()["data"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return list(reversed(found))


def says(approval: dict[str, Any], approved: bool = True, **payload: Any) -> dict[str, Any]:
    return {"interruptId": approval["id"], "status": "resolved", "payload": {"approved": approved, **payload}}


async def resume(actor: Actor, run: Run, *entries: Any) -> Any:
    return await actor.apost(f"runs/{run.id}/resume", {"resume": entries})


async def ended(run: Run) -> Run:
    task = (await process()).tasks.get(run.id)
    if task is not None:
        await runner.finished(task)
    await run.arefresh_from_db()
    return run


async def events(owner: Actor, run: Run) -> list[dict[str, Any]]:
    return [each["event"] for each in (await owner.aget(f"runs/{run.id}/events", limit=1000)).json()["data"]]


async def rows() -> list[ToolCall]:
    return await in_db_thread(lambda: list(ToolCall.objects.order_by("created_at", "id")))


async def told_model() -> list[str]:
    return [row.result for row in await rows()]


async def test_a_run_waits_until_a_person_approves(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    assert (await owner.aget(f"runs/{run.id}")).json()["status"] == "waiting"
    assert {name: approval[name] for name in ("run_id", "status", "reason", "agent", "toolset", "tool", "role")} == {
        "run_id": str(run.id),
        "status": "pending",
        "reason": "policy",
        "agent": "helper",
        "toolset": "safe",
        "tool": "ask",
        "role": "member",
    }
    assert (approval["arguments"], DONE, await rows()) == ({"name": "a"}, [], [])
    answer = await resume(owner, run, says(approval, comment="Go on."))
    assert (answer.status_code, answer.json()["id"]) == (200, str(run.id))
    assert (await ended(run)).status == "succeeded"
    assert DONE == ["a"]
    decided = (await owner.aget(f"approvals/{approval['id']}")).json()
    assert (decided["status"], decided["comment"], decided["edited_arguments"]) == ("approved", "Go on.", None)
    assert decided["decided_by"]["label"] == owner.principal.label
    assert await AuditEvent.objects.filter(action="tool_approval.approve", object_id=approval["id"]).acount() == 1


async def test_the_events_are_agui_interrupts(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    same = {"editedArgs": approval["arguments"]}
    await resume(owner, run, says(approval, **same))
    await ended(run)
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["edited_arguments"] is None
    told = await events(owner, run)
    assert [event["type"] for event in told] == [
        "RUN_STARTED",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "RUN_FINISHED",
        "RUN_STARTED",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    outcome = told[4]["outcome"]
    (interrupt,) = outcome["interrupts"]
    assert (outcome["type"], interrupt["id"], interrupt["reason"]) == ("interrupt", approval["id"], "tool_call")
    assert interrupt["toolCallId"] == told[1]["toolCallId"]
    assert interrupt["expiresAt"] == approval["expires_at"].split(".")[0] + "Z"
    assert interrupt["metadata"]["arguments"] == {"name": "a"}
    assert set(interrupt["responseSchema"]["properties"]) == {"approved", "editedArgs", "comment"}
    assert told[5]["runId"] == told[0]["runId"]


async def test_a_person_may_deny_and_say_why(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    assert (await resume(owner, run, says(approval, False, comment="Not today."))).status_code == 200
    assert (await ended(run)).status == "succeeded"
    (row,) = await rows()
    assert (row.status, DONE) == ("failed", [])
    assert "denied" in row.result
    assert "Not today." in row.result
    assert await AuditEvent.objects.filter(action="tool_approval.deny").acount() == 1


async def test_an_abandoned_interrupt_is_a_denial(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    await resume(owner, run, {"interruptId": approval["id"], "status": "cancelled"})
    await ended(run)
    assert (DONE, "denied" in (await told_model())[0]) == ([], True)


async def test_what_a_person_edits_is_what_is_done(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    refused = await resume(owner, run, says(approval, editedArgs={"nam": "b"}))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "wrong_arguments")
    assert refused.json()["error"]["param"] == "resume.0.payload.editedArgs"
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["status"] == "pending"
    assert (await resume(owner, run, says(approval, editedArgs={"name": "b"}))).status_code == 200
    await ended(run)
    (row,) = await rows()
    assert (DONE, row.arguments) == (["b"], '{"name":"b"}')
    told = await events(owner, run)
    (result,) = (event["content"] for event in told if event["type"] == "TOOL_CALL_RESULT")
    assert result == '[A person changed the arguments to] {"name":"b"}\nput b'
    audited = await AuditEvent.objects.aget(action="tool_approval.approve")
    assert audited.after["edited"] == '{"name":"b"}'


async def test_arguments_of_a_toolset_that_is_gone_meanwhile(owner: Actor, safe: str) -> None:
    """The run goes on with the tools that it began with."""
    run, (approval,) = await waiting(owner)
    await Toolset.objects.filter(slug="safe").adelete()
    assert (await resume(owner, run, says(approval, editedArgs={"nam": "b"}))).status_code == 200
    await ended(run)
    assert (DONE, "nam: Extra inputs" in (await told_model())[0]) == ([], True)


async def test_nobody_decides_what_expired(owner: Actor, safe: str, settings: Any) -> None:
    settings.APPROVAL_SECONDS = 0.3
    run, (approval,) = await waiting(owner)
    assert (await ended(run)).status == "succeeded"
    assert (DONE, "Nobody approved this call in time" in (await told_model())[0]) == ([], True)
    late = await resume(owner, run, says(approval))
    assert (late.status_code, late.json()["error"]["code"]) == (409, "approval_expired")
    assert "APPROVAL_SECONDS" in late.json()["error"]["message"]
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["status"] == "expired"
    assert await AuditEvent.objects.filter(action="tool_approval.expire").acount() == 1


async def test_its_time_is_over_even_before_the_run_sees_that(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    await ToolApproval.objects.aupdate(expires_at=timezone.now() - timedelta(seconds=1))
    late = await resume(owner, run, says(approval))
    assert (late.status_code, late.json()["error"]["code"], DONE) == (409, "approval_expired", [])


async def test_who_may_decide(owner: Actor, viewer: Actor, stranger: Actor, safe: str) -> None:
    await set_policy(owner, approver="admin")
    run, (approval,) = await waiting(owner)
    member, operator, admin = [
        await in_db_thread(make_actor, owner.tenant, role) for role in ("member", "operator", "admin")
    ]
    reader = await in_db_thread(make_actor, owner.tenant, "owner", scopes=["read"])
    for actor, status, code in [
        (viewer, 403, "role_too_low"),
        (member, 403, "role_too_low"),
        (operator, 403, "role_too_low"),
        (reader, 403, "scope_missing"),
        (stranger, 404, "not_found"),
    ]:
        answer = await resume(actor, run, says(approval))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (await stranger.aget("approvals")).json()["data"] == []
    assert (await stranger.aget(f"approvals/{approval['id']}")).status_code == 404
    assert (await viewer.aget(f"approvals/{approval['id']}")).json()["status"] == "pending"
    assert (await resume(admin, run, says(approval))).status_code == 200
    await ended(run)
    assert DONE == ["a"]


async def test_one_of_another_run_is_not_found(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    other = await runner.begin(
        actor=owner.principal, request=TurnRequest(model="helper", messages=script(SEND), source="api", session="t")
    )
    await asked(owner, 2)
    for entries in ([says(approval)], [says({"id": "nonsense"})]):
        assert (await resume(owner, other, *entries)).status_code == 404
    assert (await resume(owner, run, says(approval), says({"id": str(other.id)}))).status_code == 404
    assert DONE == []
    for each in (run, other):
        await runner.stop(actor=owner.principal, ref=str(each.id))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "resume"),
        ({"resume": []}, "resume"),
        ({"resume": [{}]}, "resume.0.interruptId"),
        ({"resume": [{"interruptId": "x", "status": "resolved"}]}, "resume.0.payload"),
        ({"resume": [{"interruptId": "x", "status": "maybe"}]}, "resume.0.status"),
        ({"resume": [{"interruptId": "x", "status": "resolved", "payload": {"approved": "yes"}}]}, "resume.0.payload"),
        ({"resume": [{"interruptId": "x", "status": "resolved", "payload": {"approved": 1}}]}, "resume.0.payload"),
        (
            {"resume": [{"interruptId": "x", "status": "resolved", "payload": {"approved": True, "editedArgs": []}}]},
            "resume.0.payload.editedArgs",
        ),
        ({"resume": [{"interruptId": "x", "status": "cancelled"}], "extra": 1}, "extra"),
    ],
)
async def test_odd_decisions_decide_nothing(owner: Actor, safe: str, body: Any, param: str) -> None:
    run, (approval,) = await waiting(owner)
    answer = await owner.apost(
        f"runs/{run.id}/resume", orjson.loads(orjson.dumps(body).replace(b'"x"', orjson.dumps(approval["id"])))
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["status"] == "pending"
    await runner.stop(actor=owner.principal, ref=str(run.id))


async def test_a_cancelled_run_needs_no_answer(owner: Actor, safe: str) -> None:
    run, (approval,) = await waiting(owner)
    stopped = await owner.apost(f"runs/{run.id}/cancel", {})
    assert stopped.json()["status"] == "cancelled"
    late = await resume(owner, run, says(approval))
    assert (late.status_code, late.json()["error"]["code"]) == (409, "approval_withdrawn")
    assert (await owner.aget(f"approvals/{approval['id']}")).json()["status"] == "withdrawn"
    told = await events(owner, run)
    assert [event["type"] for event in told[-3:]] == ["RUN_FINISHED", "RUN_STARTED", "RUN_ERROR"]
    assert DONE == []


async def test_calls_that_are_made_at_once_are_asked_together(
    owner: Actor, safe: str, add_template: AddTemplate
) -> None:
    add_template("three", THREE)
    fields = {"slug": "three", "name": "Three", "template": "three", "model": "scripted/default", "toolsets": ["safe"]}
    await activate(owner, fields)
    run, (first, second) = await waiting(owner, {"say": "x"}, model="three", count=2)
    async with asyncio.timeout(20):
        while not any("outcome" in event for event in await events(owner, run)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await resume(owner, run, says(second))
    async with asyncio.timeout(20):
        while "b" not in DONE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await owner.aget(f"runs/{run.id}")).json()["status"] == "waiting"
    await resume(owner, run, says(first, False))
    await ended(run)
    assert DONE == ["c begins", "c ends", "b"]
    told = [event for event in await events(owner, run) if event["type"].startswith(("RUN_", "TOOL_CALL_RESULT"))]
    asked_for = [
        [each["id"] for each in event["outcome"]["interrupts"]] if "outcome" in event else event["type"]
        for event in told
    ]
    assert asked_for == [
        "RUN_STARTED",
        "TOOL_CALL_RESULT",  # nothing is under way any more: the run can be said to wait
        [first["id"], second["id"]],
        "RUN_STARTED",
        "TOOL_CALL_RESULT",
        [first["id"]],
        "RUN_STARTED",
        "TOOL_CALL_RESULT",
        "RUN_FINISHED",
    ]


async def test_of_several_decisions_all_or_none_count(owner: Actor, safe: str, add_template: AddTemplate) -> None:
    add_template("three", THREE)
    fields = {"slug": "three", "name": "Three", "template": "three", "model": "scripted/default", "toolsets": ["safe"]}
    await activate(owner, fields)
    run, (first, second) = await waiting(owner, {"say": "x"}, model="three", count=2)
    assert (await resume(owner, run, says(first), says(second, editedArgs={}))).status_code == 400
    assert len(await asked(owner)) == 2
    assert (await resume(owner, run, says(first), says(first))).status_code == 409
    assert (await resume(owner, run, says(first), says(second))).status_code == 200
    await ended(run)
    assert sorted(DONE) == ["a", "b", "c begins", "c ends"]


async def test_time_stands_still_while_a_person_thinks(owner: Actor, safe: str, settings: Any) -> None:
    settings.RUN_TIMEOUT = 1.5
    run, (approval,) = await waiting(owner)
    await asyncio.sleep(1.7)
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"


async def test_an_agent_that_another_one_asked_waits_too(owner: Actor, team: None) -> None:
    changes = {"config": {"agents": ["b"], "timeout": 1}}
    await in_db_thread(toolset_update, actor=owner.principal, ref="team", changes=changes)
    run, (approval,) = await waiting(owner, ask("b", SEND, {"say": "sent"}), {"say": "ok"}, model="a")
    assert (approval["agent"], approval["tool"]) == ("b", "ask")
    (interrupt,) = (event for event in await events(owner, run) if "outcome" in event)
    assert "toolCallId" not in interrupt["outcome"]["interrupts"][0]  # the run's clients know no such call
    await asyncio.sleep(1.2)  # longer than the call that asked it may take
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert (DONE, {row.tool: row.result for row in await rows()}["ask_b"]) == (["a"], "sent")


@pytest.mark.parametrize(("policy", "asks"), [("after_untrusted", True), ("default", False)])
async def test_what_comes_from_outside_makes_careful(owner: Actor, team: None, policy: str, asks: bool) -> None:
    """What another agent says may come from anywhere."""
    changes = {"toolsets": ["team", "safe"]}
    await in_db_thread(agent_update, actor=owner.principal, ref="a", changes=changes)
    await set_policy(owner, approval=policy)
    put = {"tool": "put", "args": {"name": "b"}}
    look = {"tool": "look", "args": {"name": "b"}}
    first = {"tool": "put", "args": {"name": "a"}}
    steps = [first, ask("c", {"say": "Now put b."}), look, put, {"say": "ok"}]
    run = await begun(owner, *steps, model="a")
    if asks:
        (approval,) = await asked(owner)
        assert (approval["reason"], approval["arguments"], DONE) == ("untrusted", {"name": "b"}, ["a"])
        await resume(owner, run, says(approval))
    await ended(run)
    assert DONE == ["a", "b"]
    again = await begun(owner, {"tool": "put", "args": {"name": "c"}}, {"say": "ok"}, model="a")  # it has the history
    if asks:
        await resume(owner, again, says((await asked(owner))[0]))
    await ended(again)
    assert DONE == ["a", "b", "c"]


async def test_a_policy_may_ask_for_nothing(owner: Actor, safe: str) -> None:
    await set_policy(owner, approval="never")
    await ended(await begun(owner, SEND, {"say": "ok"}))
    assert DONE == ["a"]


async def test_arguments_that_nobody_can_read_are_not_asked_for(owner: Actor, safe: str) -> None:
    await ended(await begun(owner, {"tool": "ask", "args": {"name": "x" * 60_000}}, {"say": "ok"}))
    assert ("longer than 50,000 characters" in (await told_model())[0], DONE) == (True, [])


async def test_a_tenant_has_so_many_waiting_runs(owner: Actor, safe: str, settings: Any) -> None:
    settings.TENANT_WAITING_RUNS = 1
    first, _ = await waiting(owner)
    asked = TurnRequest(model="helper", messages=script(SEND, {"say": "x"}), source="api", session="t")
    await ended(await runner.begin(actor=owner.principal, request=asked))
    assert ("TENANT_WAITING_RUNS" in (await told_model())[0], DONE) == (True, [])
    await runner.stop(actor=owner.principal, ref=str(first.id))


async def test_an_openai_client_waits_with_the_run(owner: Actor, safe: str) -> None:
    whole = asyncio.ensure_future(chat(owner, script(SEND, {"say": "done"}), metadata={"session_id": "w"}))
    (approval,) = await asked(owner)
    run = await Run.objects.aget(id=approval["run_id"])
    await resume(owner, run, says(approval))
    answer = orjson.loads((await whole).content)
    assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == ("done", "stop")
    assert DONE == ["a"]


async def test_a_streaming_openai_client_waits_with_the_run(owner: Actor, safe: str, settings: Any) -> None:
    settings.HEARTBEAT_SECONDS = 0.05
    response = await chat(owner, script(SEND, {"say": "done"}), metadata={"session_id": "w"}, stream=True)
    reading = asyncio.ensure_future(frames(response))
    (approval,) = await asked(owner)
    run = await Run.objects.aget(id=approval["run_id"])
    await resume(owner, run, says(approval))
    found = await reading
    assert found[-1] == "data: [DONE]"
    assert "done" in "".join(found)


async def test_agui_over_sse_ends_at_the_interrupt_and_goes_on(owner: Actor, safe: str) -> None:
    text = script(SEND, {"say": "done"})[0]["content"]
    first = events_of(await frames(await owner.apost("agents/helper/ag-ui", run_input(text))))
    seq, last = first[-1]
    (interrupt,) = last["outcome"]["interrupts"]
    entry = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
    elsewhere = await owner.apost("agents/helper/ag-ui", {**run_input("", "other"), "messages": [], "resume": [entry]})
    assert (elsewhere.status_code, DONE) == (404, [])
    changes = {"slug": "other", "name": "Other", "template": "conversation", "model": "scripted/default"}
    await activate(owner, changes)
    others = await owner.apost("agents/other/ag-ui", {**run_input(text), "resume": [entry]})
    assert (others.status_code, DONE) == (404, [])
    answer = await owner.apost("agents/helper/ag-ui", {**run_input(text), "resume": [entry]})
    second = events_of(await frames(answer))
    assert [place for place, _ in second] == list(range(seq + 1, seq + 1 + len(second)))
    assert [event["type"] for _, event in second] == [
        "RUN_STARTED",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert DONE == ["a"]


async def test_a_decision_over_the_socket(owner: Actor, viewer: Actor, safe: str) -> None:
    async with socket(owner) as ws, socket(viewer) as watching:
        text = script(SEND, {"say": "done"})[0]["content"]
        await say(ws, {"type": "run", "agent": "helper", "input": run_input(text)})
        asked = (await hear_run(ws))[-1]
        run_id, (interrupt,) = asked["metadata"]["run_id"], asked["outcome"]["interrupts"]
        entry = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
        frame = {"type": "resume", "run_id": run_id, "resume": [entry]}
        assert (await hear_run(watching))[-1]["outcome"] == asked["outcome"]
        await say(watching, frame)
        refused = (await hear_run(watching))[-1]
        assert (refused["type"], refused["error"]["code"], DONE) == ("error", "role_too_low", [])
        await say(ws, frame)
        told, seen = await hear_run(ws), await hear_run(watching)
    assert told[0]["type"] == "RUN_STARTED"
    assert told[-1]["result"] == {"finishReason": "stop"}
    assert (told, DONE) == (seen, ["a"])


async def test_a_replay_asks_nobody(owner: Actor, safe: str, in_acme: Tenant) -> None:
    run, (approval,) = await waiting(owner)
    await resume(owner, run, says(approval, editedArgs={"name": "b"}))
    await ended(run)
    replay = await in_db_thread(run_replay, tenant_id=in_acme.id, run_id=run.id)
    assert (replay.difference(), replay.unknown, DONE) == ([], [], ["b"])
