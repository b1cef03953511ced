"""Runs: timeline, following, cancel, AG-UI over SSE."""

import asyncio
from typing import Any

import orjson
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from runs.models import Run
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_socket import run_input

pytestmark = pytest.mark.django_db
EVENT = TypeAdapter(Event)


def events_of(found: list[str]) -> list[tuple[int, dict[str, Any]]]:
    parsed = []
    for frame in found:
        id_line, data = frame.split("\n")
        parsed.append((int(id_line.removeprefix("id: ")), orjson.loads(data.removeprefix("data: "))))
    return parsed


async def test_agui_over_sse(owner: Actor, viewer: Actor, stranger: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await owner.apost(f"agents/{scripted}/ag-ui", run_input("hello"))
    events = events_of(await frames(response))
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert [event["type"] for _, event in events][:2] == ["RUN_STARTED", "TEXT_MESSAGE_START"]
    assert events[0][1]["threadId"] == "room"
    for _, event in events:
        EVENT.validate_python(event)
    assert events[-1][1]["usage"][0]["outputTokens"] == 3
    assert (await viewer.apost(f"agents/{scripted}/ag-ui", run_input("hello"))).status_code == 403
    assert (await stranger.apost(f"agents/{scripted}/ag-ui", run_input("hello"))).status_code == 404
    assert await Run.objects.acount() == 1


async def test_agui_context_and_client_tools(owner: Actor, scripted: str) -> None:
    given = run_input('#script [{"tool": "weather", "args": {"city": "Bern"}}]')
    given["tools"] = [{"name": "weather", "description": "", "parameters": {"type": "object"}}]
    given["context"] = [{"description": "Page", "value": "Home"}]
    events = [event for _, event in events_of(await frames(await owner.apost("agents/helper/ag-ui", given)))]
    calls = [event for event in events if event["type"] == "TOOL_CALL_START"]
    assert [call["toolCallName"] for call in calls] == ["weather"]
    assert events[-1]["result"] == {"finishReason": "tool_calls"}
    listed = (await owner.aget("sessions/room/messages")).json()["data"]
    assert [message["role"] for message in listed] == ["user", "assistant"]


async def test_the_timeline_of_a_finished_run(owner: Actor, scripted: str) -> None:
    done = await chat(owner, user("hello there"))
    path = f"runs/{done['X-Run-Id']}/events"
    body = (await owner.aget(path)).json()
    assert [row["seq"] for row in body["data"]] == list(range(1, 9))
    assert body["has_more"] is False
    page = (await owner.aget(path, after=2, limit=3)).json()
    assert ([row["seq"] for row in page["data"]], page["has_more"], page["next_cursor"]) == ([3, 4, 5], True, "5")
    streamed = await owner.ahttp.get(
        f"/v1/{path}", headers={**owner.headers, "Accept": "text/event-stream", "Last-Event-ID": "5"}
    )
    assert events_of(await frames(streamed)) == [(row["seq"], row["event"]) for row in body["data"][5:]]
    for bad in ({"after": "x"}, {"after": -1}, {"limit": 0}, {"limit": 1001}):
        assert (await owner.aget(path, **bad)).status_code == 400


async def test_a_follower_sees_replay_then_live(owner: Actor, scripted: str) -> None:
    steps = script({"repeat": "word", "times": 30, "delay_ms": 5})
    response = await chat(owner, steps, stream=True)
    accept = {**owner.headers, "Accept": "text/event-stream"}
    followed = await owner.ahttp.get(f"/v1/runs/{response['X-Run-Id']}/events", headers=accept)
    assert not await Run.objects.filter(finished_at__isnull=False).aexists()
    events = events_of(await frames(followed))
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert events[-1][1]["type"] == "RUN_FINISHED"
    assert (await frames(response))[-1] == "data: [DONE]"


async def test_cancel_stops_a_run_and_keeps_its_words(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await chat(owner, script({"say": "half an"}, {"fail": "hang"}), stream=True)
    run_id = response["X-Run-Id"]
    body = (await owner.apost(f"runs/{run_id}/cancel", None)).json()
    assert (body["status"], body["error"]["code"]) == ("cancelled", "run_cancelled")
    found = await frames(response)
    assert found[-1].startswith("event: error\n")
    again = (await owner.apost(f"runs/{run_id}/cancel", None)).json()
    assert again == body
    listed = (await owner.aget(f"sessions/{response['X-Session-Id']}/runs")).json()["data"]
    assert [run["id"] for run in listed] == [run_id]


async def test_dropping_a_pass_through_stops_it(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script({"say": "half an"}, {"fail": "hang"})
    response = await chat(owner, steps, model="scripted/default", stream=True)
    parts = aiter(response)
    await anext(parts)
    await parts.aclose()
    for _ in range(200):
        run = await Run.objects.aget()
        if run.is_finished:
            break
        await asyncio.sleep(0.01)
    assert run.status == "cancelled"
