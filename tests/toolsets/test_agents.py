"""One agent asks another within its run."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.db import connection

from agents.models import Agent
from agents.selectors import agent_get
from agents.services import agent_create, agent_status, agent_update
from core.aio import in_db_thread
from core.tenant import tenant_context
from runs import runner
from runs.models import Run
from runs.replay import run_replay
from runs.services.turns import TurnRequest
from tenants.models import Tenant
from tests.agents.graphs import CREATE_AGENT, STATE_GRAPH
from tests.conftest import Actor
from tests.llm.doors import until
from tests.runs.test_chat_completions import chat
from tests.runs.test_chat_completions import script as steps_of
from tests.runs.test_paying import Cap, cap, priced
from tests.templates_app.conftest import AddTemplate, add_template
from tests.toolsets.vault import DONE, vault
from toolsets import limits
from toolsets.models import ToolCall
from toolsets.registry import toolset_kinds
from toolsets.selectors import tool_list
from toolsets.services import toolset_create, toolset_update
from toolsets.validation import toolset_faults
from usage.models import BudgetPeriod, UsageRecord

__all__ = ["add_template", "cap", "priced", "vault"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault")]


def told(*steps: Any) -> str:
    """What makes a scripted agent play the steps."""
    return f"#script {json.dumps(steps)}"


def ask(slug: str, *steps: Any) -> dict[str, Any]:
    return {"tool": f"ask_{slug}", "args": {"message": told(*steps)}}


# A template that asks two agents at once.
BOTH = """
import asyncio

from templates_app.base import AgentTemplate
from templates_app.events import Answer


class Both(AgentTemplate):
    slug = "both"
    version = "1.0.0"
    title = "Both"
    capabilities = frozenset({"tools"})

    async def run(self, context):
        async def ask(slug):
            function = {"name": f"ask_{slug}", "arguments": {"message": "hello"}}
            answer = await context.tools.call({"id": slug, "type": "function", "function": function})
            return f"{slug}: {answer['content']}"

        answers = await asyncio.gather(ask("b"), ask("c"))
        yield Answer({"role": "assistant", "content": ", ".join(answers)}, "stop")
"""


@pytest.fixture
def team(owner: Actor, scripted: str, in_acme: Tenant) -> Iterator[None]:
    """The agents a, b and c, each of which may ask each; b and c have the vault as well."""
    limits.forget()
    new: dict[str, Any] = {"actor": owner.principal, "template": "conversation", "model": "scripted/default"}
    toolset_create(actor=owner.principal, slug="safe", name="Safe", kind="vault")
    config = {"agents": ["a", "b", "c", "nobody"]}
    toolset_create(actor=owner.principal, slug="team", name="Team", kind="agents", config=config)
    agent_create(slug="a", name="Asker", toolsets=["team"], status="active", **new)
    metadata = {"description": "Keeps the safe."}
    agent_create(slug="b", name="Keeper", toolsets=["team", "safe"], status="active", metadata=metadata, **new)
    agent_create(slug="c", name="Clerk", toolsets=["team", "safe"], status="active", **new)
    yield
    limits.forget()


async def said(actor: Actor, *steps: Any, model: str = "a") -> dict[str, Any]:
    response = await chat(actor, steps_of(*steps), model=model)
    assert response.status_code == 200, response.content
    found: dict[str, Any] = orjson.loads(response.content)
    return found


def checkpoint_namespaces() -> set[str]:
    """LangGraph has one for each graph that it takes for a part of another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT checkpoint_ns FROM checkpoints")
        return {namespace for (namespace,) in cursor.fetchall()}


async def rows() -> list[ToolCall]:
    return await in_db_thread(lambda: list(ToolCall.objects.order_by("created_at", "id")))


async def result_of(tool: str) -> str:
    (row,) = [row for row in await rows() if row.tool == tool]
    return row.result


async def records() -> list[UsageRecord]:
    return await in_db_thread(lambda: list(UsageRecord.objects.order_by("number")))


