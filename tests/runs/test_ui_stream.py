"""The AI SDK's UI message stream: its grammar, what the client's messages become, and how a stream goes on."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest

from core.ids import NIL
from runs.events import Event, attempt_restarted, custom, make_event
from runs.exceptions import RunMoved
from runs.models import Run
from runs.openai_chat import AnswerChanged
from runs.ui_stream import UiStream
from runs.ui_stream import frames as message_frames
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_approvals import safe
from tests.runs.test_chat_completions import chunks, frames
from tests.toolsets.test_agents import team
from tests.toolsets.vault import DONE, vault

__all__ = ["safe", "team", "vault"]
pytestmark = pytest.mark.django_db
AGAIN = {"trigger": "regenerate-message"}
WEATHER = {"name": "weather", "description": "", "parameters": {"type": "object"}}


def said(text: str, id: str = "u1") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


def script(*steps: Any) -> dict[str, Any]:
    return said("#script " + orjson.dumps(list(steps)).decode())


async def post(actor: Actor, *messages: Any, agent: str = "helper", **fields: Any) -> Any:
    body = {"id": "room", "messages": messages, "trigger": "submit-message", **fields}
    return await actor.apost(f"agents/{agent}/ui-stream", body)


async def resume(actor: Actor, session: str = "room", agent: str = "helper") -> Any:
    return await actor.aget(f"agents/{agent}/ui-stream/{session}/stream")


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(part["delta"] for part in parts if part["type"] == "text-delta")


def kinds(parts: list[dict[str, Any]]) -> list[str]:
    """Pieces that follow each other count once."""
    found = [part["type"] for part in parts]
    return [kind for place, kind in enumerate(found) if place == 0 or kind != found[place - 1]]


async def test_an_answer_is_a_message(
    owner: Actor, viewer: Actor, stranger: Actor, scripted: str, in_acme: Tenant
) -> None:
    response = await post(owner, said("hello"), extra={"of": "the page"})
    assert (response["x-vercel-ai-ui-message-stream"], response["X-Session-Id"]) == ("v1", "room")
    found = await chunks(response)
    run_id = response["X-Run-Id"]
    metadata = {"run_id": run_id, "session_id": "room", "agent": "helper"}
    assert found[0] == {"type": "start", "messageId": run_id, "messageMetadata": metadata}
    assert kinds(found[1:-1]) == ["start-step", "text-start", "text-delta", "text-end", "finish-step"]
    assert text_of(found) == "You said: hello"
    assert (found[-1]["type"], found[-1]["finishReason"]) == ("finish", "stop")
    assert found[-1]["messageMetadata"]["usage"]["outputTokens"] == 3
    assert (await post(viewer, said("hello"))).status_code == 403
    assert (await post(stranger, said("hello"))).status_code == 404
    assert await Run.objects.acount() == 1
    assert (await Run.objects.aget()).source == "ui-stream"


async def test_a_tool_of_the_server(owner: Actor, scripted: str) -> None:
    steps = script({"say": "Looking"}, {"tool": "current_time", "args": {}}, {"say": "It is late"})
    found = await chunks(await post(owner, steps))
    assert kinds(found) == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "tool-output-available",
        "finish-step",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    (call,) = [part for part in found if part["type"] == "tool-input-available"]
    assert (call["toolName"], call["input"], call["providerExecuted"]) == ("current_time", {}, True)


async def test_a_tool_of_the_client(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    """Its result goes on with the message that called it, in a run of its own."""
    question = script({"say": "Let me see"}, {"tool": "weather", "args": {"city": "Bern"}}, {"say": "Sunny"})
    first = await chunks(await post(owner, question, tools=[WEATHER]))
    (call,) = [part for part in first if part["type"] == "tool-input-available"]
    assert (call["input"], "providerExecuted" in call, "dynamic" in call) == ({"city": "Bern"}, False, False)
    assert first[-1]["finishReason"] == "tool-calls"
    tool = {"type": "tool-weather", "toolCallId": call["toolCallId"], "input": call["input"]}
    told = {"type": "text", "text": "Let me see"}
    for result, stored in (
        ({"state": "output-available", "output": {"sky": "clear"}}, '{"sky":"clear"}'),
        ({"state": "output-error", "errorText": "No sensor."}, "No sensor."),
    ):
        parts = [{"type": "step-start"}, told, {**tool, **result}]
        answer = {"id": "a1", "role": "assistant", "parts": parts}
        response = await post(owner, question, answer, tools=[WEATHER], messageId="a1")
        found = await chunks(response)
        assert (found[0]["messageId"], text_of(found)) == ("a1", "Sunny")
        assert found[0]["messageMetadata"]["run_id"] == response["X-Run-Id"]
        messages = [message async for message in Message.objects.order_by("-seq")]
        assert [message.role for message in messages[:2]] == ["assistant", "tool"]
        assert (messages[1].content, messages[1].tool_call_id) == (stored, call["toolCallId"])


async def test_only_what_is_new_joins_the_session(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script({"tool": "current_time", "args": {}})
    found = await chunks(await post(owner, steps))
    (call,) = [part for part in found if part["type"] == "tool-input-available"]
    result = {**call, "type": "dynamic-tool", "state": "output-available", "output": "now"}
    answer = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, result]}
    await frames(await post(owner, steps, answer, said("and now", "u2")))
    messages = [message async for message in Message.objects.order_by("seq")]
    assert [message.role for message in messages][-2:] == ["user", "assistant"]
    assert [message.content for message in messages if message.role == "user"][1:] == ["and now"]
    nothing = await post(owner, steps, answer)
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (400, "no_new_message")


async def test_a_conversation_from_elsewhere(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    """The first request of a session brings all of it, in the order of the steps."""
    call = {"type": "tool-look", "toolCallId": "c1", "state": "output-available", "input": None, "output": [1]}
    parts = [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Wait"}, call, {"type": "step-start"}]
    answer = {"id": "a1", "role": "assistant", "parts": [*parts, {"type": "text", "text": "One"}]}
    empty = {"id": "a2", "role": "assistant", "parts": []}
    rules = {"id": "s1", "role": "system", "parts": [{"type": "text", "text": "Be brief."}]}
    picture = {"type": "file", "mediaType": "image/png", "url": "https://example.com/a.png"}
    sound = {"type": "file", "mediaType": "audio/wav", "url": "data:audio/wav;base64,UklG"}
    paper = {
        "type": "file",
        "mediaType": "application/pdf",
        "filename": "a.pdf",
        "url": "data:application/pdf;base64,JV",
    }
    own = {"type": "data-cursor", "data": {"x": 1}}
    last = {"id": "u2", "role": "user", "parts": [picture, sound, paper, own, {"type": "text", "text": "What is it?"}]}
    await frames(await post(owner, rules, said("Look"), answer, said("Well?"), empty, last))
    stored = [(message.role, message.content) async for message in Message.objects.order_by("seq")]
    assert stored[:7] == [
        ("system", "Be brief."),
        ("user", "Look"),
        ("assistant", "Wait"),
        ("tool", "[1]"),
        ("assistant", "One"),
        ("user", "Well?"),
        ("assistant", ""),
    ]
    assert stored[7][1] == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": paper["url"]}},
        {"type": "text", "text": "What is it?"},
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"id": ""}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"trigger": "resume-stream"}, "trigger"),
        ({"messages": [{"id": "u1", "role": "user", "content": "old"}]}, "messages.0.parts"),
        ({"messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": 5}]}]}, "messages.0.parts.0"),
        ({"messages": [{"id": "u1", "role": "user", "parts": [{"text": "x"}]}]}, "messages.0.parts.0.type"),
        ({"messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "x", "n": 1e30}]}]}, "messages"),
        (
            {
                "messages": [
                    {"id": "u1", "role": "user", "parts": [{"type": "file", "mediaType": "text/html", "url": "x"}]}
                ]
            },
            "messages",
        ),
        ({"tools": [{"name": "no good"}]}, "tools.0.function.name"),
        ({"when_busy": "x"}, "when_busy"),
    ],
)
async def test_what_is_wrong_is_named(owner: Actor, scripted: str, fields: dict[str, Any], param: str) -> None:
    body = {"id": "room", "messages": [said("hello")], **fields}
    response = await owner.apost("agents/helper/ui-stream", body)
    assert response.status_code == 400, response.content
    assert response.json()["error"]["param"].startswith(param)


async def test_a_failure(owner: Actor, scripted: str) -> None:
    """Before the first word it is a status, afterwards an error part and no finish."""
    refused = await post(owner, script({"fail": 429}))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "provider_rate_limited")
    assert refused["X-Run-Id"]
    found = await chunks(await post(owner, script({"say": "half an"}, {"fail": "cut"}), id="other"))
    assert kinds(found)[-3:] == ["finish-step", "message-metadata", "error"]
    told = found[-2]["messageMetadata"]["error"]
    assert (told["type"], told["message"], bool(told["request_id"])) == ("provider_error", found[-1]["errorText"], True)
    assert text_of(found) == "half an"


async def test_a_stop_is_no_failure(owner: Actor, scripted: str) -> None:
    response = await post(owner, script({"say": "half an"}, {"fail": "hang"}))
    await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)
    assert kinds(await chunks(response))[-3:] == ["text-end", "finish-step", "abort"]


async def test_a_dropped_stream_goes_on_from_its_beginning(owner: Actor, viewer: Actor, scripted: str) -> None:
    nothing = await resume(owner)
    assert (nothing.status_code, nothing.content) == (204, b"")
    response = await post(owner, script({"repeat": "word", "times": 40, "delay_ms": 10}))
    parts = aiter(response)
    while b"text-delta" not in await anext(parts):
        pass
    await parts.aclose()
    again = await resume(viewer)
    assert (again["X-Run-Id"], again["x-vercel-ai-ui-message-stream"]) == (response["X-Run-Id"], "v1")
    found = await chunks(again)
    assert (found[0]["messageId"], found[-1]["type"]) == (response["X-Run-Id"], "finish")
    assert text_of(found).split() == ["word"] * 40
    assert (await resume(owner)).status_code == 204


async def test_whose_message_goes_on(owner: Actor, stranger: Actor, scripted: str) -> None:
    response = await post(owner, script({"say": "a"}, {"fail": "hang"}))
    assert (await resume(owner, "another")).status_code == 204
    assert (await resume(stranger)).status_code == 404
    assert (await resume(owner, agent="nobody")).status_code == 404
    await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)


async def test_a_message_that_went_on_after_a_tool_is_shown_whole(owner: Actor, scripted: str) -> None:
    steps = [{"say": "Looking"}, {"tool": "weather", "args": {}}, {"say": "Sunny"}, {"fail": "hang"}]
    question = script(*steps)
    first = await chunks(await post(owner, question, tools=[WEATHER]))
    (call,) = [part for part in first if part["type"] == "tool-input-available"]
    result = {"type": "tool-weather", "toolCallId": call["toolCallId"], "state": "output-available", "output": "clear"}
    message = {"id": first[0]["messageId"], "role": "assistant", "parts": [{"type": "step-start"}, result]}
    response = await post(owner, question, message, tools=[WEATHER], messageId=message["id"])
    parts = aiter(response)
    while b"text-delta" not in await anext(parts):
        pass
    again = await resume(owner)
    await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)
    found = await chunks(again)
    assert (found[0]["messageId"], text_of(found)) == (message["id"], "LookingSunny")
    assert found[0]["messageMetadata"]["run_id"] == response["X-Run-Id"]
    assert [part for part in found if part["type"] == "tool-output-available"] == [
        {"type": "tool-output-available", "toolCallId": call["toolCallId"], "output": "clear"}
    ]
    assert (kinds(found).count("start-step"), kinds(found).count("finish-step"), kinds(found)[-1]) == (2, 2, "abort")
    await parts.aclose()


async def test_a_repetition_finds_the_run(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    body = orjson.dumps({"id": "room", "messages": [said("hello")]})
    headers = {**owner.headers, "Idempotency-Key": "k1"}
    path = "/v1/agents/helper/ui-stream"
    answers = [await owner.ahttp.generic("POST", path, body, "application/json", headers=headers) for _ in range(2)]
    first, second = [await frames(answer) for answer in answers]
    assert [text_of([orjson.loads(frame[6:]) for frame in found[:-1]]) for found in (first, second)] == [
        "You said: hello"
    ] * 2
    assert answers[0]["X-Run-Id"] == answers[1]["X-Run-Id"]
    other = orjson.dumps({"id": "room", "messages": [said("bye")]})
    refused = await owner.ahttp.generic("POST", path, other, "application/json", headers=headers)
    assert refused.status_code == 422


async def valid(session: str = "room") -> list[tuple[str, Any]]:
    messages = Message.objects.filter(session__external_id=session, replaced_by=None).order_by("seq")
    return [(message.role, message.content) async for message in messages]


async def test_an_answer_anew(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    """The question stays as it was, also when it was never answered."""
    await frames(await post(owner, said("one", "u1")))
    await frames(
        await post(owner, said("one", "u1"), {"id": "a1", "role": "assistant", "parts": []}, said("two", "u2"))
    )
    question = await Message.objects.aget(client_id="u2")
    response = await post(
        owner, said("one", "u1"), {"id": "a1", "role": "assistant", "parts": []}, said("two", "u2"), **AGAIN
    )
    found = await chunks(response)
    assert (found[0]["messageId"], text_of(found)) == (response["X-Run-Id"], "You said: two")
    assert [content for _, content in await valid()] == ["one", "You said: one", "two", "You said: two"]
    assert (await Message.objects.aget(client_id="u2")).id == question.id
    await frames(await post(owner, said("one", "u1"), **AGAIN))
    assert await valid() == [("user", "one"), ("assistant", "You said: one")]
    failed = await post(owner, script({"fail": 429}), id="other")
    assert failed.status_code == 429
    assert (await post(owner, script({"fail": 429}), id="other", **AGAIN)).status_code == 429
    assert [role for role, _ in await valid("other")] == ["user"]


async def test_a_question_that_was_never_stored_is_asked_as_a_new_one(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    body = {"id": "room", "messages": [said("one", "u1")], **AGAIN}
    headers = {**owner.headers, "Idempotency-Key": "k1"}
    path, data = "/v1/agents/helper/ui-stream", orjson.dumps(body)
    answers = [await owner.ahttp.generic("POST", path, data, "application/json", headers=headers) for _ in range(2)]
    for answer in answers:
        await frames(answer)
    assert answers[0]["X-Run-Id"] == answers[1]["X-Run-Id"]
    assert await valid() == [("user", "one"), ("assistant", "You said: one")]


async def test_a_question_that_was_changed(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    answer = {"id": "a1", "role": "assistant", "parts": [{"type": "text", "text": "You said: one"}]}
    await frames(await post(owner, said("one", "u1")))
    await frames(await post(owner, said("one", "u1"), answer, said("two", "u2")))
    found = await chunks(await post(owner, said("three", "u1"), messageId="u1"))
    assert text_of(found) == "You said: three"
    assert await valid() == [("user", "three"), ("assistant", "You said: three")]
    assert await Message.objects.exclude(replaced_by=None).acount() == 4


async def test_no_answer_anew_while_another_is_given(owner: Actor, scripted: str) -> None:
    question = script({"say": "half an"}, {"fail": "hang"})
    response = await post(owner, question)
    refused = await post(owner, question, **AGAIN)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
    again = await post(owner, question, **AGAIN, when_busy="interrupt")
    assert kinds(await chunks(response))[-1] == "abort"
    await owner.apost(f"runs/{again['X-Run-Id']}/cancel", None)
    await frames(again)


def responded(parts: list[dict[str, Any]], **approval: Any) -> dict[str, Any]:
    """The client's message after a person has said something about the question of its last step."""
    (request,) = [part for part in parts if part["type"] == "tool-approval-request"]
    call = next(p for p in parts if p["type"] == "tool-input-available" and p["toolCallId"] == request["toolCallId"])
    part = {**call, "type": "dynamic-tool", "state": "approval-responded"}
    part["approval"] = {"id": request["approvalId"], **approval}
    return {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, part]}


