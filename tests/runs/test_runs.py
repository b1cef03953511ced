"""Runs: timeline, following, cancel, AG-UI over SSE."""

import asyncio
from typing import Any

import orjson
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from runs.models import Run
from tenants.models import Tenant
from tests.agents.graphs import CREATE_AGENT
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
    done = await chat(owner, script(*[{"say": word, "delay_ms": 30} for word in ("one", "two", "three", "four")]))
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
    for query, first in (("", 0), ("?after=3", 3)):
        headers = {**owner.headers, "Accept": "text/event-stream", "Last-Event-ID": ""}
        streamed = await owner.ahttp.get(f"/v1/{path}{query}", headers=headers)
        assert [seq for seq, _ in events_of(await frames(streamed))] == list(range(first + 1, 9))
    headers = {**owner.headers, "Accept": "text/event-stream", "Last-Event-ID": "x"}
    assert (await owner.ahttp.get(f"/v1/{path}", headers=headers)).status_code == 400
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


async def test_a_pass_through_ends_with_its_caller_whoever_looks_at_it(owner: Actor, scripted: str) -> None:
    response = await chat(owner, script({"say": "half an"}, {"fail": "hang"}), model="scripted/default", stream=True)
    accept = {**owner.headers, "Accept": "text/event-stream"}
    followed = await owner.ahttp.get(f"/v1/runs/{response['X-Run-Id']}/events", headers=accept)
    parts = aiter(response)
    await anext(parts)
    await parts.aclose()
    async with asyncio.timeout(20):
        events = events_of(await frames(followed))
    assert (events[-1][1]["type"], events[-1][1]["code"]) == ("RUN_ERROR", "run_cancelled")


PARALLEL = """
from typing import Any, TypedDict

from templates_app.events import Answer
from templates_app.langgraph import LangGraphTemplate


class State(TypedDict):
    left: str
    right: str


class Both(LangGraphTemplate):
    slug = "both"
    version = "1.0.0"
    title = "Both"
    description = "Asks the model two things at once."

    def graph(self, config: Any, model: Any, tools: Any) -> Any:
        from langgraph.graph import END, START, StateGraph

        async def left(state: State) -> dict[str, str]:
            return {"left": (await model.ainvoke(\'#script [{"repeat": "l", "times": 20, "delay_ms": 2}]\')).text}

        async def right(state: State) -> dict[str, str]:
            return {"right": (await model.ainvoke(\'#script [{"repeat": "r", "times": 20, "delay_ms": 2}]\')).text}

        graph = StateGraph(State)
        for node in (left, right):
            graph.add_node(node.__name__, node)
            graph.add_edge(START, node.__name__)
            graph.add_edge(node.__name__, END)
        return graph

    def state(self, context: Any) -> Any:
        return {"left": "", "right": ""}

    def answer(self, state: Any) -> Answer:
        return Answer({"role": "assistant", "content": f"{state['left']} and {state['right']}"}, "stop")
"""


async def activate(owner: Actor, fields: dict[str, Any]) -> None:
    made = await owner.apost("agents", fields)
    assert made.status_code == 201, made.content
    body = orjson.dumps({"status": "active"})
    path = f"/v1/agents/{fields['slug']}/status"
    changed = await owner.ahttp.generic("PATCH", path, body, "application/json", headers=owner.headers)
    assert changed.status_code == 200, changed.content


async def test_answers_that_are_made_at_once_do_not_mix(
    owner: Actor, scripted: str, in_acme: Tenant, add_template: Any
) -> None:
    add_template("both", PARALLEL)
    fields = {"slug": "both", "name": "Both", "template": "both", "model": "scripted/default"}
    await activate(owner, fields)
    events = [event for _, event in events_of(await frames(await owner.apost("agents/both/ag-ui", run_input("go"))))]
    texts: dict[str, str] = {}
    for event in events:
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            texts[event["messageId"]] = texts.get(event["messageId"], "") + event["delta"]
    both = sorted("".join(text.split()) for text in texts.values())
    assert both == ["l" * 20, "l" * 20 + "and" + "r" * 20, "r" * 20]
    assert [event["stepName"] for event in events if event["type"] == "STEP_FINISHED"] in (
        ["left", "right"],
        ["right", "left"],
    )
    body = (await chat(owner, user("go"), model="both")).json()
    assert body["choices"][0]["message"]["content"]


async def test_an_authors_langchain_agent_runs_with_the_agents_tools(
    owner: Actor, scripted: str, in_acme: Tenant, add_template: Any
) -> None:
    add_template("worker", CREATE_AGENT)
    fields = {"slug": "lc", "name": "LC", "template": "worker", "model": "scripted/default", "toolsets": ["time"]}
    await activate(owner, fields)
    steps = script({"tool": "current_time", "args": {"timezone": "UTC"}}, {"say": "It is late."})
    streamed = await frames(await chat(owner, steps, model="lc", stream=True, metadata={"session_id": "lc"}))
    deltas = [orjson.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in streamed[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "It is late."
    listed = (await owner.aget("sessions/lc/messages")).json()["data"]
    assert [message["role"] for message in listed] == ["user", "assistant", "tool", "assistant"]
    run = await Run.objects.aget()
    assert run.completion_tokens > 0