def test_a_tool_tells_of_its_agent(owner: Actor, team: None, in_acme: Tenant) -> None:
    tools = {tool.name: tool for tool in tool_list(actor=owner.principal, ref="team")}
    assert list(tools) == ["ask_a", "ask_b", "ask_c", "ask_nobody"]
    assert tools["ask_a"].description.endswith(": Asker")
    assert tools["ask_b"].description.endswith(": Keeper. Keeps the safe.")
    assert tools["ask_nobody"].description.endswith(": nobody")


def test_the_names_are_one_query(owner: Actor, team: None, in_acme: Tenant, django_assert_num_queries: Any) -> None:
    kind = toolset_kinds()["agents"]
    config = kind.Config(agents=["a", "b", "c"])
    with django_assert_num_queries(1):
        assert len(kind.tools(config)) == 3
    with tenant_context(None), django_assert_num_queries(0):
        assert len(kind.tools(config)) == 3


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"agents": []}, "config.agents"),
        ({"agents": ["a", "a"]}, "config.agents.1"),
        ({"agents": ["No Slug"]}, "config.agents.0"),
        ({"agents": ["x" * 61]}, "config.agents.0"),
        ({"agents": ["a"], "max_depth": 6}, "config.max_depth"),
        ({"agents": ["a"], "timeout": 0}, "config.timeout"),
    ],
)
def test_faults_of_a_config(config: dict[str, Any], path: str) -> None:
    assert [fault["path"] for fault in toolset_faults({"kind": "agents", "config": config})] == [path]


def test_all_faults_of_a_config_are_told_at_once() -> None:
    faults = toolset_faults({"kind": "agents", "config": {"agents": ["a", "B", "a", 5, 5], "max_depth": "x"}})
    assert sorted((fault["path"], fault["code"]) for fault in faults) == [
        ("config.agents.1", "string_pattern_mismatch"),
        ("config.agents.2", "duplicate"),
        ("config.agents.3", "string_type"),
        ("config.agents.4", "duplicate"),
        ("config.agents.4", "string_type"),
        ("config.max_depth", "int_type"),
    ]


def test_an_agent_that_is_not_there_is_no_fault_of_a_config() -> None:
    assert toolset_faults({"kind": "agents", "config": {"agents": ["nobody", "x" * 60]}}) == []


async def test_what_the_other_says_is_the_result_and_its_calls_are_the_runs(
    owner: Actor, team: None, in_acme: Tenant
) -> None:
    look, put = {"tool": "look", "args": {"name": "x"}}, {"tool": "put", "args": {"name": "y"}}
    answer = await said(owner, ask("b", {"say": "Wait."}, look, put, {"say": "All done"}), {"say": "ok"})
    assert answer["choices"][0]["message"]["content"] == "ok"
    run = await Run.objects.aget()
    found = await rows()
    assert [(row.tool, row.toolset, row.status, row.run_id) for row in found] == [
        ("ask_b", "team", "succeeded", run.id),
        ("look", "safe", "succeeded", run.id),
        ("put", "safe", "succeeded", run.id),
    ]
    assert (found[0].result, found[0].risk, DONE) == ("All done", "write", ["y"])
    assert {row.session_id for row in found} == {run.session_id}
    used = await records()
    assert [row.number for row in used] == [1, 2, 3, 4, 5]
    assert {(row.run_id, row.agent) for row in used} == {(run.id, "a")}
    assert sum(row.output_tokens for row in used) == run.completion_tokens == answer["usage"]["completion_tokens"]