SEND = {"tool": "ask", "args": {"name": "a"}}


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("approved", [True, False])
async def test_a_person_is_asked(owner: Actor, stranger: Actor, safe: str, approved: bool) -> None:
    question = script(SEND, {"say": "Done."})
    first = await chunks(await post(owner, question))
    assert kinds(first)[-4:] == ["tool-input-available", "tool-approval-request", "finish-step", "finish"]
    assert first[-3]["approvalDescriptor"]["tool"] == "ask"
    reloaded = await chunks(await resume(owner))
    assert reloaded == first
    answer = responded(first, approved=approved, reason="So be it.")
    elsewhere = await post(owner, question, answer, messageId="a1", id="elsewhere")
    assert (elsewhere.status_code, (await post(stranger, question, answer)).status_code) == (404, 404)
    response = await post(owner, question, answer, messageId="a1")
    found = await chunks(response)
    assert (found[0]["messageId"], response["X-Run-Id"]) == ("a1", first[0]["messageId"])
    outcome = "tool-output-available" if approved else "tool-output-error"
    assert kinds(found)[1:3] == [outcome, "start-step"]
    assert (text_of(found), found[-1]["type"]) == ("Done.", "finish")
    assert len(DONE) == approved
    again = await post(owner, question, answer, messageId="a1")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "approval_decided")


