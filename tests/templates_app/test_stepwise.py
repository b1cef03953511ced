"""The parts of templates that work in steps: configs, texts, conditions, and the talk with the model."""

from typing import Any

import pytest

from core.errors import ApplicationError
from core.validation import config_faults
from templates_app.kinds.task.config import TaskConfig
from templates_app.registry import registry
from templates_app.stepwise import texts
from templates_app.stepwise.conditions import condition_faults, holds
from templates_app.stepwise.journal import Entry, Journal
from templates_app.stepwise.talk import Talk
from templates_app.stepwise.template import history, input_of
from templates_app.stepwise.texts import Values, rendered, text_faults
from tests.templates_app.fakes import PlayedModel, PlayedToolbox, ask, context, say, tool

workflow, task = registry.get("workflow"), registry.get("task")


def prompt(name: str, text: str = "Go.", **fields: Any) -> dict[str, Any]:
    return {"name": name, "prompt": text, **fields}


def step(name: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "instruction": "Go.", "depends_on": list(depends_on), **fields}


def codes(template: Any, config: dict[str, Any]) -> list[tuple[str, str]]:
    return [(fault["path"], fault["code"]) for fault in config_faults(template.Config, config)]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("steps", [], "too_short"),
        ("steps", [step(f"s{n}") for n in range(21)], "too_long"),
        ("stepTimeout", 9, "greater_than_equal"),
        ("stepTimeout", 3601, "less_than_equal"),
        ("retryCount", -1, "greater_than_equal"),
        ("retryCount", 6, "less_than_equal"),
        ("parallelExecution", "yes", "bool_type"),
        ("strictMode", 1, "bool_type"),
        ("outputFormat", "xml", "literal_error"),
        ("unknown", 1, "extra_forbidden"),
    ],
)
def test_a_tasks_bounds(field: str, value: Any, code: str) -> None:
    assert codes(task, {"steps": [step("a")], field: value}) == [(f"config.{field}", code)]


@pytest.mark.parametrize(
    "config",
    [
        {"steps": [step("a")], "stepTimeout": 10, "retryCount": 0},
        {"steps": [step(f"s{n}") for n in range(20)], "stepTimeout": 3600, "retryCount": 5},
    ],
)
def test_the_bounds_of_a_task_are_taken(config: dict[str, Any]) -> None:
    assert codes(task, config) == []


def test_all_faults_of_a_task_are_told_at_once() -> None:
    steps = [
        step("a", "c"),
        step("b", "a"),
        step("c", "b"),
        step("self", "self"),
        step("b", "nobody"),
        step("Wrong Name", output_schema={"type": "object", "properties": {"a": {"$ref": "http://x"}}}),
        {"name": "empty", "instruction": "", "max_tool_rounds": 51},
    ]
    found = codes(task, {"steps": steps, "stepTimeout": 9, "retryCount": 6, "outputFormat": "xml"})
    assert sorted(found) == sorted(
        [
            ("config.stepTimeout", "greater_than_equal"),
            ("config.retryCount", "less_than_equal"),
            ("config.outputFormat", "literal_error"),
            ("config.steps.5.name", "string_pattern_mismatch"),
            ("config.steps.6.instruction", "string_too_short"),
            ("config.steps.6.max_tool_rounds", "less_than_equal"),
            ("config.steps.0.depends_on", "cycle"),
            ("config.steps.3.depends_on.0", "cycle"),
            ("config.steps.4.name", "duplicate"),
            ("config.steps.4.depends_on.0", "unknown_step"),
            ("config.steps.5.output_schema", "invalid_schema"),
        ]
    )


def test_a_circle_is_told_by_its_steps() -> None:
    (fault,) = config_faults(TaskConfig, {"steps": [step("x"), step("a", "c"), step("b", "a"), step("c", "b")]})
    assert fault["path"] == "config.steps.1.depends_on"
    assert fault["message"] in (
        "These steps wait for each other: a → c → b → a.",
        "These steps wait for each other: a → b → c → a.",
    )


def test_no_dependency_hides_another_fault() -> None:
    steps = [step("a", "a", "b", "b", "nobody"), step("b", "a", "c"), step("c", "b"), {"name": "d", "instruction": 5}]
    assert sorted(codes(task, {"steps": steps})) == [
        ("config.steps.0.depends_on", "cycle"),
        ("config.steps.0.depends_on.0", "cycle"),
        ("config.steps.0.depends_on.2", "duplicate"),
        ("config.steps.0.depends_on.3", "unknown_step"),
        ("config.steps.1.depends_on", "cycle"),
        ("config.steps.3.instruction", "string_type"),
    ]


