"""`manage.py replay`: a stored run again, from its own record, without a model, a tool or a write."""

import asyncio
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.management import CommandError, call_command

from agents.services import agent_create
from core.tenant import current_tenant, tenant_context
from llm import targets
from llm.services.providers import provider_create
from llm.wire import ChatRequest, Delta, ToolCallDelta
from runs.events import Event, attempt_restarted, make_event
from runs.exceptions import EventsExpired, NotReplayable
from runs.models import Run, RunEvent
from runs.recording import Recording, comparable, timeline
from runs.replay import RecordedAdapter, Replay, run_replay
from runs.services.compact import run_compact
from runs.sink import RunSink
from templates_app.events import Answer
from templates_app.kinds.conversation.template import ConversationTemplate
from tenants.models import Tenant
from tenants.principal import system_principal
from tests.agents.graphs import CREATE_AGENT, STATE_GRAPH
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_odd_answers import stream
from tests.runs.test_runs import PARALLEL, activate
from toolsets.models import Toolset
from toolsets.toolbox import Toolbox

pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
TIME = {"tool": "current_time", "args": {"timezone": "Europe/Zurich"}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def rows() -> dict[str, int]:
    return {model._meta.label: model._default_manager.count() for model in apps.get_models() if model._meta.managed}


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replays while every provider and tool would raise, and asserts that nothing was written."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a replay asks nobody")

    def play(tenant: Tenant, run_id: str) -> Replay:
        before = rows()
        with monkeypatch.context() as patched, tenant_context(tenant.id):
            patched.setattr(targets, "provider_kind", refuse)
            patched.setattr("toolsets.toolbox.parse_arguments", refuse)
            replay = run_replay(tenant_id=tenant.id, run_id=UUID(run_id))
        assert rows() == before
        return replay

    return sync_to_async(play, thread_sensitive=True)


CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "text": (user("hello there"), {}, "    You said: hello there"),
    "server tool": (script(TIME, {"say": "It is late."}), {}, "    It is late."),
    "two tools": (script(TIME, {"tool": "current_time", "args": {}}, {"say": "Late."}), {}, "    Late."),
    "wrong call": (script({"tool": "current_time", "args": {"zone": 1}}, {"say": "Oh."}), {}, "    Oh."),
    "unknown tool": (script({"tool": "fly", "args": {}}, {"say": "Oh."}), {}, "    Oh."),
    "client tool": (script({"tool": "weather", "args": {"city": "Bern"}}), {"tools": [WEATHER]}, '    {"city":"Bern"}'),
    "nothing said": (script({"say": ""}), {}, "CUSTOM name=empty_answer value=stop"),
    "bare model": (user("hello there"), {"model": "scripted/default"}, "    You said: hello there"),
    "bare model with tools": (
        script({"tool": "weather", "args": {}}),
        {"model": "scripted/default", "tools": [WEATHER]},
        "RUN_FINISHED",
    ),
    "length": (script({"say": "one two three"}), {"max_tokens": 2}, "    one two"),
    "broken off": (script({"say": "half an"}, {"fail": "cut"}), {}, "    half an"),
    "broken off after a tool": (script(TIME, {"say": "half an"}, {"fail": "cut"}), {}, "    half an"),
    "failed at once": (script({"fail": 429, "retry_after": 9999}), {}, "RUN_ERROR"),
    "failed after a tool": (script(TIME, {"fail": 429, "retry_after": 9999}), {}, "RUN_ERROR"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compacted", [False, True], ids=["whole", "compacted"])
async def test_a_run_replays_to_the_same(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, case: str, compacted: bool
) -> None:
    asked, fields, expected = CASES[case]
    await chat(owner, asked, **fields)
    run = await Run.objects.aget()
    if compacted:
        await sync_to_async(run_compact)(tenant_id=in_acme.id, run_id=run.id)
    replay = await sealed(in_acme, str(run.id))
    assert (replay.difference(), replay.unknown) == ([], [])
    assert replay.is_identical
    assert any(line.startswith(expected) for line in replay.replayed)


async def test_a_run_sees_its_session_as_it_was_then(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = {"session_id": "s"}
    for text in ("one", "two", "three"):
        await chat(owner, user(text), metadata=session)
    seen: list[Any] = []
    real = RecordedAdapter.stream

    def note(self: RecordedAdapter, request: ChatRequest) -> Any:
        seen.extend(message["content"] for message in request.messages)
        return real(self, request)

    monkeypatch.setattr(RecordedAdapter, "stream", note)
    second = [run async for run in Run.objects.order_by("created_at")][1]
    assert (await sealed(in_acme, str(second.id))).is_identical
    assert seen == ["Help.", "one", "You said: one", "two"]


async def test_a_cancelled_run_replays_to_what_was_said(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any
) -> None:
    response = await chat(owner, script({"say": "half an"}, {"fail": "hang"}), stream=True)
    await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)
    await frames(response)
    replay = await sealed(in_acme, response["X-Run-Id"])
    assert replay.is_identical
    assert replay.replayed[-2:] == ["    half an", "RUN_ERROR code=run_cancelled message=The run was cancelled."]


async def test_a_run_that_was_cancelled_while_a_tool_ran(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.sleep(60)

    with monkeypatch.context() as patched:
        patched.setattr(Toolbox, "_made", hang)
        response = await chat(owner, script(TIME, {"say": "Late."}), stream=True)
        await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)
        await frames(response)
    replay = await sealed(in_acme, response["X-Run-Id"])
    assert replay.is_identical
    assert replay.replayed[-1].startswith("RUN_ERROR code=run_cancelled")


TEMPLATES = {
    "shout": (STATE_GRAPH, "shout", user("hi"), "    YOU SAID: HI!"),
    "both": (PARALLEL, "both", user("go"), "    l l l"),
    "both, the second first": (
        PARALLEL.replace('"times": 20, "delay_ms": 2', '"times": 5, "delay_ms": 20', 1),
        "both",
        user("go"),
        "    r r",
    ),
    "worker": (CREATE_AGENT, "worker", script(TIME, {"say": "Late."}), "    Late."),
    "failing graph": (CREATE_AGENT, "worker", script(TIME, {"say": "La"}, {"fail": "cut"}), "    La"),
    "endless graph": (STATE_GRAPH, "endless", user("hi"), "RUN_ERROR"),
}


@pytest.mark.parametrize("case", TEMPLATES)
async def test_a_graph_replays_to_the_same(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, add_template: Any, case: str
) -> None:
    source, template, asked, expected = TEMPLATES[case]
    add_template("authors", source)
    fields = {"slug": "graph", "name": "Graph", "template": template, "model": "scripted/default", "toolsets": ["time"]}
    await activate(owner, fields)
    for compacted in (False, True):
        response = await chat(owner, asked, model="graph", stream=True)
        await frames(response)
        if compacted:
            await sync_to_async(run_compact)(tenant_id=in_acme.id, run_id=UUID(response["X-Run-Id"]))
        replay = await sealed(in_acme, response["X-Run-Id"])
        assert (replay.difference(), replay.unknown) == ([], [])
        assert any(line.startswith(expected) for line in replay.replayed)


async def test_a_cancelled_graph_replays_to_what_was_said(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, add_template: Any
) -> None:
    add_template("authors", PARALLEL.replace('"times": 20', '"times": 2000'))
    await activate(owner, {"slug": "graph", "name": "Graph", "template": "both", "model": "scripted/default"})
    response = await chat(owner, user("go"), model="graph", stream=True)
    await asyncio.sleep(0.1)
    await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)
    await frames(response)
    replay = await sealed(in_acme, response["X-Run-Id"])
    assert replay.difference() == []
    assert sum(line.startswith(("    l l", "    r r")) for line in replay.replayed) == 2


async def test_a_changed_template_shows_what_it_says_now(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, add_template: Any
) -> None:
    add_template("authors", STATE_GRAPH)
    fields = {"slug": "graph", "name": "Graph", "template": "shout", "model": "scripted/default"}
    await activate(owner, fields)
    response = await chat(owner, user("hi"), model="graph")
    add_template("authors", STATE_GRAPH.replace(".upper()", ".title()"))
    difference = (await sealed(in_acme, response["X-Run-Id"])).difference()
    changed = [line for line in difference[2:] if line[0] in "+-"]
    assert changed == ["-    YOU SAID: HI!", "+    You Said: Hi!"]