@pytest.mark.usefixtures("vault")
async def test_a_question_that_was_answered_is_not_asked_again(owner: Actor, safe: str) -> None:
    steps = [SEND, {"say": "One."}, {"fail": "hang"}]
    question = script(*steps)
    first = await chunks(await post(owner, question))
    response = await post(owner, question, responded(first, approved=True), messageId="a1")
    parts = aiter(response)
    while b"text-delta" not in await anext(parts):
        pass
    again = await resume(owner)
    await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)
    found = await chunks(again)
    assert "tool-approval-request" not in kinds(found)
    assert kinds(found).count("tool-output-available") == 1
    await parts.aclose()


def told_by(*events: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    told = UiStream(RUN)
    numbered = [make_event(seq, kind, fields) for seq, (kind, fields) in enumerate(events, 1)]
    return [chunk for event in numbered for chunk in told.chunks(event)]


RUN = Run(id=NIL, session=ChatSession(external_id="room"), request={"client_tools": []})
HALF = [
    ("RUN_STARTED", {}),
    ("TEXT_MESSAGE_START", {"messageId": "m1"}),
    ("TEXT_MESSAGE_CONTENT", {"messageId": "m1", "delta": "half"}),
]


def test_what_an_agent_tells_besides_text_is_data() -> None:
    failed = {"step": "one", "attempt": 1, "code": "timeout", "message": "Late.", "again": True}
    found = told_by(
        ("STEP_STARTED", {"stepName": "one"}),
        ("TEXT_MESSAGE_START", {"messageId": "m1", "metadata": {"step": "one"}}),
        ("TEXT_MESSAGE_END", {"messageId": "m1"}),
        ("CUSTOM", {**custom("step_failed", failed), "metadata": {"cut": []}}),
        ("STEP_FINISHED", {"stepName": "one", "metadata": {"ms": 5}}),
        ("STEP_STARTED", {"stepName": "one", "metadata": {"paused": True}}),
        ("CUSTOM", {**custom("refusal", "No,"), "metadata": {"messageId": "m2"}}),
        ("CUSTOM", {**custom("refusal", " never."), "metadata": {"messageId": "m2"}}),
        ("CUSTOM", {"name": "chart", "value": [1, 2]}),
        ("CUSTOM", custom("checkpoint", "c1")),
    )
    step = {"type": "data-step", "id": "one"}
    assert found == [
        {**step, "data": {"name": "one", "state": "started"}},
        {"type": "start-step"},
        {"type": "text-start", "id": "m1", "providerMetadata": {"agentsite": {"step": "one"}}},
        {"type": "text-end", "id": "m1"},
        {
            **step,
            "data": {
                "name": "one",
                "state": "failed",
                "attempt": 1,
                "code": "timeout",
                "message": "Late.",
                "again": True,
            },
        },
        {**step, "data": {"name": "one", "state": "finished", "ms": 5}},
        {"type": "data-refusal", "id": "m2-refusal", "data": {"text": "No,"}},
        {"type": "data-refusal", "id": "m2-refusal", "data": {"text": "No, never."}},
        {"type": "data-chart", "data": [1, 2]},
    ]


def test_answers_beside_each_other_share_a_step() -> None:
    found = told_by(
        ("REASONING_START", {"messageId": "m1-reasoning"}),
        ("TEXT_MESSAGE_START", {"messageId": "m2"}),
        ("REASONING_MESSAGE_CONTENT", {"messageId": "m1-reasoning", "delta": "Hm"}),
        ("TEXT_MESSAGE_CONTENT", {"messageId": "m2", "delta": "Yes"}),
        ("REASONING_END", {"messageId": "m1-reasoning"}),
        ("TEXT_MESSAGE_END", {"messageId": "m2"}),
        ("TEXT_MESSAGE_START", {"messageId": "m3"}),
    )
    assert [part["type"] for part in found] == [
        "start-step",
        "reasoning-start",
        "text-start",
        "reasoning-delta",
        "text-delta",
        "reasoning-end",
        "text-end",
        "finish-step",
        "start-step",
        "text-start",
    ]


def test_a_call_that_was_cut_and_a_result_of_no_call() -> None:
    found = told_by(
        ("TOOL_CALL_START", {"toolCallId": "c1", "toolCallName": "look", "parentMessageId": "m1"}),
        ("TOOL_CALL_ARGS", {"toolCallId": "c1", "delta": '{"at'}),
        ("TOOL_CALL_END", {"toolCallId": "c1"}),
        ("TOOL_CALL_RESULT", {"toolCallId": "c2", "content": "[1, 2", "messageId": "r2"}),
    )
    assert [part["type"] for part in found] == [
        "start-step",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-error",
        "tool-input-available",
        "tool-output-available",
    ]
    assert (found[3]["input"], found[5]["output"]) == ('{"at', "[1, 2")


def test_a_call_of_another_agent_is_asked_about_as_one_of_its_own() -> None:
    about = {"tool": "send", "arguments": {"to": "a"}, "agent": "mailer"}
    asked = {"id": "i1", "message": "Approve?", "expiresAt": "2030-01-01T00:00:00Z", "metadata": about}
    found = told_by(
        ("RUN_FINISHED", {"outcome": {"type": "interrupt", "interrupts": [asked]}}),
        ("RUN_STARTED", {}),
    )
    assert [part["type"] for part in found] == [
        "start-step",
        "tool-input-available",
        "tool-approval-request",
        "finish-step",
        "finish",
        "tool-output-available",
    ]
    assert (found[1]["toolName"], found[1]["input"], found[2]["toolCallId"]) == ("send", {"to": "a"}, "i1")


def test_what_was_merged_meanwhile_is_told_once() -> None:
    snapshot = {"messageId": "m1", "type": "TEXT_MESSAGE_CONTENT", "start": 2, "text": "lf an answer"}
    assert told_by(*HALF, ("CUSTOM", custom("message_snapshot", snapshot)))[-1]["delta"] == " an answer"


@pytest.mark.parametrize("kept", [True, False])
def test_another_attempt(kept: bool) -> None:
    """What was told cannot be taken back: the client reads the stream anew, unless all of it still counts."""
    restarted = ("CUSTOM", attempt_restarted(2, keep=3 if kept else 2))
    if kept:
        assert [part["type"] for part in told_by(*HALF, restarted)] == ["start-step", "text-start", "text-delta"]
    else:
        with pytest.raises(AnswerChanged):
            told_by(*HALF, restarted)


async def test_a_server_that_stops_says_so(owner: Actor) -> None:
    async def events() -> AsyncGenerator[Event | None, None]:
        for seq, (kind, fields) in enumerate(HALF, 1):
            yield make_event(seq, kind, fields)
        yield None
        raise RunMoved(3)

    found = [frame async for frame in message_frames(UiStream(RUN), events())]
    assert found[-5] == b": keep-alive\n\n"
    told = [orjson.loads(frame[6:]) for frame in found[-4:-1]]
    assert [part["type"] for part in told] == ["finish-step", "message-metadata", "error"]
    assert told[1]["messageMetadata"]["error"]["code"] == "server_stopping"
    assert found[-1] == b"data: [DONE]\n\n"
