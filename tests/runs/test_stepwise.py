"""Agents that work in steps, on the scripted model: what callers, sessions and the log get of them."""

from typing import Any

import orjson
import pytest

from runs.models import Run, RunEvent
from sessions_app.models import Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, user
from tests.runs.test_replay import sealed
from tests.runs.test_runs import activate

__all__ = ["sealed"]
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])


def script(*steps: Any) -> str:
    return "#script " + orjson.dumps(list(steps)).decode()


def say(text: str, delay_ms: int = 0) -> str:
    return script({"say": text, "delay_ms": delay_ms})


async def make(owner: Actor, template: str, config: dict[str, Any], **fields: Any) -> None:
    body = {"slug": "stepper", "name": "Stepper", "template": template, "model": "scripted/default", "config": config}
    await activate(owner, {**body, **fields})


async def ask(owner: Actor, text: str = "go", **fields: Any) -> dict[str, Any]:
    response = await chat(owner, user(text), model="stepper", **fields)
    body: dict[str, Any] = orjson.loads(response.content)
    assert response.status_code == 200, body
    return body


def content(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])


async def events() -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) async for event in RunEvent.objects.order_by("seq")]


async def steps_told() -> list[tuple[str, str]]:
    """Which steps began, ended and came how far."""
    told = []
    for type, data in await events():
        if type.startswith("STEP_"):
            told.append((type, data["stepName"]))
        elif type == "CUSTOM" and data["name"].endswith("_progress"):
            value = data["value"]
            told.append((f"{value['status']} {value['done']}/{value['total']}", value["step"]))
    return told


TIME = {"tool": "current_time", "args": {"timezone": "Europe/Zurich"}}
WORKFLOW = {
    "steps": [
        {"name": "draft", "prompt": script(TIME, {"say": "yes"})},
        {"name": "praise", "prompt": "Praise {{ steps.draft.output }}", "when": "steps.draft.output == 'no'"},
        {"name": "final", "prompt": "{{ input }}: {{ steps.draft.output }}{{ steps.praise.output }}"},
    ]
}


async def test_a_workflow_runs_its_steps_in_order(owner: Actor, scripted: str, in_acme: Tenant, sealed: Any) -> None:
    await make(owner, "workflow", WORKFLOW, toolsets=["time"])
    body = await ask(owner, metadata={"session_id": "s"})
    assert content(body) == "You said: go: yes"
    assert await steps_told() == [
        ("STEP_STARTED", "draft"),
        ("running 0/3", "draft"),
        ("STEP_FINISHED", "draft"),
        ("ok 1/3", "draft"),
        ("STEP_STARTED", "praise"),
        ("running 1/3", "praise"),
        ("STEP_FINISHED", "praise"),
        ("skipped 2/3", "praise"),
        ("STEP_STARTED", "final"),
        ("running 2/3", "final"),
        ("STEP_FINISHED", "final"),
        ("ok 3/3", "final"),
    ]
    said = [(message.role, message.content) async for message in Message.objects.order_by("seq")]
    assert [role for role, _ in said] == ["user", "assistant", "tool", "assistant", "assistant"]
    assert [text for role, text in said if role != "tool"] == ["go", None, "yes", "You said: go: yes"]
    run = await Run.objects.aget()
    assert body["usage"]["completion_tokens"] == run.completion_tokens == 5
    replay = await sealed(in_acme, str(run.id))
    assert (replay.difference(), replay.unknown) == ([], [])


def step(name: str, instruction: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "instruction": instruction, "depends_on": list(depends_on), **fields}


PROFILE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


async def test_a_task_tells_the_result_of_each_step(owner: Actor, scripted: str, in_acme: Tenant, sealed: Any) -> None:
    steps = [
        step("age", script({"json": {"age": 7}}), output_schema=PROFILE),
        step("look", script(TIME, {"say": "late"}), "age"),
    ]
    await make(owner, "task", {"steps": steps, "outputFormat": "json"}, toolsets=["time"])
    document = orjson.loads(content(await ask(owner)))
    assert document["status"] == "ok"
    assert [{**each, "ms": 0} for each in document["steps"]] == [
        {"name": "age", "status": "ok", "output": {"age": 7}, "attempts": 1, "ms": 0, "error": None},
        {"name": "look", "status": "ok", "output": "late", "attempts": 1, "ms": 0, "error": None},
    ]
    assert all(isinstance(each["ms"], int) for each in document["steps"])
    assert await steps_told() == [
        ("STEP_STARTED", "age"),
        ("running 0/2", "age"),
        ("STEP_FINISHED", "age"),
        ("ok 1/2", "age"),
        ("STEP_STARTED", "look"),
        ("running 1/2", "look"),
        ("STEP_FINISHED", "look"),
        ("ok 2/2", "look"),
    ]
    replay = await sealed(in_acme, str((await Run.objects.aget()).id))
    assert (replay.difference(), replay.unknown) == ([], [])


