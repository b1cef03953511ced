"""OpenAI chat completions: agents and bare models, whole and streamed, in sessions."""

from typing import Any
from urllib.parse import quote, unquote

import orjson
import pytest
from asgiref.sync import sync_to_async

from audit.models import AuditEvent
from runs.events import make_event, run_finished
from runs.models import Run, RunEvent
from runs.openai_chat import usage_of
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tests.conftest import Actor, make_actor
from usage.prices import Tokens

pytestmark = pytest.mark.django_db


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def script(*steps: Any) -> list[dict[str, Any]]:
    return user("#script " + orjson.dumps(list(steps)).decode())


async def chat(actor: Actor, messages: Any, model: str = "helper", **fields: Any) -> Any:
    return await actor.apost("chat/completions", {"model": model, "messages": messages, **fields})


async def frames(response: Any) -> list[str]:
    assert response["Content-Type"] == "text/event-stream", response.content
    body = b"".join([chunk async for chunk in response.streaming_content]).decode()
    return [frame for frame in body.split("\n\n") if frame and not frame.startswith(":")]


async def chunks(response: Any) -> list[dict[str, Any]]:
    found = await frames(response)
    assert found.pop() == "data: [DONE]"
    return [orjson.loads(frame.removeprefix("data: ")) for frame in found]


@sync_to_async
def stored() -> dict[str, Any]:
    run = Run.objects.select_related("agent_version__agent").get()
    return {
        "run": run,
        "messages": list(Message.objects.order_by("seq")),
        "events": list(RunEvent.objects.order_by("seq")),
        "audit": set(AuditEvent.objects.values_list("action", flat=True)),
    }


async def test_an_agent_answers_and_everything_is_stored(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await chat(owner, user("hello there"), metadata={"user_id": "u1"})
    body = orjson.loads(response.content)
    assert response.status_code == 200, body
    assert body["object"] == "chat.completion"
    assert body["model"] == "helper"
    assert body["choices"][0]["message"]["content"] == "You said: hello there"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 4
    assert body["metadata"] == {"session_id": response["X-Session-Id"], "run_id": response["X-Run-Id"]}
    found = await stored()
    run = found["run"]
    assert (run.status, run.completion_tokens, run.end_user) == ("succeeded", 4, "u1")
    assert [(m.seq, m.role, m.content) for m in found["messages"]] == [
        (1, "user", "hello there"),
        (2, "assistant", "You said: hello there"),
    ]
    assert found["messages"][1].agent_version_id == run.agent_version_id
    assert [event.seq for event in found["events"]] == list(range(1, run.last_seq + 1))
    assert {"run.create", "session.create", "run.finish"} <= found["audit"]


async def test_a_streamed_answer_has_openais_grammar(owner: Actor, scripted: str) -> None:
    response = await chat(owner, user("hello there"), stream=True, stream_options={"include_usage": True})
    assert response["Cache-Control"] == "no-cache"
    assert response["X-Accel-Buffering"] == "no"
    found = await chunks(response)
    assert len({chunk["id"] for chunk in found}) == 1
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    *spoken, last, usage = found
    assert spoken[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in spoken[1:])
    text = [chunk["choices"][0]["delta"]["content"] for chunk in spoken]
    assert "".join(text) == "You said: hello there"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["metadata"]["run_id"] == response["X-Run-Id"]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 4)


