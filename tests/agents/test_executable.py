import asyncio
import json
import sys
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from agents import executable
from agents.exceptions import AgentUnusable
from agents.executable import executable_for, run_model
from agents.models import Agent
from agents.services import agent_create, agent_update
from core.errors import ApplicationError, InvalidRequest, ProviderFailed
from core.ids import uuid7
from llm.selectors.providers import model_resolve
from templates_app.events import Custom, StepFinished, StepStarted
from templates_app.registry import registry
from tests.agents.graphs import CREATE_AGENT, STATE_GRAPH
from tests.agents.running import Played, ready, script
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate
from tests.templates_app.fakes import tool
from toolsets.services import toolset_update

CLOCK_CALL = {"tool": "convert_time", "args": {"time": "2026-01-01T00:00", "to_timezone": "Asia/Tokyo"}}


def made(owner: Actor, template: str, **fields: Any) -> Agent:
    given = {"slug": f"a-{uuid7()}"[:60], "name": "A", "model": "scripted/default", "template": template, **fields}
    return agent_create(actor=owner.principal, **given)


def play(owner: Actor, agent: Agent, said: str, **options: Any) -> Played:
    return async_to_sync(ready(owner, agent).play)(said, **options)


def test_simple_streams_the_models_words_to_the_sink(owner: Actor, scripted: Any) -> None:
    played = play(owner, made(owner, "simple"), "Hello there")
    assert played.text == played.answer.message["content"] == "You said: Hello there"
    assert played.answer.finish_reason == "stop"
    assert len(played.deltas) > 3


def test_conversation_uses_a_tool_and_answers(owner: Actor, scripted: Any, clock: Any) -> None:
    agent = made(owner, "conversation", toolsets=["clock"])
    played = play(owner, agent, script(CLOCK_CALL, {"say": "It is nine."}))
    assert played.answer.message["content"] == "It is nine."
    (result,) = played.results
    assert (result.name, result.is_error) == ("convert_time", False)
    assert json.loads(result.content)["time"] == "2026-01-01T09:00:00+09:00"
    assert result.tool_call_id == played.deltas[0].tool_calls[0].id  # type: ignore[index]


def test_a_clients_tool_is_left_to_the_client(owner: Actor, scripted: Any, clock: Any) -> None:
    agent = made(owner, "conversation", toolsets=["clock"])
    played = play(owner, agent, script({"tool": "book", "args": {"n": 1}}), client_tools=[tool("book")])
    assert played.answer.finish_reason == "tool_calls"
    assert played.answer.message["tool_calls"][0]["function"] == {"name": "book", "arguments": '{"n":1}'}
    assert played.results == []


def test_a_clients_tool_with_the_name_of_ours_is_refused(owner: Actor, scripted: Any, clock: Any) -> None:
    agent = made(owner, "conversation", toolsets=["clock"])
    with pytest.raises(InvalidRequest) as refused:
        play(owner, agent, "Hi", client_tools=[tool("mine"), tool("current_time")])
    assert (refused.value.code, refused.value.param) == ("tool_name_clash", "tools.1")


def test_the_callers_parameters_reach_the_model(owner: Actor, scripted: Any) -> None:
    played = play(owner, made(owner, "conversation"), "one two three four", max_tokens=2)
    assert played.answer.finish_reason == "length"


def test_a_failing_provider_fails_the_run(owner: Actor, scripted: Any, settings: Any) -> None:
    settings.LLM_ATTEMPTS = 1
    with pytest.raises(ProviderFailed):
        play(owner, made(owner, "conversation"), script({"fail": 500}))


def test_native_templates_never_import_langchain(owner: Actor, scripted: Any, monkeypatch: Any) -> None:
    for name in [key for key in sys.modules if key.split(".")[0] in ("langgraph", "langchain", "langchain_core")]:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it would now fail
    assert play(owner, made(owner, "conversation"), "Hi").answer.message["content"] == "You said: Hi"


