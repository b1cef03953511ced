import asyncio

import pytest

from core.errors import ApplicationError, ProviderFailed
from core.validation import config_faults
from templates_app.kinds.conversation.history import window
from templates_app.registry import registry
from tests.templates_app.fakes import PlayedModel, PlayedToolbox, answer, ask, context, say, tool

simple = registry.get("simple")
conversation = registry.get("conversation")


async def test_simple_asks_the_model_once_with_instructions_and_all_messages() -> None:
    model = PlayedModel(say("Hi"))
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    found = await answer(simple, context(simple, model, instructions="Be kind.", messages=messages))
    assert (found.message["content"], found.finish_reason) == ("Hi", "stop")
    assert model.requests[0]["messages"] == [{"role": "system", "content": "Be kind."}, *messages]
    assert model.requests[0]["tools"] is None


async def test_the_callers_parameters_go_before_the_configs() -> None:
    model = PlayedModel(say("Hi"))
    config = {"temperature": 0.1, "max_tokens": 5}
    params = {"temperature": 0.9, "seed": 7, "max_completion_tokens": 9, "tool_choice": "auto"}
    await answer(simple, context(simple, model, config=config, params=params))
    assert model.requests[0]["params"] == {"temperature": 0.9, "seed": 7, "max_completion_tokens": 9}


@pytest.mark.parametrize("template", [simple, conversation])
async def test_a_call_of_a_clients_tool_is_the_answer_whatever_the_finish_reason(template: object) -> None:
    model = PlayedModel(ask("book", finish="stop"))
    found = await answer(template, context(template, model, client_tools=[tool("book")]))  # type: ignore[arg-type]
    assert found.finish_reason == "tool_calls"
    assert [call["function"]["name"] for call in found.message["tool_calls"]] == ["book"]


async def test_conversation_runs_server_tools_and_shows_the_model_their_results() -> None:
    model = PlayedModel(ask("look", "look"), say("Found"))
    toolbox = PlayedToolbox("look")
    found = await answer(conversation, context(conversation, model, tools=toolbox))
    assert found.message["content"] == "Found"
    assert toolbox.calls == ["call_0", "call_1"]
    assert [message["role"] for message in model.requests[1]["messages"]] == ["user", "assistant", "tool", "tool"]


async def test_several_calls_of_one_reply_run_at_the_same_time_and_answer_in_order() -> None:
    both = asyncio.Barrier(2)

    class Meeting(PlayedToolbox):
        async def call(self, tool_call: dict) -> dict:
            await asyncio.wait_for(both.wait(), 2)
            if tool_call["id"] == "call_0":
                await asyncio.sleep(0.01)
            return await super().call(tool_call)

    model = PlayedModel(ask("look", "look"), say("Found"))
    await answer(conversation, context(conversation, model, tools=Meeting("look")))
    results = [m["tool_call_id"] for m in model.requests[1]["messages"] if m["role"] == "tool"]
    assert results == ["call_0", "call_1"]


async def test_a_reply_with_both_kinds_of_calls_runs_ours_and_leaves_theirs() -> None:
    toolbox = PlayedToolbox("look")
    model = PlayedModel(ask("look", "book"))
    found = await answer(conversation, context(conversation, model, tools=toolbox, client_tools=[tool("book")]))
    assert toolbox.calls == ["call_0"]
    assert [call["id"] for call in found.message["tool_calls"]] == ["call_1"]
    assert [t["function"]["name"] for t in model.requests[0]["tools"]] == ["look", "book"]


async def test_at_the_step_limit_the_model_must_answer_without_tools() -> None:
    model = PlayedModel(ask("look"), ask("look"), say("Enough"))
    found = await answer(
        conversation, context(conversation, model, tools=PlayedToolbox("look"), config={"max_steps": 3})
    )
    assert found.message["content"] == "Enough"
    assert [request["params"].get("tool_choice") for request in model.requests] == [None, None, "none"]