async def test_independent_steps_of_a_task_run_at_once(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any
) -> None:
    """ "second" follows "quick" while "slow" goes on: it does not wait for what it does not need."""
    steps = [
        step("slow", say("one two three", 300)),
        step("quick", say("a", 100)),
        step("second", say("b", 100), "quick"),
        step("other", say("four five six", 300)),
    ]
    config = {"steps": steps, "outputFormat": "markdown", "parallelExecution": True}
    await make(owner, "task", config)
    body = await ask(owner)
    sections = ["## slow\n\none two three", "## quick\n\na", "## second\n\nb", "## other\n\nfour five six"]
    assert content(body) == "\n\n".join(sections)
    told = [each for each in await steps_told() if each[0].startswith("STEP_")]
    assert told[:3] == [("STEP_STARTED", "slow"), ("STEP_STARTED", "quick"), ("STEP_STARTED", "other")]
    assert told[3:6] == [("STEP_FINISHED", "quick"), ("STEP_STARTED", "second"), ("STEP_FINISHED", "second")]
    replay = await sealed(in_acme, str((await Run.objects.aget()).id))
    assert (replay.difference(), replay.unknown) == ([], [])


FAILING = [
    step("good", say("fine")),
    step("bad", script({"say": "half"}, {"fail": "cut"})),
    step("after", say("never"), "bad"),
    step("last", say("end"), "good"),
]


@pytest.mark.parametrize("parallel", [False, True])
async def test_without_strict_mode_the_others_go_on_and_the_answer_says_what_failed(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch, parallel: bool
) -> None:
    monkeypatch.setattr("templates_app.kinds.task.template.PAUSE", 0.01)
    config = {"steps": FAILING, "strictMode": False, "retryCount": 1, "parallelExecution": parallel}
    await make(owner, "task", {**config, "outputFormat": "json"})
    document = orjson.loads(content(await ask(owner)))
    found = {each["name"]: each for each in document["steps"]}
    assert document["status"] == "partial"
    assert {name: each["status"] for name, each in found.items()} == {
        "good": "ok",
        "bad": "failed",
        "after": "skipped",
        "last": "ok",
    }
    assert (found["bad"]["attempts"], found["bad"]["error"]["code"]) == (2, "provider_stream_truncated")
    assert found["after"]["error"] == {"code": "dependency_failed", "message": "It needs the result of bad."}
    failures = [data["value"] for _, data in await events() if data.get("name") == "step_failed"]
    assert [(each["step"], each["attempt"], each["again"]) for each in failures] == [
        ("bad", 1, True),
        ("bad", 2, False),
    ]
    said = [message.content async for message in Message.objects.order_by("seq")]
    assert "half" not in said
    replay = await sealed(in_acme, str((await Run.objects.aget()).id))
    assert (replay.difference(), replay.unknown) == ([], [])


async def test_in_strict_mode_the_first_failure_ends_the_run(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any
) -> None:
    await make(owner, "task", {"steps": FAILING, "retryCount": 0, "parallelExecution": True})
    response = await chat(owner, user("go"), model="stepper")
    error = orjson.loads(response.content)["error"]
    assert (response.status_code, error["code"]) == (502, "step_failed")
    assert error["message"].startswith("The step 'bad' failed: ")
    assert error["details"][0]["path"] == "steps.bad"
    assert error["details"][0]["code"] == "provider_stream_truncated"
    run = await Run.objects.aget()
    assert (run.status, run.error_code) == ("failed", "step_failed")
    replay = await sealed(in_acme, str(run.id))
    assert (replay.difference(), replay.unknown) == ([], [])