def test_a_bare_model_is_only_the_model(owner: Actor, scripted: Any) -> None:
    target = model_resolve(actor=owner.principal, name="scripted/default")
    played = Played()
    messages = [{"role": "user", "content": "Hi"}]
    async_to_sync(run_model)(target=target, messages=messages, params={}, report=played)
    assert played.text == "You said: Hi"


def test_a_state_graph_tells_its_steps_and_streams_its_models_words(
    owner: Actor, scripted: Any, add_template: AddTemplate
) -> None:
    add_template("graphs", STATE_GRAPH)
    played = play(owner, made(owner, "shout", config={"suffix": "?"}, instructions="Be loud."), "Hello")
    assert played.text == "You said: Hello"
    assert played.answer.message == {"role": "assistant", "content": "YOU SAID: HELLO?"}
    assert played.events[:-1] == [
        StepStarted("think"),
        Custom("mood", {"loud": True}),
        StepFinished("think"),
        StepStarted("shout"),
        StepFinished("shout"),
    ]


def test_a_create_agent_graph_uses_granted_tools(
    owner: Actor, scripted: Any, clock: Any, add_template: AddTemplate
) -> None:
    add_template("worker", CREATE_AGENT)
    agent = made(owner, "worker", toolsets=["clock"])
    played = play(owner, agent, script(CLOCK_CALL, {"say": "It is nine."}), temperature=0.5)
    assert played.answer.message["content"] == "It is nine."
    assert json.loads(played.results[0].content)["time"] == "2026-01-01T09:00:00+09:00"
    assert [event.name for event in played.events if isinstance(event, StepStarted)] == ["model", "tools", "model"]


def test_a_tools_error_comes_back_to_a_graphs_model(
    owner: Actor, scripted: Any, clock: Any, add_template: AddTemplate
) -> None:
    add_template("worker", CREATE_AGENT)
    agent = made(owner, "worker", toolsets=["clock"])
    said = script({"tool": "current_time", "args": {"timezone": "Mars"}}, {"say": "No such place."})
    played = play(owner, agent, said)
    assert played.results[0].is_error
    assert played.answer.message["content"] == "No such place."


def test_a_graph_is_built_once_and_its_runs_are_not_mixed(
    owner: Actor, scripted: Any, clock: Any, add_template: AddTemplate
) -> None:
    add_template("graphs", STATE_GRAPH)
    prepared = ready(owner, made(owner, "shout"))

    async def many() -> list[Played]:
        return await asyncio.gather(*(prepared.play(f"I am {number}") for number in range(50)))

    for number, played in enumerate(async_to_sync(many)()):
        assert played.text == f"You said: I am {number}"
        assert played.answer.message["content"] == f"YOU SAID: I AM {number}!"
    assert sys.modules[type(prepared.executable.template).__module__].built == ["!"]


def test_two_tenants_share_nothing_of_a_graphs_run(
    owner: Actor, scripted: Any, clock: Any, add_template: AddTemplate
) -> None:
    add_template("worker", CREATE_AGENT)
    prepared = ready(owner, made(owner, "worker", toolsets=["clock"]))

    async def both() -> list[Played]:
        first = script(CLOCK_CALL, {"say": "first"})
        second = script({"tool": "current_time", "args": {"timezone": "UTC"}}, {"say": "second"})
        return await asyncio.gather(prepared.play(first), prepared.play(second))

    first, second = async_to_sync(both)()
    assert ([result.name for result in first.results], first.text) == (["convert_time"], "first")
    assert ([result.name for result in second.results], second.text) == (["current_time"], "second")


def test_a_graph_takes_no_tools_of_the_caller(owner: Actor, scripted: Any, add_template: AddTemplate) -> None:
    add_template("worker", CREATE_AGENT)
    with pytest.raises(InvalidRequest) as refused:
        play(owner, made(owner, "worker"), "Hi", client_tools=[tool("book")])
    assert refused.value.code == "client_tools_unsupported"


def test_a_graph_that_does_not_end_is_stopped(owner: Actor, scripted: Any, add_template: AddTemplate) -> None:
    add_template("graphs", STATE_GRAPH)
    with pytest.raises(ApplicationError) as stopped:
        play(owner, made(owner, "endless"), "Hi")
    assert stopped.value.code == "step_limit"


