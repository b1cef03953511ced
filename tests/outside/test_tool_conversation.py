"""A conversation through tools of six kinds: the messages, the rows, the events and the model's requests tell the same.

Once by the scripted model, one call after the other, and once over OpenAI's wire with several calls in one answer.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from tests.outside.conftest import make_provider, mock_provider
from tests.outside.desk import DOCUMENT, Desk, open_desk
from tests.outside.site import Server, Site, serving

pytestmark = pytest.mark.slow
CALLS = """
    SELECT call_id, tool, toolset, arguments::jsonb, result, status, ms FROM tool_call
    WHERE session_id = %s ORDER BY created_at, id
"""
SCHEMA = {"type": "object", "properties": {"mill": {"type": "string"}}, "required": ["mill"]}
TOOLSETS: dict[str, dict[str, Any]] = {
    "clock": {"kind": "time"},
    "files": {"kind": "files"},
    "web": {"kind": "web"},
    "desk": {"kind": "http", "config": {"document": DOCUMENT}},
    "reading": {"kind": "llm", "config": {"model": "scripted/default"}},
    "team": {"kind": "agents", "config": {"agents": ["scripted"]}},
}


class Call(NamedTuple):
    tool: str
    toolset: str
    args: dict[str, Any]
    says: str  # what its result holds
    status: str = "succeeded"


class Turn(NamedTuple):
    """What the user asks, the calls of each answer of the model, and what it says in the end."""

    asks: str
    steps: list[list[Call]]
    says: str


def turns(desk: Desk) -> list[Turn]:
    message = '#script [{"say": "forty-two"}]'
    return [
        Turn(
            "Prepare the day.",
            [
                [
                    Call("current_time", "clock", {"timezone": "Europe/Berlin"}, "Europe/Berlin"),
                    Call("create_file", "files", {"filename": "notes.md", "content": "rye\n"}, "notes.md"),
                ]
            ],
            "It is prepared.",
        ),
        Turn(
            "Read and order.",
            [
                [
                    Call("fetch_url", "web", {"url": f"{desk.url}/page"}, "They grind."),
                    Call("read_lines", "files", {"filename": "missing.md"}, "missing.md", "failed"),
                    Call("createOrder", "desk", {"body": {"item": "corn"}}, '"number":1'),
                    Call("createOrder", "desk", {"body": {"item": "sacks"}}, '"number":2'),
                ],
                [Call("read_lines", "files", {"filename": "notes.md"}, "rye")],
            ],
            "It is ordered.",
        ),
        Turn(
            "Ask the others.",
            [
                [
                    Call("extract", "reading", {"text": "A mill.", "json_schema": SCHEMA}, '"mill"'),
                    Call("ask_scripted", "team", {"message": message}, "forty-two"),
                ]
            ],
            "They answered.",
        ),
    ]


@pytest.fixture(scope="module")
def near(site: Site) -> Iterator[Server]:
    """A server whose tools may reach this machine."""
    with serving(Site(site.home, {**site.env, "ALLOW_PRIVATE_TOOLS": "true"})) as server:
        yield server


@pytest.fixture
def desk() -> Iterator[Desk]:
    """It serves its page only when it has an order, so that the calls of one answer end out of their order."""
    with open_desk() as desk:
        desk.before = lambda what: what == "/page" and desk.until(1)
        yield desk


@pytest.fixture
def toolsets(near: Server, desk: Desk) -> Iterator[list[str]]:
    """They go with the agents that were given them."""
    with near.client() as http:
        for slug, fields in TOOLSETS.items():
            config = fields.get("config", {}) | ({"base_url": desk.url} if slug == "desk" else {})
            made(http.post("toolsets", json={"slug": slug, "name": slug, "kind": fields["kind"], "config": config}))
        yield list(TOOLSETS)
        for slug in ("by-script", "by-wire"):  # whichever the test made
            http.delete(f"agents/{slug}")
        for slug in TOOLSETS:
            assert http.delete(f"toolsets/{slug}").status_code == 204


def made(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code < 300, response.text
    found: dict[str, Any] = response.json()
    return found


def agent(http: httpx.Client, slug: str, model: str, toolsets: list[str]) -> None:
    body = {"slug": slug, "name": slug, "template": "conversation", "model": model, "toolsets": toolsets}
    made(http.post("agents", json=body))
    made(http.patch(f"agents/{slug}/status", json={"status": "active"}))


def talk(http: httpx.Client, slug: str, asked: list[str], says: list[str]) -> list[str]:
    """The ids of the runs."""
    runs = []
    for text, wanted in zip(asked, says, strict=True):
        messages = [{"role": "user", "content": text}]
        body = {"model": slug, "messages": messages, "metadata": {"session_id": f"talk of {slug}"}}
        answer = made(http.post("chat/completions", json=body))
        assert answer["choices"][0]["message"]["content"] == wanted
        runs.append(answer["metadata"]["run_id"])
    return runs


class Told(NamedTuple):
    """A call as one of the places tells it."""

    id: str
    tool: str
    args: Any
    result: str


def by_messages(messages: list[dict[str, Any]]) -> list[Told]:
    """In the order of the calls. All results of an answer's calls follow it before anything else."""
    told = []
    for place, message in enumerate(messages):
        calls = message.get("tool_calls") or []
        results = {each.get("tool_call_id"): each["content"] for each in messages[place + 1 : place + 1 + len(calls)]}
        assert results.keys() == {call["id"] for call in calls}
        for id, function in [(call["id"], call["function"]) for call in calls]:
            told.append(Told(id, function["name"], json.loads(function["arguments"]), results[id]))
    return told