async def test_a_template_that_asks_more_is_told(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = (await chat(owner, script(TIME, {"say": "Late."})))["X-Run-Id"]
    real = ConversationTemplate.run

    async def twice(self: Any, context: Any) -> Any:
        async for event in real(self, context):
            await context.model.reply(context.messages)
            yield event

    async def call(self: Any, context: Any) -> Any:
        await context.tools.call({"id": "other", "function": {"name": "current_time", "arguments": "{}"}})
        async for event in real(self, context):
            yield event

    monkeypatch.setattr(ConversationTemplate, "run", twice)
    replay = await sealed(in_acme, run_id)
    assert (replay.is_identical, replay.unknown) == (False, ["The model was asked once more than was recorded."])
    monkeypatch.setattr(ConversationTemplate, "run", call)
    assert "'current_time' was called" in (await sealed(in_acme, run_id)).unknown[0]


async def test_a_mended_template_is_not_held_to_its_failure(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Any, context: Any) -> Any:
        await context.model.reply(context.messages)
        raise RuntimeError("a fault")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(ConversationTemplate, "run", broken)
        await chat(owner, user("hi"))
        run_id = str((await Run.objects.aget()).id)
        assert (await sealed(in_acme, run_id)).is_identical
    difference = (await sealed(in_acme, run_id)).difference()
    assert any(line.startswith("-RUN_ERROR") for line in difference)
    assert any(line.startswith("+RUN_FINISHED") for line in difference)


async def test_a_tool_that_the_agent_no_longer_has(owner: Actor, scripted: str, in_acme: Tenant, sealed: Any) -> None:
    run_id = (await chat(owner, script(TIME, {"say": "Late."})))["X-Run-Id"]
    await Toolset.objects.all().aupdate(enabled=False)
    assert (await sealed(in_acme, run_id)).is_identical


async def test_what_cannot_be_replayed(owner: Actor, scripted: str, in_acme: Tenant, sealed: Any) -> None:
    run_id = (await chat(owner, user("hi")))["X-Run-Id"]
    run = await Run.objects.aget()
    await Run.objects.all().aupdate(status="running", finished_at=None)
    with pytest.raises(NotReplayable, match="not finished: its status is running"):
        await sealed(in_acme, run_id)
    await Run.objects.all().aupdate(status="cancelled", finished_at=run.finished_at, started_at=None)
    with pytest.raises(NotReplayable, match="before it began"):
        await sealed(in_acme, run_id)
    await Run.objects.all().aupdate(status="succeeded", started_at=run.started_at, agent_version=None)
    with pytest.raises(NotReplayable, match="agent version"):
        await sealed(in_acme, run_id)
    await RunEvent.objects.all().adelete()
    with pytest.raises(EventsExpired, match="no longer kept"):
        await sealed(in_acme, run_id)


async def test_a_template_that_is_gone_is_told(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any, add_template: Any
) -> None:
    add_template("authors", STATE_GRAPH)
    await activate(owner, {"slug": "graph", "name": "Graph", "template": "shout", "model": "scripted/default"})
    run_id = (await chat(owner, user("hi"), model="graph"))["X-Run-Id"]
    add_template("authors", "")
    assert "code=agent_unusable" in (await sealed(in_acme, run_id)).replayed[-1]


async def test_what_a_user_said_meanwhile_is_heard_again(
    owner: Actor, scripted: str, in_acme: Tenant, sealed: Any
) -> None:
    session = {"session_id": "s", "when_busy": "steer"}
    slow = script({"repeat": "word", "times": 20, "delay_ms": 20})
    first = await chat(owner, slow, stream=True, metadata=session)
    second = asyncio.create_task(chat(owner, user("also this"), metadata=session))
    await frames(first)
    heard_by = await sealed(in_acme, first["X-Run-Id"])
    assert heard_by.is_identical
    assert any("name=heard" in line for line in heard_by.replayed)
    with pytest.raises(NotReplayable, match=first["X-Run-Id"]):
        await sealed(in_acme, (await second)["X-Run-Id"])


async def told(*deltas: Delta, ended: str = "stop") -> list[Event]:
    """What the sink makes of one answer."""
    published = stream()
    published.publish("RUN_STARTED", threadId="t", runId="r")
    reply = RunSink(published).open_reply(ChatRequest("m", []))
    for delta in deltas:
        await reply(delta)
    published.publish("RUN_FINISHED", threadId="t", runId="r", result={"finishReason": ended})
    return published.take()


async def test_every_kind_of_answer_is_rebuilt() -> None:
    first, second = ToolCallDelta(0, "a", "one", '{"x":'), ToolCallDelta(1, "b", "two", "{}")
    said = await told(
        Delta(reasoning="Hm"),
        Delta(reasoning="m."),
        Delta(text="Look: "),
        Delta(refusal="No"),
        Delta(text="here."),
        Delta(tool_calls=[first, second]),
        Delta(tool_calls=[ToolCallDelta(0, arguments="1}")]),
        Delta(finish_reason="tool_calls"),
    )
    (answer,) = Recording(said).answers
    deltas = [delta for _, delta in answer.deltas()]
    assert deltas == [
        Delta(reasoning="Hmm."),
        Delta(text="Look: here."),
        Delta(refusal="No"),
        Delta(tool_calls=[ToolCallDelta(0, "a", "one", '{"x":1}')]),
        Delta(tool_calls=[ToolCallDelta(1, "b", "two", "{}")]),
    ]
    assert timeline(await told(*deltas, Delta(finish_reason="tool_calls"))) == timeline(said)


async def test_answers_without_words_are_rebuilt() -> None:
    (refused,) = Recording(
        await told(Delta(refusal="No."), Delta(finish_reason="content_filter"), ended="length")
    ).answers
    assert ([delta.refusal for _, delta in refused.deltas()], refused.finish_reason) == (["No."], "length")
    (empty,) = Recording(await told(Delta(finish_reason="length"))).answers
    assert (empty.deltas(), empty.finish_reason) == ([], "length")


async def test_what_a_lost_attempt_said_does_not_count() -> None:
    started, *rest = await told(Delta(text="whole"), Delta(finish_reason="stop"))
    lost = (await told(Delta(text="ha")))[1:-1]
    restarted = make_event(len(lost) + 2, "CUSTOM", attempt_restarted(2, keep=1))
    events = [started, *lost, restarted]
    events += [make_event(restarted.seq + place, one.type, one.fields) for place, one in enumerate(rest, start=1)]
    assert timeline(comparable(events)) == timeline([started, *rest])
    assert Recording(events).answers == Recording([started, *rest]).answers


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command("replay", *arguments, stdout=out)
    return out.getvalue()


command = sync_to_async(run_command, thread_sensitive=True)


@committed
async def test_the_command(owner: Actor, scripted: str, globex: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = (await chat(owner, user("hi")))["X-Run-Id"]
    assert (await command(run_id, "--tenant", "acme")).splitlines() == [
        f"run {run_id}: succeeded",
        "identical",
        "tokens 0 (the run used 5)",
    ]
    for arguments in ((run_id, "--tenant", "globex"), ("no-id",), (str(globex.id),)):
        with pytest.raises(CommandError, match="No run") as caught:
            await command(*arguments)
        assert caught.value.returncode == 2
    with monkeypatch.context() as patched:
        patched.setattr(ConversationTemplate, "run", _otherwise)
        with pytest.raises(SystemExit) as exit:
            await command(run_id)
    assert exit.value.code == 1


async def _otherwise(self: Any, context: Any) -> Any:
    yield Answer({"role": "assistant", "content": "Something else."}, "stop")


@committed
async def test_the_command_says_what_differs_and_why_a_run_ended(
    owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = await chat(owner, script({"say": "half an"}, {"fail": "cut"}), stream=True)
    await frames(broken)
    run_id = broken["X-Run-Id"]
    lines = (await command(run_id)).splitlines()
    assert lines[1:3] == ["It ended with provider_stream_truncated: it is replayed as far as it went.", "identical"]
    monkeypatch.setattr(ConversationTemplate, "run", _otherwise)
    with pytest.raises(SystemExit):
        await sync_to_async(call_command, thread_sensitive=True)("replay", run_id)
    printed = capsys.readouterr().out.splitlines()
    assert {"--- recorded", "+++ replayed", "-    half an", "+    Something else."} <= set(printed)
    assert "identical" not in printed


@committed
async def test_the_command_works_in_the_tenant_of_the_run(scripted: str, stranger: Actor, globex: Tenant) -> None:
    """The same names in acme do not matter."""
    await sync_to_async(_agent_of)(globex)
    response = await chat(stranger, script({"say": "globex"}))
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("runs.replay.granted_toolsets", lambda **given: seen.append((current_tenant(), given)) or [])
        assert "identical" in await command(response["X-Run-Id"])
    assert [(tenant_id, given["actor"].tenant_id) for tenant_id, given in seen] == [(globex.id, globex.id)]


def _agent_of(tenant: Tenant) -> None:
    actor = system_principal(tenant.id, tenant.slug)
    with tenant_context(tenant.id):
        provider_create(actor=actor, slug="scripted", kind="scripted")
        agent_create(
            actor=actor,
            slug="helper",
            name="Helper",
            template="conversation",
            model="scripted/default",
            status="active",
        )