async def test_a_model_that_insists_on_tools_at_the_limit_is_cut_off_with_every_call_answered() -> None:
    toolbox = PlayedToolbox("look")
    insists = ask("look")
    insists.message["content"] = "I would look again."
    model = PlayedModel(ask("look"), insists)
    found = await answer(conversation, context(conversation, model, tools=toolbox, config={"max_steps": 2}))
    assert (found.finish_reason, found.message["content"]) == ("length", "I would look again.")
    assert "tool_calls" not in found.message
    assert len(toolbox.calls) == 2


async def test_one_that_says_nothing_at_the_limit_fails_and_tells_what_raises_it() -> None:
    toolbox = PlayedToolbox("look")
    model = PlayedModel(ask("look"), ask("look"))
    with pytest.raises(ApplicationError, match="max_steps") as failed:
        await answer(conversation, context(conversation, model, tools=toolbox, config={"max_steps": 2}))
    assert failed.value.code == "too_many_steps"
    assert len(toolbox.calls) == 2


async def test_a_tool_that_the_caller_forced_is_forced_once() -> None:
    model = PlayedModel(ask("look"), say("Found"))
    await answer(
        conversation, context(conversation, model, tools=PlayedToolbox("look"), params={"tool_choice": "required"})
    )
    assert [request["params"]["tool_choice"] for request in model.requests] == ["required", "auto"]


async def test_an_unknown_tool_is_left_to_the_toolbox_to_explain() -> None:
    toolbox = PlayedToolbox("look")
    model = PlayedModel(ask("invented"), say("Sorry"))
    assert (await answer(conversation, context(conversation, model, tools=toolbox))).message["content"] == "Sorry"
    assert toolbox.calls == ["call_0"]


async def test_a_failure_of_the_model_is_the_runs() -> None:
    class Failing(PlayedModel):
        async def reply(self, *args: object, **params: object) -> None:  # type: ignore[override]
            raise ProviderFailed("The provider failed.")

    with pytest.raises(ProviderFailed):
        await answer(conversation, context(conversation, Failing()))


def turn(n: int) -> list[dict]:
    return [
        {"role": "user", "content": f"q{n}"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{n}"}]},
        {"role": "tool", "tool_call_id": f"c{n}", "content": "x"},
        {"role": "assistant", "content": f"a{n}"},
    ]


def test_the_window_holds_whole_turns_and_the_instructions_before_them() -> None:
    rules = {"role": "developer", "content": "Rules"}
    messages = [rules, *turn(1), *turn(2), *turn(3), {"role": "user", "content": "q4"}]
    assert window(messages, 2) == [rules, *turn(3), {"role": "user", "content": "q4"}]
    assert window(messages, 4) == messages
    assert window(messages, 1) == [rules, {"role": "user", "content": "q4"}]


async def test_conversation_sees_no_more_than_its_window() -> None:
    model = PlayedModel(say("Hi"))
    messages = [*turn(1), *turn(2), {"role": "user", "content": "q3"}]
    await answer(conversation, context(conversation, model, messages=messages, config={"history_turns": 1}))
    assert model.requests[0]["messages"] == [{"role": "user", "content": "q3"}]


@pytest.mark.parametrize(
    ("config", "path", "code"),
    [
        ({"max_steps": 0}, "config.max_steps", "greater_than_equal"),
        ({"max_steps": 51}, "config.max_steps", "less_than_equal"),
        ({"max_steps": "5"}, "config.max_steps", "int_type"),
        ({"max_steps": True}, "config.max_steps", "int_type"),
        ({"history_turns": 0}, "config.history_turns", "greater_than_equal"),
        ({"temperature": 2.5}, "config.temperature", "less_than_equal"),
        ({"unknown": 1}, "config.unknown", "extra_forbidden"),
    ],
)
def test_every_bound_of_the_config_is_checked(config: dict, path: str, code: str) -> None:
    (fault,) = config_faults(conversation.Config, config)
    assert (fault["path"], fault["code"]) == (path, code)


@pytest.mark.parametrize("slug", ["simple", "conversation"])
def test_a_form_can_be_made_of_every_field(slug: str) -> None:
    for name, field in registry.get(slug).config_schema()["properties"].items():
        assert field["title"] != name
        assert field["description"]
        assert "default" in field