def test_a_build_sees_no_run_and_its_failure_is_not_kept(
    owner: Actor, scripted: Any, add_template: AddTemplate
) -> None:
    add_template("graphs", STATE_GRAPH)
    agent = made(owner, "unbuildable")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no graph today"):
            play(owner, agent, "Hi")


def test_a_cancelled_graph_run_closes_its_model_call(owner: Actor, scripted: Any, add_template: AddTemplate) -> None:
    add_template("graphs", STATE_GRAPH)
    prepared = ready(owner, made(owner, "shout"))

    async def cut() -> None:
        await prepared.play("Build the graph.")
        run = asyncio.create_task(prepared.play(script({"say": "a"}, {"fail": "hang"})))
        await asyncio.sleep(0.1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    async_to_sync(cut)()


def test_a_changed_toolset_is_seen_by_the_next_run(
    owner: Actor, scripted: Any, clock: Any, add_template: AddTemplate
) -> None:
    add_template("worker", CREATE_AGENT)
    agent = made(owner, "worker", toolsets=["clock"])
    said = script({"tool": "current_time"}, {"say": "done"})
    assert json.loads(play(owner, agent, said).results[0].content)["timezone"] == "UTC"
    toolset_update(actor=owner.principal, ref="clock", changes={"config": {"default_timezone": "Asia/Tokyo"}})
    assert json.loads(play(owner, agent, said).results[0].content)["timezone"] == "Asia/Tokyo"
    toolset_update(actor=owner.principal, ref="clock", changes={"enabled": False})
    without = play(owner, agent, said)
    assert (without.results, without.answer.finish_reason) == ([], "stop")
    assert "tool_calls" not in without.answer.message


def test_executables_are_kept_by_version_up_to_a_bound(owner: Actor, scripted: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(executable, "CACHE_SIZE", 2)
    agent = made(owner, "simple")
    first = executable_for(agent.version)  # type: ignore[arg-type]
    assert executable_for(agent.version) is first  # type: ignore[arg-type]
    changed = agent_update(actor=owner.principal, ref=str(agent.id), changes={"instructions": "New"})
    assert executable_for(changed.version) is not first  # type: ignore[arg-type]
    executable_for(made(owner, "simple").version)  # type: ignore[arg-type]
    assert len(executable._cache) == 2


def test_a_reloaded_template_serves_the_next_run(owner: Actor, scripted: Any, add_template: AddTemplate) -> None:
    add_template("worker", CREATE_AGENT)
    agent = made(owner, "worker")
    held = executable_for(agent.version)  # type: ignore[arg-type]
    registry.reload()
    assert executable_for(agent.version) is not held  # type: ignore[arg-type]


def test_an_agent_whose_template_is_gone_says_so(owner: Actor, scripted: Any, add_template: AddTemplate) -> None:
    add_template("worker", CREATE_AGENT)
    agent = made(owner, "worker")
    add_template("worker", "raise RuntimeError")
    with pytest.raises(AgentUnusable) as gone:
        ready(owner, agent)
    assert gone.value.status == 503


def test_a_template_that_no_longer_takes_the_config_says_so(
    owner: Actor, scripted: Any, add_template: AddTemplate
) -> None:
    add_template("graphs", STATE_GRAPH)
    agent = made(owner, "shout", config={"suffix": "."})
    add_template("graphs", STATE_GRAPH.replace("suffix: str", "suffix: int").replace('"!"', "1"))
    with pytest.raises(AgentUnusable, match="no longer takes"):
        ready(owner, agent)


def test_a_template_that_ends_without_an_answer_fails(owner: Actor, scripted: Any, add_template: AddTemplate) -> None:
    add_template(
        "silent",
        """
        from templates_app.base import AgentTemplate
        from templates_app.events import StepStarted

        class Silent(AgentTemplate):
            slug, version, title = "silent", "1.0.0", "Silent"

            async def run(self, context):
                yield StepStarted("nothing")
        """,
    )
    with pytest.raises(ApplicationError) as ended:
        play(owner, made(owner, "silent"), "Hi")
    assert ended.value.code == "no_answer"
