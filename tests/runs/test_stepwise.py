"""Agents that work in steps, on the scripted model: what callers, sessions and the log get of them."""

import asyncio
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async

from core.deadline import deadline
from runs import runner
from runs.models import Run, RunEvent
from runs.services.turns import TurnRequest
from sessions_app.models import Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_approvals import asked, ended, resume, says
from tests.runs.test_chat_completions import chat, chunks, user
from tests.runs.test_lost_runs import _long_lived_database, lose, until
from tests.runs.test_replay import WEATHER, sealed
from tests.runs.test_runs import activate
from tests.toolsets.vault import DONE, vault
from toolsets.services import toolset_create, toolset_update

__all__ = ["_long_lived_database", "sealed", "vault"]
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
    await make(owner, "task", {"steps": FAILING[:3], "retryCount": 0, "parallelExecution": True})
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


def hasten(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A config has no time for a step below 10 s."""
    monkeypatch.setattr("templates_app.kinds.task.template.deadline", lambda _: deadline(seconds))
    monkeypatch.setattr("templates_app.kinds.task.template.PAUSE", 0.01)


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_step_that_takes_too_long_is_tried_again(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch, parallel: bool
) -> None:
    hasten(monkeypatch, 1)
    steps = [step("slow", script({"say": "half an"}, {"fail": "hang"})), step("mute", script({"fail": "hang"}))]
    config = {"steps": [*steps, step("good", say("fine"))], "strictMode": False, "retryCount": 1}
    await make(owner, "task", {**config, "parallelExecution": parallel})
    text = content(await ask(owner))
    assert text.startswith("fine\n\nNot all steps were done:\n- slow: failed (2 attempts), step_timeout: ")
    assert "- mute: failed (2 attempts), step_timeout: " in text
    told = [data for _, data in await events() if data.get("name") == "step_failed"]
    assert [len(data["metadata"]["cut"]) for data in told] == [1, 1, 1, 1]
    replay = await sealed(in_acme, str((await Run.objects.aget()).id))
    assert (replay.difference(), replay.unknown) == ([], [])


async def test_a_result_that_does_not_satisfy_its_schema_is_asked_for_again(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, 30)
    steps = [step("age", script(TIME, {"json": {"age": "seven"}}), output_schema=PROFILE)]
    config = {"steps": steps, "strictMode": False, "retryCount": 1, "outputFormat": "markdown"}
    await make(owner, "task", config, toolsets=["time"])
    text = content(await ask(owner))
    assert text.startswith("## age\n\n**Not done**: failed (2 attempts), invalid_output: ")
    assert "$.age" in text
    assert sum(type == "TOOL_CALL_RESULT" for type, _ in await events()) == 1  # a retry goes on after the tools
    replay = await sealed(in_acme, str((await Run.objects.aget()).id))
    assert (replay.difference(), replay.unknown) == ([], [])


async def test_a_step_that_waits_for_a_person_has_time(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, vault: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, 1)
    await sync_to_async(toolset_create)(actor=owner.principal, slug="safe", name="Safe", kind="vault")
    steps = [
        step("send", script({"tool": "ask", "args": {"name": "a"}}, {"say": "sent"})),
        step("other", say("fine")),
        step("refused", script({"tool": "put", "args": {"name": "b"}}, {"say": "no"}), tools=["ask"]),
    ]
    config = {"steps": steps, "parallelExecution": True, "retryCount": 0, "outputFormat": "markdown"}
    await make(owner, "task", config, toolsets=["safe"])
    request = TurnRequest(model="stepper", messages=user("go"), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=request)
    (approval,) = await asked(owner)
    await asyncio.sleep(1.5)
    assert (await resume(owner, run, says(approval))).status_code == 200
    await ended(run)
    assert (run.status, run.error_code, DONE) == ("succeeded", "", ["a"])
    answer = [message.content async for message in Message.objects.order_by("seq")][-1]
    assert answer == "## send\n\nsent\n\n## other\n\nfine\n\n## refused\n\nno"
    replay = await sealed(in_acme, str(run.id))
    assert (replay.difference(), replay.unknown) == ([], [])


async def test_openais_clients_are_streamed_the_answer_and_not_the_steps(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    await make(owner, "workflow", WORKFLOW, toolsets=["time"])
    found = await chunks(await chat(owner, user("go"), model="stepper", stream=True))
    deltas = [chunk["choices"][0]["delta"].get("content") for chunk in found]
    assert "".join(delta or "" for delta in deltas) == "You said: go: yes"


SKIPPED = "## praise\n\nSkipped: its condition did not hold."
ALL = f"## draft\n\nyes\n\n{SKIPPED}\n\n## final\n\nYou said: go: yes"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"output": "all"}, ALL),
        (
            {"output": "template", "output_template": "{{ steps.praise.status }} {{ steps.draft.output }}"},
            "skipped yes",
        ),
    ],
)
async def test_a_workflow_answers_as_its_config_says(
    owner: Actor, scripted: str, in_acme: Tenant, output: dict[str, str], expected: str
) -> None:
    await make(owner, "workflow", {**WORKFLOW, **output}, toolsets=["time"])
    assert content(await ask(owner)) == expected


async def test_when_the_last_step_is_skipped_the_one_before_answers(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    steps = [{"name": "a", "prompt": say("only this")}, {"name": "b", "prompt": "b", "when": "metadata.more == 'yes'"}]
    await make(owner, "workflow", {"steps": steps})
    assert content(await ask(owner)) == "only this"
    assert content(await ask(owner, metadata={"more": "yes"})) == "You said: b"


async def test_a_workflow_fails_as_its_model_does(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = [{"name": "a", "prompt": script({"fail": "cut"})}, {"name": "b", "prompt": "b"}]
    await make(owner, "workflow", {"steps": steps})
    response = await chat(owner, user("go"), model="stepper")
    error = orjson.loads(response.content)["error"]
    assert error["code"] == "provider_stream_truncated"
    assert error["message"].startswith("The step 'a' failed: ")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tools": [WEATHER]}, "client_tools_unsupported"),
        ({"response_format": {"type": "json_object"}}, "response_format_unsupported"),
    ],
)
@pytest.mark.parametrize("template", ["workflow", "task"])
async def test_what_the_steps_could_not_use_is_refused(
    owner: Actor, scripted: str, in_acme: Tenant, template: str, fields: dict[str, Any], code: str
) -> None:
    steps = [{"name": "a", "prompt" if template == "workflow" else "instruction": "Go."}]
    await make(owner, template, {"steps": steps})
    response = await chat(owner, user("go"), model="stepper", **fields)
    assert (response.status_code, orjson.loads(response.content)["error"]["code"]) == (400, code)


async def test_a_tool_that_is_not_granted_is_told(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    body = {"slug": "x", "name": "X", "template": "task", "model": "scripted/default", "toolsets": ["time"]}
    refused = await owner.apost("agents", {**body, "config": {"steps": [step("a", "Go.", tools=["fly"])]}})
    (fault,) = orjson.loads(refused.content)["error"]["details"]
    assert (fault["path"], fault["code"]) == ("config.steps.0.tools.0", "tool_not_granted")
    config = {"steps": [step("a", "Go.", "a", tools=["fly", 5])], "retryCount": 9}
    refused = await owner.apost("agents", {**body, "config": config})
    assert {fault["path"] for fault in orjson.loads(refused.content)["error"]["details"]} == {
        "config.steps.0.tools.0",
        "config.steps.0.tools.1",
        "config.steps.0.depends_on.0",
        "config.retryCount",
    }
    await make(owner, "task", {"steps": [step("a", "Go.", tools=["current_time"])]}, toolsets=["time"])
    policy = {"only": ["add_duration"]}
    await sync_to_async(toolset_update)(actor=owner.principal, ref="time", changes={"policy": policy})
    response = await chat(owner, user("go"), model="stepper")
    assert orjson.loads(response.content)["error"]["code"] == "tool_not_granted"


async def test_a_cancel_stops_all_steps(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = [step("a", script({"say": "half an"}, {"fail": "hang"})), step("b", script({"fail": "hang"}))]
    await make(owner, "task", {"steps": steps, "parallelExecution": True})
    request = TurnRequest(model="stepper", messages=user("go"), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=request)
    await until(RunEvent.objects.filter(type="TEXT_MESSAGE_CONTENT").aexists)
    stopped = (await owner.apost(f"runs/{run.id}/cancel", None)).json()
    assert (stopped["status"], stopped["error"]["code"]) == ("cancelled", "run_cancelled")


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_lost_task_is_told_whole_and_replays_the_same(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, vault: None, parallel: bool
) -> None:
    await sync_to_async(toolset_create)(actor=owner.principal, slug="safe", name="Safe", kind="vault")
    put = {"tool": "put", "args": {"name": "a"}}
    steps = [
        step("slow", script({"say": "s"}, {"say": "low", "delay_ms": 1500})) if parallel else step("first", say("1")),
        step("quick", script(put, {"say": "quick"})),
        step("next", script({"say": "n"}, {"say": "ext", "delay_ms": 1500}), "quick"),
    ]
    config = {"steps": steps, "parallelExecution": parallel, "outputFormat": "markdown"}
    await make(owner, "task", config, toolsets=["safe"])
    request = TurnRequest(model="stepper", messages=user("go"), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=request)
    await until(RunEvent.objects.filter(type="STEP_STARTED", data__stepName="next").aexists)
    await asyncio.sleep(0.1)
    await lose(run.id)
    task = await runner.take_over(tenant_id=in_acme.id, run_id=run.id)
    assert task is not None
    await runner.finished(task)
    await run.arefresh_from_db()
    assert (run.status, run.attempt, DONE) == ("succeeded", 2, ["a"])
    said = [message.content async for message in Message.objects.order_by("seq")]
    first = "s low" if parallel else "1"
    name = "slow" if parallel else "first"
    assert said[-1] == f"## {name}\n\n{first}\n\n## quick\n\nquick\n\n## next\n\nn ext"
    assert sorted(text for text in said[1:-1] if text) == sorted([first, "put a", "quick", "n ext"])
    replay = await sealed(in_acme, str(run.id))
    assert (replay.difference(), replay.unknown) == ([], [])