def results_of(messages: list[dict[str, Any]]) -> list[str]:
    """The ids of the calls that were answered, as the answers come."""
    return [message["tool_call_id"] for message in messages if message["role"] == "tool"]


class Events(NamedTuple):
    """`calls` as they began, `results` as they came: of each the call's id, whether it failed, its milliseconds."""

    calls: list[Told]
    results: list[tuple[str, bool, int]]


def by_events(http: httpx.Client, run: str) -> Events:
    events = [each["event"] for each in made(http.get(f"runs/{run}/events", params={"limit": 1000}))["data"]]
    names = {each["toolCallId"]: each["toolCallName"] for each in events if each["type"] == "TOOL_CALL_START"}
    results = [each for each in events if each["type"] == "TOOL_CALL_RESULT"]
    contents = {each["toolCallId"]: each["content"] for each in results}
    arguments = dict.fromkeys(names, "")
    for each in events:
        if each["type"] == "TOOL_CALL_ARGS":
            arguments[each["toolCallId"]] += each["delta"]
    assert list(names) == [each["toolCallId"] for each in events if each["type"] == "TOOL_CALL_END"]
    assert names.keys() == contents.keys()
    calls = [Told(id, name, json.loads(arguments[id]), contents[id]) for id, name in names.items()]
    metadata = [(each["toolCallId"], each["metadata"]) for each in results]
    return Events(calls, [(id, each.get("error", False), each["ms"]) for id, each in metadata])


def rows(site: Site, session: str) -> list[Any]:
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        return connection.execute(CALLS, [session]).fetchall()


def check(near: Server, http: httpx.Client, runs: list[str], conversation: list[Turn]) -> list[Told]:
    """That messages, events and rows tell of the conversation's calls; returns them."""
    session = made(http.get(f"runs/{runs[0]}"))["session_id"]
    messages = made(http.get(f"sessions/{session}/messages", params={"limit": 100}))["data"]
    told = by_messages(messages)
    wanted = [call for turn in conversation for step in turn.steps for call in step]
    assert [(call.tool, call.args) for call in told] == [(call.tool, call.args) for call in wanted]
    for call, one in zip(wanted, told, strict=True):
        assert call.says in one.result
    found = rows(near.site, session)
    assert [Told(id, tool, args, result) for id, tool, _, args, result, _, _ in found] == told
    assert [(row[2], row[5]) for row in found] == [(call.toolset, call.status) for call in wanted]
    events = [by_events(http, run) for run in runs]
    results = [result for each in events for result in each.results]
    assert [call for each in events for call in each.calls] == told
    assert [id for id, _, _ in results] == results_of(messages)
    assert sorted(results) == sorted((row[0], row[5] == "failed", row[6]) for row in found)
    return told


def test_the_scripted_model_calls_one_after_the_other(near: Server, desk: Desk, toolsets: list[str]) -> None:
    desk.before = lambda what: None
    conversation = turns(desk)
    scripts = [
        "#script "
        + json.dumps(
            [{"tool": each.tool, "args": each.args} for step in turn.steps for each in step] + [{"say": turn.says}]
        )
        for turn in conversation
    ]
    with near.client() as http:
        agent(http, "by-script", "scripted/default", toolsets)
        runs = talk(http, "by-script", scripts, [turn.says for turn in conversation])
        check(near, http, runs, conversation)
    assert desk.orders == ["corn", "sacks"]


def fixtures(conversation: list[Turn]) -> dict[str, Any]:
    """What aimock answers: by the user's message, and by how many answers the request has already."""
    made: list[dict[str, Any]] = []
    answers = 0
    for turn in conversation:
        steps = [{"toolCalls": [{"name": each.tool, "arguments": each.args} for each in step]} for step in turn.steps]
        for response in [*steps, {"content": turn.says}]:
            made.append({"match": {"userMessage": turn.asks, "turnIndex": answers}, "response": response})
            answers += 1
    return {"fixtures": made}


def test_a_model_over_openais_wire_calls_several_at_once(
    near: Server, desk: Desk, toolsets: list[str], node: str, tmp_path: Path
) -> None:
    conversation = turns(desk)
    (tmp_path / "fixtures.json").write_text(json.dumps(fixtures(conversation)))
    with mock_provider(node, tmp_path / "fixtures.json", tmp_path) as base_url, near.client() as http:
        make_provider(near, "caller", base_url)
        agent(http, "by-wire", "caller/gpt-4o", toolsets)
        runs = talk(http, "by-wire", [turn.asks for turn in conversation], [turn.says for turn in conversation])
        told = check(near, http, runs, conversation)
        journal = httpx.get(f"{base_url.removesuffix('/v1')}/__aimock/journal", trust_env=False).json()
    asked = [entry["body"]["messages"] for entry in journal if entry["path"].endswith("/chat/completions")]
    assert len(asked) == sum(len(turn.steps) + 1 for turn in conversation)
    for number, messages in enumerate(asked):
        seen = by_messages(messages)
        assert (number, seen) == (number, told[: len(seen)])
        assert results_of(messages) == [call.id for call in seen]
    assert seen == told
    assert desk.orders == ["corn", "sacks"]