async def test_events_and_messages_tell_only_of_the_calls_of_the_runs_own_agent(
    owner: Actor, team: None, in_acme: Tenant
) -> None:
    look = {"tool": "look", "args": {"name": "x"}}
    answer = await said(owner, ask("b", look, {"say": "inner words"}), {"say": "ok"})
    data = (await owner.aget(f"runs/{answer['metadata']['run_id']}/events")).json()["data"]
    events = [each["event"] for each in data]
    calls = [event for event in events if event["type"].startswith("TOOL_CALL_")]
    assert [event["type"] for event in calls] == [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
    ]
    assert len({event["toolCallId"] for event in calls}) == 1
    assert (calls[0]["toolCallName"], calls[-1]["content"]) == ("ask_b", "inner words")
    texts = [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(texts) == "ok"
    session = answer["metadata"]["session_id"]
    messages = (await owner.aget(f"sessions/{session}/messages")).json()["data"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]


async def test_an_agent_that_is_asked_the_same_twice_does_it_twice(owner: Actor, team: None, in_acme: Tenant) -> None:
    put = {"tool": "put", "args": {"name": "y"}}
    same = ask("b", put, {"say": "done"})
    await said(owner, same, same, {"say": "ok"})
    assert DONE == ["y", "y"]
    assert [row.status for row in await rows()] == ["succeeded"] * 4


async def test_agents_ask_in_a_row_and_not_in_a_circle(owner: Actor, team: None, in_acme: Tenant) -> None:
    await said(owner, ask("b", ask("c", ask("a", {"say": "never"}), {"say": "c is done"}), {"say": "b too"}))
    assert await result_of("ask_b") == "b too"
    assert await result_of("ask_c") == "c is done"
    assert "in a circle: a → b → c → a." in await result_of("ask_a")
    assert len(await records()) == 6


async def test_an_agent_does_not_ask_itself(owner: Actor, team: None, in_acme: Tenant) -> None:
    await said(owner, ask("a", {"say": "never"}), {"say": "ok"})
    assert "in a circle: a → a." in await result_of("ask_a")


async def test_the_depth_is_bounded_by_whoever_stands_above(owner: Actor, team: None, in_acme: Tenant) -> None:
    new: dict[str, Any] = {"actor": owner.principal, "kind": "agents", "name": "Few"}
    await in_db_thread(toolset_create, slug="few", config={"agents": ["b"], "max_depth": 1}, **new)
    await in_db_thread(agent_update, actor=owner.principal, ref="a", changes={"toolsets": ["few"]})
    await said(owner, ask("b", ask("c", {"say": "never"}), {"say": "b is done"}), {"say": "ok"})
    assert await result_of("ask_b") == "b is done"
    assert "asked 1 deep at most (max_depth of the toolset), and this is deeper: a → b → c." in await result_of("ask_c")


async def test_the_calls_of_all_agents_of_a_run_are_bounded(owner: Actor, team: None, in_acme: Tenant) -> None:
    config = {"agents": ["b", "c"], "max_calls": 2}
    await in_db_thread(toolset_update, actor=owner.principal, ref="team", changes={"config": config})
    await said(owner, ask("b", ask("c", {"say": "c"}), {"say": "b"}), ask("c", {"say": "more"}), {"say": "ok"})
    assert [row.status for row in await rows()] == ["succeeded", "succeeded", "failed"]
    assert "max_calls" in (await rows())[-1].result


async def test_agents_that_cannot_answer_are_explained(owner: Actor, team: None, in_acme: Tenant) -> None:
    def change() -> None:
        agent_status(actor=owner.principal, ref="b", status="paused")
        Agent.objects.filter(slug="c").update(status="draft")

    await in_db_thread(change)
    await said(owner, ask("b"), ask("c"), ask("nobody"), {"say": "ok"})
    assert await result_of("ask_b") == "The agent 'b' is not active: its status is paused."
    assert await result_of("ask_c") == "The agent 'c' is not active: its status is draft."
    assert await result_of("ask_nobody") == "There is no agent 'nobody'."


async def test_a_template_or_a_model_that_is_gone_is_explained(owner: Actor, team: None, in_acme: Tenant) -> None:
    def change() -> None:
        b, c = (agent_get(actor=owner.principal, ref=ref).version for ref in ("b", "c"))
        assert b is not None
        assert c is not None
        type(b).objects.filter(id=b.id).update(template="gone")
        type(c).objects.filter(id=c.id).update(model="gone/default")

    await in_db_thread(change)
    await said(owner, ask("b"), ask("c"), {"say": "ok"})
    assert (await result_of("ask_b")).startswith("The agent 'b' could not answer: ")
    assert "'gone'" in await result_of("ask_b")
    assert "The model 'gone/default' does not exist." in await result_of("ask_c")


async def test_another_tenants_agent_is_not_found(owner: Actor, stranger: Actor, team: None, in_acme: Tenant) -> None:
    def create() -> None:
        with tenant_context(stranger.tenant.id):
            new: dict[str, Any] = {"template": "conversation", "model": "scripted/default", "status": "active"}
            stranger.post("providers", {"slug": "scripted", "kind": "scripted"})
            agent_create(actor=stranger.principal, slug="nobody", name="Theirs", **new)

    await in_db_thread(create)
    await said(owner, ask("nobody", {"say": "secret"}), {"say": "ok"})
    assert await result_of("ask_nobody") == "There is no agent 'nobody'."
    assert (await in_db_thread(tool_list, actor=owner.principal, ref="team"))[-1].description.endswith(": nobody")


async def test_a_failing_model_is_a_result(owner: Actor, team: None, in_acme: Tenant, settings: Any) -> None:
    settings.LLM_ATTEMPTS = 1
    await said(owner, ask("b", {"fail": 500}), ask("c"), {"say": "ok"})
    assert await result_of("ask_b") == "The agent 'b' could not answer: The provider failed."
    assert await result_of("ask_c") == "The agent 'c' answered nothing: it ended with stop."


async def test_a_hard_budget_stops_the_agent_that_is_asked(owner: Actor, team: None, cap: Cap, settings: Any) -> None:
    settings.BUDGET_ANSWER_TOKENS = 20
    await cap(4000)
    await said(owner, ask("b", {"repeat": "word", "times": 5000}), {"say": "ok"})
    used = await records()
    assert [(row.number, row.error_code) for row in used] == [(1, ""), (2, "budget_exceeded"), (3, "")]
    period = await in_db_thread(BudgetPeriod.objects.get)
    assert (period.reserved, period.spent) == (0, sum(row.charge for row in used))
    assert 1000 < period.spent <= 4000
    assert (await result_of("ask_b")).startswith("The agent 'b' could not answer: The budget 'cap' has no room")


async def test_a_cancelled_run_ends_the_agent_that_is_asked(owner: Actor, team: None, in_acme: Tenant) -> None:
    stuck = ask("b", ask("c", {"tool": "stuck", "args": {"name": "c is stuck"}}))
    run = await runner.begin(actor=owner.principal, request=TurnRequest("a", steps_of(stuck), "api"))
    await until(lambda: DONE == ["c is stuck"])
    ended = await runner.stop(actor=owner.principal, ref=str(run.id))
    assert ended.status == "cancelled"
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ask-")] == []
    assert [row.status for row in await rows()] == ["started"] * 3


async def test_a_cancelled_run_ends_the_answer_of_a_model_that_is_asked(
    owner: Actor, team: None, in_acme: Tenant
) -> None:
    slow = ask("b", {"tool": "put", "args": {"name": "x"}}, {"repeat": "word", "times": 500, "delay_ms": 5})
    run = await runner.begin(actor=owner.principal, request=TurnRequest("a", steps_of(slow), "api"))
    await until(lambda: DONE == ["x"])
    await asyncio.sleep(0.1)
    await runner.stop(actor=owner.principal, ref=str(run.id))
    last = (await records())[-1]
    assert (last.run_id, last.error_code, last.certainty) == (run.id, "cancelled", "estimated")
    assert 0 < last.output_tokens < 500


async def test_an_agent_that_takes_too_long_is_given_up(owner: Actor, team: None, in_acme: Tenant) -> None:
    changes = {"policy": {"timeout": 0.2}}
    await in_db_thread(toolset_update, actor=owner.principal, ref="team", changes=changes)
    await said(owner, ask("b", {"tool": "stuck", "args": {"name": "b"}}), {"say": "ok"})
    assert await result_of("ask_b") == "The tool did not finish within 0.2 s."
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ask-")] == []


async def test_graphs_ask_graphs_and_are_no_part_of_each_other(
    owner: Actor, team: None, in_acme: Tenant, add_template: AddTemplate
) -> None:
    def change() -> None:
        add_template("worker", CREATE_AGENT)
        add_template("shout", STATE_GRAPH)
        agent_update(actor=owner.principal, ref="a", changes={"template": "worker"})
        agent_update(actor=owner.principal, ref="b", changes={"template": "worker"})
        agent_update(actor=owner.principal, ref="c", changes={"template": "shout", "toolsets": []})

    await in_db_thread(change)
    inner = ask("b", {"tool": "look", "args": {"name": "x"}}, ask("c", {"say": "hello"}), {"say": "b is done"})
    answer = await said(owner, inner, {"say": "ok"})
    assert answer["choices"][0]["message"]["content"] == "ok"
    assert await result_of("ask_c") == "HELLO!"
    assert await result_of("ask_b") == "b is done"
    data = (await owner.aget(f"runs/{answer['metadata']['run_id']}/events")).json()["data"]
    steps = [each["event"]["stepName"] for each in data if each["event"]["type"] == "STEP_STARTED"]
    assert steps == ["model", "tools", "model"]
    assert "CUSTOM" not in {each["event"]["type"] for each in data}


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
async def test_a_graph_that_is_asked_keeps_no_checkpoints_in_the_runs_thread(
    owner: Actor, team: None, in_acme: Tenant, add_template: AddTemplate
) -> None:
    def change() -> None:
        add_template("worker", CREATE_AGENT)
        for slug in ("a", "b"):
            agent_update(actor=owner.principal, ref=slug, changes={"template": "worker"})

    await in_db_thread(change)
    look = {"tool": "look", "args": {"name": "x"}}
    inner = ask("b", look, {"tool": "stuck", "args": {"name": "b is stuck"}})
    run = await runner.begin(actor=owner.principal, request=TurnRequest("a", steps_of(inner), "api", session="s"))
    await until(lambda: DONE == ["b is stuck"])
    namespaces = await in_db_thread(checkpoint_namespaces)
    await runner.stop(actor=owner.principal, ref=str(run.id))
    assert namespaces == {""}


async def test_agents_are_asked_at_once(owner: Actor, team: None, in_acme: Tenant, add_template: AddTemplate) -> None:
    def change() -> None:
        add_template("both", BOTH)
        agent_update(actor=owner.principal, ref="a", changes={"template": "both"})

    await in_db_thread(change)
    answer = await said(owner, {"say": "unheard"})
    assert answer["choices"][0]["message"]["content"] == "b: You said: hello, c: You said: hello"
    used = await records()
    assert sorted(row.number for row in used) == [1, 2]
    assert {str(row.run_id) for row in used} == {answer["metadata"]["run_id"]}


async def test_a_replay_asks_no_agent(owner: Actor, team: None, in_acme: Tenant) -> None:
    put = {"tool": "put", "args": {"name": "y"}}
    answer = await said(owner, ask("b", put, {"say": "done"}), {"say": "ok"})
    replay = await in_db_thread(run_replay, tenant_id=in_acme.id, run_id=UUID(answer["metadata"]["run_id"]))
    assert replay.is_identical, replay.difference()
    assert (DONE, len(await rows()), len(await records())) == (["y"], 2, 4)


async def test_without_a_run_nobody_is_asked(owner: Actor, team: None, in_acme: Tenant) -> None:
    tried = await owner.apost("toolsets/team/tools/ask_b/invoke", {"arguments": {"message": "hello"}})
    assert tried.status_code == 200, tried.content
    assert tried.json()["is_error"]
    assert "only in a run" in tried.json()["content"]