def test_a_task_orders_its_steps_by_what_they_need() -> None:
    config = TaskConfig.model_validate({"steps": [step("end", "b", "a"), step("b", "a"), step("a"), step("free")]})
    assert [each.name for each in config.ordered] == ["a", "b", "end", "free"]


def test_all_faults_of_a_workflow_are_told_at_once() -> None:
    steps = [
        prompt("a", "{{ steps.b.output }} {{ inpt }} {{ open"),
        prompt("b", when="steps.zz.output == '' && ("),
        prompt("c", when="steps.zz.output == ''"),
        prompt("a", temperature=3),
    ]
    config = {"steps": steps, "output": "template", "output_template": "{{ steps.a.output }}{{ steps.q.output }}"}
    assert sorted(codes(workflow, config)) == sorted(
        [
            ("config.steps.0.prompt", "unknown_reference"),
            ("config.steps.0.prompt", "unknown_reference"),
            ("config.steps.0.prompt", "unknown_reference"),
            ("config.steps.1.when", "invalid_condition"),
            ("config.steps.2.when", "invalid_condition"),
            ("config.steps.3.name", "duplicate"),
            ("config.steps.3.temperature", "less_than_equal"),
            ("config.output_template", "unknown_reference"),
        ]
    )


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"steps": []}, ("config.steps", "too_short")),
        ({"steps": [prompt(f"s{n}") for n in range(51)]}, ("config.steps", "too_long")),
        ({"steps": [prompt("a")], "output": "template"}, ("config.output_template", "required")),
        ({"steps": "a"}, ("config.steps", "list_type")),
        ({"steps": [1]}, ("config.steps.0", "model_type")),
        ({}, ("config.steps", "missing")),
    ],
)
def test_what_a_workflow_refuses(config: dict[str, Any], fault: tuple[str, str]) -> None:
    assert codes(workflow, config) == [fault]


def test_fifty_prompts_are_taken() -> None:
    assert codes(workflow, {"steps": [prompt(f"s{n}") for n in range(50)]}) == []


@pytest.mark.parametrize("slug", ["workflow", "task"])
def test_every_field_of_the_form_is_explained(slug: str) -> None:
    schema = registry.get(slug).config_schema()
    fields = [schema["properties"], *(each["properties"] for each in schema["$defs"].values())]
    for name, field in ((name, field) for properties in fields for name, field in properties.items()):
        assert field["title"] != name
        assert field["description"]
        assert "<" not in field["description"]  # the form would take it for HTML


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("{{ input }} {{input}} {{ steps.a.output }} {{ steps.a.status }} {{ metadata.tier }}", 0),
        ('#script [{"json": {"a": {"b": 1}}}] {{ "{{" }}', 0),
        ("{{ input.upper() }}", 1),
        ("{{ steps.a }}", 1),
        ("{{ steps.a.__class__ }}", 1),
        ("{{ config }}", 1),
        ("{{ steps.later.output }}", 1),
        ("{% if input %}", 0),
        ("{{ input", 1),
    ],
)
def test_references(text: str, faults: int) -> None:
    assert len(list(text_faults(text, ["a"]))) == faults


def test_what_is_put_in_is_not_looked_at_again() -> None:
    values = Values("{{ metadata.secret }}", {"secret": "no"}, {"a": {"output": "{{ input }}", "status": "ok"}})
    assert rendered('{{ input }}|{{ steps.a.output }}|{{ metadata.missing }}|{{ "{{" }}', values) == (
        "{{ metadata.secret }}|{{ input }}||{{"
    )


