"""Who said what, in the first event of a run and in the stored messages."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from runs.models import Run
from runs.replay import _later_runs
from runs.services.turns import context_of
from sessions_app.models import Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_socket import hear_run, run_input, say, socket

pytestmark = pytest.mark.django_db


async def first_event(actor: Actor, run_id: str) -> Any:
    return (await actor.aget(f"runs/{run_id}/events", limit=1)).json()["data"][0]["event"]


async def messages_of(actor: Actor, **query: Any) -> list[Any]:
    found: list[Any] = (await actor.aget("sessions/room/messages", limit=100, **query)).json()["data"]
    return found


def about(text: str, id: str = "m1", **forwarded: Any) -> dict[str, Any]:
    asked = run_input(text)
    asked["messages"][0]["id"] = id
    return {**asked, "forwardedProps": forwarded}


async def test_a_run_begins_with_what_was_asked(owner: Actor, viewer: Actor, scripted: str, in_acme: Tenant) -> None:
    async with socket(owner) as ws, socket(viewer) as other:
        await say(ws, {"type": "run", "agent": scripted, "input": about("hello")})
        events = await hear_run(ws)
        assert await hear_run(other) == events
    actor = {"kind": "api_key", "id": str(owner.principal.id), "label": "owner of acme"}
    assert events[0]["metadata"] == {**events[0]["metadata"], "actor": actor, "agent": scripted}
    (told,) = events[0]["input"]["messages"]
    assert told == {
        "id": "m1",
        "role": "user",
        "name": "owner of acme",
        "content": "hello",
        "metadata": {"seq": 1},
    }
    asked, answer = await messages_of(owner)
    assert (asked["author"], asked["client_id"], asked["replaced_by"]) == (actor, "m1", None)
    said = next(event["messageId"] for event in events if event["type"] == "TEXT_MESSAGE_START")
    assert (answer["author"], answer["client_id"]) == (None, said)


async def test_only_what_is_new_is_told(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    metadata = {"session_id": "room", "user_id": "alice"}
    await chat(owner, user("one"), metadata=metadata)
    before = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "You said: one"}]
    picture = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}
    parts = [{"type": "text", "text": "two"}, picture]
    answer = await chat(owner, [*before, {"role": "user", "content": parts}], metadata=metadata)
    event = await first_event(owner, answer["X-Run-Id"])
    (told,) = event["input"]["messages"]
    stored = await Message.objects.aget(seq=3)
    assert (told["id"], told["name"], told["metadata"]) == (str(stored.id), "alice", {"seq": 3})
    source = {"type": "url", "value": "https://pictures.example/a.png"}
    assert told["content"] == [{"type": "text", "text": "two"}, {"type": "image", "source": source}]
    assert event["metadata"]["actor"]["user_id"] == "alice"


async def test_a_bare_models_run_tells_no_more_than_before(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    answer = await chat(owner, user("one"), model="scripted/default")
    event = await first_event(owner, answer["X-Run-Id"])
    assert sorted(event) == ["runId", "threadId", "timestamp", "type"]


async def test_a_long_id_is_refused(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": about("x", "y" * 129)})
        (error,) = await hear_run(ws)
    assert (error["type"], error["error"]["param"]) == ("error", "messages.0.id.constrained-str")
    assert not await Run.objects.aexists()


async def test_a_message_is_edited(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with socket(owner) as ws:
        for number in (1, 2):
            await say(ws, {"type": "run", "agent": scripted, "input": about(f"{number}", f"m{number}")})
            await hear_run(ws)
        await say(ws, {"type": "run", "input": about("other", "m3", replace_from="m2")})
        events = await hear_run(ws)
    assert events[0]["metadata"]["replaces_from"] == 3
    assert [message["content"] for message in await messages_of(owner)] == [
        "1",
        "You said: 1",
        "other",
        "You said: other",
    ]
    everything = await messages_of(owner, replaced="true")
    run_id = events[0]["runId"]
    assert [message["replaced_by"] for message in everything] == [None, None, run_id, run_id, None, None]
    assert (await owner.aget("sessions/room/messages", replaced="maybe")).status_code == 400


async def test_an_answer_is_made_anew(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    for text in ("one", "two"):
        await chat(owner, user(text), metadata={"session_id": "room"})
    before = [*user("one"), {"role": "assistant", "content": "You said: one"}, *user("two")]
    answer = await chat(owner, before, metadata={"session_id": "room", "replace_from": "4"})
    assert answer.json()["choices"][0]["message"]["content"] == "You said: two"
    event = await first_event(owner, answer["X-Run-Id"])
    assert (event["input"]["messages"], event["metadata"]["replaces_from"]) == ([], 4)
    assert [message["seq"] for message in await messages_of(owner)] == [1, 2, 3, 5]
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "input": {**about("x", replace_from=5), "messages": []}})
        assert (await hear_run(ws))[-1]["type"] == "RUN_FINISHED"
    assert [message["seq"] for message in await messages_of(owner)] == [1, 2, 3, 6]


@pytest.mark.parametrize(
    ("replace_from", "status", "code"),
    [
        ("nosuch", 404, "message_not_found"),
        ("77", 404, "message_not_found"),
        ("99999999999999", 404, "message_not_found"),
        ("01a21eec-fd94-70f7-9d1b-a299db261755", 404, "message_not_found"),
        ("2", 409, "message_replaced"),
        ("4", 400, "no_new_message"),
        ([], 400, "int_type"),
        (0, 400, "greater_than_equal"),
        ("", 400, "string_pattern_mismatch"),
    ],
)
async def test_what_cannot_be_replaced(
    owner: Actor, scripted: str, in_acme: Tenant, replace_from: Any, status: int, code: str
) -> None:
    metadata: dict[str, Any] = {"session_id": "room"}
    await chat(owner, user("one"), metadata=metadata)
    await chat(owner, user("one"), metadata={**metadata, "replace_from": "2"})
    await chat(owner, user("two"), metadata=metadata)
    count = await Message.objects.acount()
    said = [{"role": "assistant", "content": "You said: two"}]
    refused = await chat(owner, said, metadata={**metadata, "replace_from": replace_from})
    error = refused.json()["error"]
    codes = [error["code"], *(fault["code"] for fault in error.get("details") or [])]
    assert (refused.status_code, code in codes) == (status, True), error
    assert await Message.objects.acount() == count


async def test_a_message_of_another_session_is_none(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    for session in ("room", "hall"):
        await chat(owner, user("one"), metadata={"session_id": session})
    other = await Message.objects.order_by("created_at").alatest("created_at")
    refused = await chat(owner, user("x"), metadata={"session_id": "room", "replace_from": str(other.id)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "message_not_found")
    assert not await Message.objects.exclude(replaced_by=None).aexists()


async def test_while_another_run_is_open_only_an_interrupt_replaces(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    metadata = {"session_id": "room"}
    await chat(owner, user("one"), metadata=metadata)
    first = await chat(owner, script({"say": "half an"}, {"fail": "hang"}), metadata=metadata, stream=True)
    for way in ("queue", "steer", "reject"):
        refused = await chat(owner, user("x"), metadata={**metadata, "when_busy": way, "replace_from": "1"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
    answer = await chat(owner, user("new"), metadata={**metadata, "when_busy": "interrupt", "replace_from": "1"})
    assert answer.json()["choices"][0]["message"]["content"] == "You said: new"
    await frames(first)
    assert [message["content"] for message in await messages_of(owner)] == ["new", "You said: new"]
    everything = await messages_of(owner, replaced="true")
    assert [message["replaced_by"] for message in everything[:-2]] == [answer["X-Run-Id"]] * (len(everything) - 2)
    assert len(everything) == 6  # two, the interrupted question with its half answer, two


async def test_what_was_replaced_meanwhile_fails_the_run_that_waited(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    metadata = {"session_id": "room"}
    await chat(owner, user("one"), metadata=metadata)
    first = await chat(owner, script({"say": "half an"}, {"fail": "hang"}), metadata=metadata, stream=True)
    asked = chat(owner, user("new"), metadata={**metadata, "when_busy": "interrupt", "replace_from": "1"}, stream=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runs.runner._cancel_anywhere", lambda *_: None)  # the run under way goes on for now
        second = await asked
    await Message.objects.filter(seq=1).aupdate(replaced_by=second["X-Run-Id"])
    await owner.apost(f"runs/{first['X-Run-Id']}/cancel", None)
    assert "message_replaced" in (await frames(second))[-1]
    await frames(first)
    run = await Run.objects.aget(id=second["X-Run-Id"])
    assert (run.status, run.error_code) == ("failed", "message_replaced")


async def test_a_replay_sees_what_was_replaced_after_it(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await chat(owner, user("one"), metadata={"session_id": "room"})
    await chat(owner, user("two"), metadata={"session_id": "room", "replace_from": "1"})
    run = await Run.objects.select_related("session").aget(id=first["X-Run-Id"])
    later = await sync_to_async(_later_runs)(run)
    assert await sync_to_async(context_of)(run, later) == user("one")
