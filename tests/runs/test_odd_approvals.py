"""Approvals at their edges: odd arguments, graphs, calls and answers that were cut off, and limits."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError

from agents.services import agent_update
from core.aio import in_db_thread
from runs import approvals, runner
from runs.models import Run
from runs.replay import run_replay
from runs.services.approvals import approval_look
from runs.services.turns import TurnRequest
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_approvals import (
    SEND,
    THREE,
    asked,
    ended,
    events,
    resume,
    safe,
    says,
    told_model,
    waiting,
)
from tests.runs.test_chat_completions import user
from tests.runs.test_runs import activate
from tests.templates_app.conftest import AddTemplate, add_template
from tests.toolsets.test_agents import ask, team
from tests.toolsets.vault import DONE, VaultConfig, VaultKind, vault
from toolsets.base import Risk, Tool, ToolArguments, ToolCallContext
from toolsets.registry import toolset_kinds
from toolsets.services import toolset_update

__all__ = ["add_template", "safe", "team", "vault"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault")]

GRAPH = """
from langgraph.graph import END, START, MessagesState, StateGraph

from templates_app.langgraph import LangGraphTemplate


class Asks(LangGraphTemplate):
    slug = "asks"
    version = "1.0.0"
    title = "Asks"

    def graph(self, config, model, tools):
        (tool,) = [tool for tool in tools if tool.name == "ask"]

        async def send(state):
            return {"messages": [("ai", await tool.ainvoke({"name": "a"}))]}

        builder = StateGraph(MessagesState)
        builder.add_node("send", send)
        builder.add_edge(START, "send")
        builder.add_edge("send", END)
        return builder
"""


# A call that waits, while another branch of the template goes on.
BESIDE = """
import asyncio

from templates_app.base import AgentTemplate
from templates_app.events import Answer, Custom, StepFinished, StepStarted


class Beside(AgentTemplate):
    slug = "beside"
    version = "1.0.0"
    title = "Beside"
    capabilities = frozenset({"tools"})

    async def run(self, context):
        function = {"name": "ask", "arguments": '{"name": "a"}'}
        yield StepStarted("both")
        call = asyncio.ensure_future(context.tools.call({"id": "a", "type": "function", "function": function}))
        yield StepStarted("slow")
        await asyncio.sleep(0.3)
        yield Custom("far", 1)
        yield StepFinished("slow")
        answer = await call
        yield StepFinished("both")
        yield Answer({"role": "assistant", "content": answer["content"]}, "stop")
"""
# The model's answer is cut off, and the template goes on without it.
CUT = """
import asyncio

from templates_app.base import AgentTemplate
from templates_app.events import Answer


class Cut(AgentTemplate):
    slug = "cut"
    version = "1.0.0"
    title = "Cut"
    capabilities = frozenset({"tools"})

    async def run(self, context):
        try:
            async with asyncio.timeout(0.5):
                await context.model.reply(context.messages)
        except TimeoutError:
            pass
        function = {"name": "ask", "arguments": '{"name": "a"}'}
        answer = await context.tools.call({"id": "a", "type": "function", "function": function})
        yield Answer({"role": "assistant", "content": answer["content"]}, "stop")
"""
# A call with arguments as they stand here.
RAW = """
from templates_app.base import AgentTemplate
from templates_app.events import Answer


class Raw(AgentTemplate):
    slug = "raw"
    version = "1.0.0"
    title = "Raw"
    capabilities = frozenset({"tools"})

    async def run(self, context):
        function = {"name": "weigh", "arguments": context.messages[-1]["content"]}
        answer = await context.tools.call({"id": "a", "type": "function", "function": function})
        yield Answer({"role": "assistant", "content": answer["content"]}, "stop")
"""


class Weight(ToolArguments):
    grams: float | int | str


async def weigh(arguments: Weight, context: ToolCallContext) -> str:
    DONE.append(str(arguments.grams))
    return "weighed"


class Scales(VaultKind):
    def tools(self, config: VaultConfig) -> Sequence[Tool]:
        return [Tool("weigh", "Weighs.", Weight, weigh, risk=Risk.WRITE, approval=True)]


async def use_template(owner: Actor, slug: str) -> None:
    fields = {"slug": slug, "name": slug, "template": slug, "model": "scripted/default", "toolsets": ["safe"]}
    await activate(owner, fields)


async def interrupted(owner: Actor, run: Run, count: int = 1) -> list[dict[str, Any]]:
    """The run's events once it has told `count` times that it waits."""
    async with asyncio.timeout(20):
        while ["outcome" in event for event in await events(owner, run)].count(True) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return await events(owner, run)