async def test_a_session_remembers(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await chat(owner, user("one"), metadata={"session_id": "mine"})
    history = [*user("one"), {"role": "assistant", "content": "You said: one"}, *user("two")]
    second = await chat(owner, history, metadata={"session_id": "mine"})
    third = await chat(owner, user("three"), metadata={"session_id": "mine"})
    assert {r["X-Session-Id"] for r in (first, second, third)} == {"mine"}

    def said() -> list[str]:
        return [m.content for m in Message.objects.order_by("seq")]

    expected = ["one", "You said: one", "two", "You said: two", "three", "You said: three"]
    assert await sync_to_async(said)() == expected
    again = await chat(owner, history[:2], metadata={"session_id": "mine"})
    assert orjson.loads(again.content)["error"]["code"] == "no_new_message"
    listed = (await owner.aget("sessions/mine/messages")).json()["data"]
    assert [m["content"] for m in listed] == expected
    assert {m["agent_version"] for m in listed if m["role"] == "assistant"} == {1}
    assert (await owner.aget("sessions/mine")).json()["messages"] == 6


async def test_a_session_id_may_be_any_text(owner: Actor, scripted: str) -> None:
    for name in ("für Bärbel", "order/7 + 8"):
        response = await chat(owner, user("hi"), metadata={"session_id": name})
        assert orjson.loads(response.content)["metadata"]["session_id"] == name
        assert unquote(response["X-Session-Id"]) == name
    for path in (
        f"sessions/{quote(name)}",
        f"sessions/{quote(name, safe='')}/messages",
        f"sessions/{quote(name)}/runs",
    ):
        assert (await owner.aget(path)).status_code == 200, path


async def test_a_bare_model_is_passed_through(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await chat(owner, user("hi"), model="scripted/default")
    body = orjson.loads(response.content)
    assert body["choices"][0]["message"]["content"] == "You said: hi"
    assert "metadata" not in body
    assert "X-Session-Id" not in response
    assert not await ChatSession.objects.aexists()
    assert (await stored())["run"].status == "succeeded"
    refused = await chat(owner, user("hi"), model="scripted/default", metadata={"session_id": "s"})
    assert orjson.loads(refused.content)["error"]["code"] == "session_needs_agent"


async def test_the_agents_tool_runs_on_the_server(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script({"tool": "current_time", "args": {"timezone": "UTC"}}, {"say": "done"})
    body = orjson.loads((await chat(owner, steps)).content)
    assert body["choices"][0]["message"]["content"] == "done"
    assert "tool_calls" not in body["choices"][0]["message"]
    found = await stored()
    assert [m.role for m in found["messages"]] == ["user", "assistant", "tool", "assistant"]
    types = [event.type for event in found["events"]]
    for kind in ("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"):
        assert types.count(kind) == 1, types


async def test_words_before_and_after_a_tool_call_stay_apart(owner: Actor, scripted: str) -> None:
    steps = script({"say": "I look."}, {"tool": "current_time", "args": {"timezone": "UTC"}}, {"say": "Done."})
    body = orjson.loads((await chat(owner, steps)).content)
    assert body["choices"][0]["message"]["content"] == "I look.\n\nDone."
    streamed = await chunks(await chat(owner, steps, stream=True))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed)
    assert text == "I look.\n\nDone."


async def test_a_clients_tool_call_is_returned(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    steps = script({"tool": "weather", "args": {"city": "Bern"}}, {"say": "cold"})
    body = orjson.loads((await chat(owner, steps, tools=[tool], metadata={"session_id": "w"})).content)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], orjson.loads(call["function"]["arguments"])) == ("weather", {"city": "Bern"})
    result = {"role": "tool", "tool_call_id": call["id"], "content": "2 C"}
    after = await chat(owner, [result], tools=[tool], metadata={"session_id": "w"})
    assert orjson.loads(after.content)["choices"][0]["message"]["content"] == "cold"
    streamed = await chunks(await chat(owner, steps, tools=[tool], stream=True))
    calls = [c for chunk in streamed for c in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "weather"
    assert orjson.loads("".join(c["function"]["arguments"] for c in calls)) == {"city": "Bern"}


async def test_a_failure_before_the_first_word_is_a_status(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    for stream in (False, True):
        response = await chat(owner, script({"fail": 429, "retry_after": 60}), stream=stream)
        body = orjson.loads(response.content)["error"]
        assert (response.status_code, body["type"]) == (429, "rate_limit_error")
        assert response["Retry-After"] == "60"
        assert body["request_id"] == response["X-Request-Id"]
    runs = await sync_to_async(list)(Run.objects.values_list("status", "error_code"))
    assert set(runs) == {("failed", "provider_rate_limited")}


async def test_a_failure_after_the_first_word_is_an_error_event(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await chat(owner, script({"say": "half an"}, {"fail": "cut"}), stream=True)
    found = await frames(response)
    assert found[-1].startswith("event: error\ndata: ")
    assert orjson.loads(found[-1].split("data: ")[1])["error"]["code"] == "provider_stream_truncated"
    last = (await stored())["messages"][-1]
    assert (last.role, last.status, last.content.strip()) == ("assistant", "failed", "half an")


async def test_who_may(owner: Actor, viewer: Actor, stranger: Actor, scripted: str, in_acme: Tenant) -> None:
    done = await chat(owner, user("secret"), metadata={"session_id": "mine"})
    assert (await chat(viewer, user("x"))).status_code == 403
    foreign = await chat(stranger, user("x"))
    assert (foreign.status_code, orjson.loads(foreign.content)["error"]["code"]) == (404, "model_not_found")
    run = f"runs/{done['X-Run-Id']}"
    for path in (run, f"{run}/events", "sessions/mine", "sessions/mine/messages"):
        assert (await owner.aget(path)).status_code == (await viewer.aget(path)).status_code == 200, path
        assert (await stranger.aget(path)).status_code == 404, path
    assert (await viewer.apost(f"runs/{done['X-Run-Id']}/cancel", None)).status_code == 403
    assert (await stranger.apost(f"runs/{done['X-Run-Id']}/cancel", None)).status_code == 404
    chatter = await sync_to_async(make_actor)(in_acme, "member", scopes=["chat"])
    assert (await chat(chatter, user("hi"))).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 7}]}, None),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0"),
        ({"temperature": 3}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"session_id": "x" * 129}}, "metadata.session_id"),
        ({"metadata": {"session_id": "a\r\nX-Evil: 1"}}, "metadata.session_id"),
        ({"metadata": {"user_id": ""}}, "metadata.user_id"),
        ({"model": ""}, "model"),
    ],
)
async def test_bad_input_writes_nothing(
    owner: Actor, scripted: str, in_acme: Tenant, fields: dict[str, Any], param: str | None
) -> None:
    body = {"model": "helper", "messages": user("x"), **fields}
    response = await owner.apost("chat/completions", body)
    error = orjson.loads(response.content)["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["details"]
    assert param is None or error["param"] == param
    assert not await Run.objects.aexists()
    assert not await ChatSession.objects.aexists()


@pytest.mark.parametrize("model", ["nosuch", "nosuch/model", "scripted/nosuch", "a" * 255])
async def test_an_unknown_model(owner: Actor, scripted: str, model: str) -> None:
    response = await chat(owner, user("x"), model=model)
    assert (response.status_code, orjson.loads(response.content)["error"]["code"]) == (404, "model_not_found")


async def test_unknown_fields_are_ignored_as_openais_clients_expect(owner: Actor, scripted: str) -> None:
    assert (await chat(owner, user("x"), store=True, service_tier="auto")).status_code == 200


async def test_models_are_listed(owner: Actor, stranger: Actor, scripted: str) -> None:
    body = (await owner.aget("models")).json()
    assert [model["id"] for model in body["data"]] == ["helper", "scripted/default"]
    assert (await stranger.aget("models")).json()["data"] == []


def test_usage_has_what_was_cached_and_thought() -> None:
    tokens = Tokens(input=100, output=50, cached=20, reasoning=30)
    fields = run_finished("t", "r", finish_reason="stop", model="m", tokens=tokens)
    assert usage_of(make_event(1, "RUN_FINISHED", fields)) == {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