def test_a_prompt_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MAX_RENDERED", 10)
    with pytest.raises(ApplicationError) as refused:
        rendered("{{ input }}{{ input }}", Values("123456"))
    assert refused.value.code == "prompt_too_long"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("input == 'a' && metadata.tier == 'gold' && steps.a.output.contains('x')", ""),
        ("steps['my-step'].status == 'skipped'", ""),
        ("input.contains('steps.nobody.output')", ""),
        ("steps.nobody.output == ''", "No step 'nobody'"),
        ("steps['nobody'].output == ''", "No step 'nobody'"),
        ("steps.a == steps.a", "A step has an output and a status"),
        ("steps[input].output == ''", "Write the name of a step as it is"),
        ("size(steps) > 1", "single keys"),
        ("metadata == metadata", "single keys"),
        ("input.matches('(a+)+')", "The function 'matches' is not known"),
        ("[1].all(x, x > 0)", "goes through no list"),
        ("open('/etc/passwd') == ''", "The function 'open' is not known"),
        ("unknown == 1", "The name 'unknown' is not known"),
        ("input ==", "no CEL expression"),
        ("x" * 501, "at most 500 characters"),
    ],
)
def test_conditions_are_checked(text: str, fault: str) -> None:
    found = list(condition_faults(text, ["a", "my-step"]))
    assert bool(found) is bool(fault)
    assert not fault or fault in found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input == 'hi'", True),
        ("steps.a.output.startsWith('ye') && steps.a.status == 'ok'", True),
        ("metadata.tier == 'gold'", True),
        ("metadata.missing == 'gold'", False),
        ("has(metadata.missing)", False),
        ("1 / 0 == 1", False),
        ("'text'", False),
    ],
)
def test_conditions_hold_or_not(text: str, expected: bool) -> None:
    assert holds(text, Values("hi", {"tier": "gold"}, {"a": {"output": "yes", "status": "ok"}})) is expected


def talk(model: PlayedModel, tools: PlayedToolbox, most: int = 8, entries: dict[str, Entry] | None = None) -> Talk:
    run = context(registry.get("simple"), model, tools=tools)
    asked = [{"role": "user", "content": "Go."}]
    return Talk("a", run, Journal(run, {} if entries is None else entries), asked, tools.definitions[:1], most)


async def test_a_step_uses_its_own_tools_and_no_other() -> None:
    model, tools = PlayedModel(ask("look", "burn"), say("Done")), PlayedToolbox("look", "burn")
    said = await talk(model, tools).answer()
    assert said.answer["content"] == "Done"
    assert tools.calls == ["call_0"]
    assert [m.get("content") for m in model.requests[1]["messages"][2:]] == [
        "done",
        "This step has no tool 'burn'. Available: look.",
    ]
    assert model.requests[0]["tools"] == [tool("look")]


async def test_at_its_last_round_the_model_must_answer() -> None:
    model, tools = PlayedModel(ask("look"), say("Done")), PlayedToolbox("look")
    await talk(model, tools, most=1).answer()
    assert [request["params"].get("tool_choice") for request in model.requests] == [None, "none"]
    model = PlayedModel(ask("look"), ask("look"))
    with pytest.raises(ApplicationError) as refused:
        await talk(model, tools, most=1).answer()
    assert refused.value.code == "too_many_tool_rounds"


async def test_what_an_attempt_knows_is_told_and_not_done_again() -> None:
    entries: dict[str, Entry] = {}
    tools = PlayedToolbox("look")
    await talk(PlayedModel(ask("look"), say("Done")), tools, entries=entries).answer()
    entries["a"].rounds.pop()  # the process was killed while the model answered
    model, later = PlayedModel(say("Done again")), PlayedToolbox("look")
    again = talk(model, later, entries=entries)
    await again.retell()
    assert (await again.answer()).answer["content"] == "Done again"
    assert (later.calls, len(model.requests), len(model.retold)) == ([], 1, 1)
    assert [m["role"] for m in model.requests[0]["messages"]] == ["user", "assistant", "tool"]


async def test_a_call_that_was_cut_by_the_time_is_not_made_again() -> None:
    entries: dict[str, Entry] = {}
    model, tools = PlayedModel(ask("look"), say("Done")), PlayedToolbox("look")
    cut = talk(model, tools, entries=entries)
    await cut.answer()
    entries["a"].rounds[0].results.clear()
    entries["a"].rounds.pop()
    model, tools = PlayedModel(say("Done")), PlayedToolbox("look")
    later = talk(model, tools, entries=entries)
    await later.again()
    await later.answer()
    assert tools.calls == []
    assert "not known whether" in model.requests[0]["messages"][-1]["content"]


def test_the_input_is_the_last_message_of_the_user() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert input_of([{"role": "user", "content": "old"}, {"role": "user", "content": parts}]) == "a"
    assert input_of([]) == ""


@pytest.mark.parametrize(("turns", "expected"), [(0, ["s"]), (1, ["s", "b", "B"]), (9, ["s", "a", "A", "b", "B"])])
def test_earlier_turns_are_shown_as_the_config_says(turns: int, expected: list[str]) -> None:
    roles = {"s": "system", "a": "user", "A": "assistant", "b": "user", "B": "assistant", "c": "user"}
    messages = [{"role": role, "content": text} for text, role in roles.items()]
    run = context(registry.get("simple"), PlayedModel(), messages=messages)
    assert [message["content"] for message in history(run, turns)] == expected