def wrong_grammar(told: list[dict[str, Any]]) -> list[str]:
    """What AG-UI's client refuses."""
    faults: list[str] = []
    steps: set[str] = set()
    running = False
    for event in told:
        kind = event["type"]
        if kind == "RUN_STARTED":
            faults += ["started twice"] if running else []
            running, steps = True, set()
            continue
        faults += [] if running else [f"{kind} outside of the run"]
        if kind == "STEP_STARTED":
            faults += [f"{kind} twice"] if event["stepName"] in steps else []
            steps.add(event["stepName"])
        elif kind == "STEP_FINISHED":
            faults += [] if event["stepName"] in steps else [f"{kind} of none"]
            steps.discard(event["stepName"])
        elif kind == "RUN_FINISHED":
            faults += [f"finished with {steps}"] if steps else []
            running = False
    return faults


async def test_a_graph_that_waits(owner: Actor, safe: str, add_template: AddTemplate) -> None:
    add_template("asks", GRAPH)
    await use_template(owner, "asks")
    run, (approval,) = await waiting(owner, {"say": "x"}, model="asks")
    await interrupted(owner, run)
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    told = await events(owner, run)
    assert wrong_grammar(told) == []
    assert [event["stepName"] for event in told if event["type"] == "STEP_STARTED"] == ["send", "send"]
    assert DONE == ["a"]


async def test_a_template_that_goes_on_beside_what_waits(
    owner: Actor, safe: str, add_template: AddTemplate, in_acme: Tenant
) -> None:
    """The last that is told while it waits is that it waits, with nothing open."""
    add_template("beside", BESIDE)
    await use_template(owner, "beside")
    run, (approval,) = await waiting(owner, {"say": "x"}, model="beside")
    told = await interrupted(owner, run, 2)
    assert wrong_grammar(told) == []
    assert (told[-1]["type"], "CUSTOM" in {event["type"] for event in told}) == ("RUN_FINISHED", True)
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert wrong_grammar(await events(owner, run)) == []
    replay = await in_db_thread(run_replay, tenant_id=in_acme.id, run_id=run.id)
    assert [line for line in replay.recorded if "paused" in line] == []


async def test_after_an_answer_that_was_cut_off(owner: Actor, safe: str, add_template: AddTemplate) -> None:
    add_template("cut", CUT)
    await use_template(owner, "cut")
    run, (approval,) = await waiting(owner, {"say": "one two three four", "delay_ms": 300}, model="cut")
    told = [event["type"] for event in await interrupted(owner, run)]
    assert told[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"


async def test_after_an_agent_that_was_asked_ran_out_of_time(owner: Actor, team: None) -> None:
    """Its call that was under way then is so no more, and the interrupt is told."""
    changes = {"config": {"agents": ["b"], "timeout": 1}}
    await in_db_thread(toolset_update, actor=owner.principal, ref="team", changes=changes)
    await in_db_thread(agent_update, actor=owner.principal, ref="a", changes={"toolsets": ["team", "safe"]})
    stuck = {"tool": "stuck", "args": {"name": "b"}}
    run, (approval,) = await waiting(owner, ask("b", stuck, {"say": "x"}), SEND, {"say": "ok"}, model="a")
    await interrupted(owner, run)
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert DONE == ["b", "a"]


@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        ('{"grams": NaN}', False),
        ('{"grams": -Infinity}', False),
        ('{"grams": 1e400}', False),
        ('{"grams": 1e30}', False),
        ('{"grams": 123456789012345678901234567890}', False),
        ('{"grams": 18446744073709551615}', True),
        ('{"grams": 0.1, "grams": 0.2}', True),
        (f'{{"grams": "{"x" * 49_000}\\u0000"}}', True),
    ],
)
async def test_a_person_is_asked_what_they_can_be_shown(
    owner: Actor, safe: str, add_template: AddTemplate, arguments: str, asks: bool
) -> None:
    """What JSON lacks, the list of approvals, the events and the admin could not tell: the model is told to mend it."""
    toolset_kinds()["vault"] = Scales()
    add_template("raw", RAW)
    await use_template(owner, "raw")
    asked_for = TurnRequest(model="raw", messages=user(arguments), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=asked_for)
    if asks:
        (approval,) = await asked(owner)
        await interrupted(owner, run)
        await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert (await owner.aget("approvals")).status_code == 200
    assert len(DONE) == asks
    assert ("more than 64 bits" in (await told_model())[0]) is not asks


async def test_a_run_that_waits_already_may_ask_more(
    owner: Actor, safe: str, add_template: AddTemplate, settings: Any
) -> None:
    settings.TENANT_WAITING_RUNS = 1
    add_template("three", THREE)
    await use_template(owner, "three")
    run, _ = await waiting(owner, {"say": "x"}, model="three", count=2)
    await runner.stop(actor=owner.principal, ref=str(run.id))


async def test_it_waits_while_the_database_does_not_answer(
    owner: Actor, safe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, (approval,) = await waiting(owner)
    faults = [OperationalError("The server closed the connection."), InterfaceError("It is closed.")]

    def unanswered(**which: Any) -> Any:
        if faults:
            raise faults.pop()
        return approval_look(**which)

    monkeypatch.setattr(approvals, "approval_look", unanswered)
    await resume(owner, run, says(approval))
    assert (await ended(run)).status == "succeeded"
    assert (faults, DONE) == ([], ["a"])
