"""Workflows and tasks over real wires, and tasks whose processes are killed: no finished step is done again."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest
from aiohttp import web

from tests.llm.upstream import COUNTS, DONE, FINISH, ROLE, chunk, served
from tests.outside.conftest import make_provider
from tests.outside.fleet import Fleet, fleet
from tests.outside.kinds import KINDS
from tests.outside.site import Server, Site

Events = list[dict[str, Any]]


def make_agent(
    http: httpx.Client, slug: str, template: str, model: str, config: dict[str, Any], kind: str = ""
) -> None:
    toolsets = []
    if kind:
        made = http.post("toolsets", json={"slug": f"{slug}-tools", "name": "Tools", "kind": kind})
        assert made.status_code == 201, made.text
        toolsets = [f"{slug}-tools"]
    body = {"slug": slug, "name": slug, "template": template, "model": model, "config": config, "toolsets": toolsets}
    made = http.post("agents", json=body)
    assert made.status_code == 201, made.text
    assert http.patch(f"agents/{slug}/status", json={"status": "active"}).status_code == 200


def ask(http: httpx.Client, slug: str) -> httpx.Response:
    messages = [{"role": "user", "content": "Go."}]
    body = {"model": slug, "messages": messages, "metadata": {"session_id": f"s-{uuid4().hex}"}}
    response = http.post("chat/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response


def events_of(http: httpx.Client, run_id: str) -> Events:
    found: Events = []
    while True:
        page = http.get(f"runs/{run_id}/events", params={"after": len(found), "limit": 1000}).json()["data"]
        found += [row["event"] for row in page]
        if len(page) < 1000:
            return found


POINTS = {"type": "object", "properties": {"points": {"type": "integer"}}, "required": ["points"]}
TASK = [
    {"name": "write", "instruction": "STEP_WRITE"},
    {"name": "read", "instruction": "STEP_READ", "depends_on": ["write"]},
    {"name": "count", "instruction": "STEP_COUNT", "output_schema": POINTS},
]


@pytest.mark.parametrize("slug", KINDS)
def test_a_task_and_a_workflow_with_tools_through_each_kind(uvicorn: Server, kinds: dict[str, str], slug: str) -> None:
    with uvicorn.client() as http:
        config = {"steps": TASK, "parallelExecution": True, "outputFormat": "json"}
        make_agent(http, f"task-{slug}", "task", kinds[slug], config, "files")
        response = ask(http, f"task-{slug}")
        document = json.loads(response.json()["choices"][0]["message"]["content"])
        assert [(each["name"], each["status"], each["attempts"]) for each in document["steps"]] == [
            ("write", "ok", 1),
            ("read", "ok", 1),
            ("count", "ok", 1),
        ]
        outputs = [each["output"] for each in document["steps"]]
        assert outputs == ["plan.md is written.", "It has two points.", {"points": 2}]
        told = events_of(http, response.headers["X-Run-Id"])
        results = [event["content"] for event in told if event["type"] == "TOOL_CALL_RESULT"]
        assert len(results) == 2
        assert any("one, two" in result for result in results)
        steps = [
            {"name": "write", "prompt": "STEP_WRITE"},
            {"name": "none", "prompt": "STEP_READ", "when": "steps.write.output == ''"},
            {"name": "read", "prompt": "STEP_READ {{ steps.write.output }}", "when": "input == 'Go.'"},
        ]
        make_agent(http, f"workflow-{slug}", "workflow", kinds[slug], {"steps": steps}, "files")
        assert ask(http, f"workflow-{slug}").json()["choices"][0]["message"]["content"] == "It has two points."


class Upstream:
    """A model that knows the steps below by their instructions. `calls` counts the requests by step; those that bring
    the result of a tool count as `<step>+tool`.
    """

    WORDS = {"slow": ("s1 s2 s3 s4 s5 s6 s7 s8 s9 s10", 0.15), "tool": ("t1 t2 t3 t4 t5", 0.15)}

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.url = ""
        self.held: set[str] = set()  # steps that get no word

    async def chat(self, request: web.Request) -> web.StreamResponse:
        messages = (await request.json())["messages"]
        place, asked = [(n, m) for n, m in enumerate(messages) if m["role"] == "user"][-1]
        step, answered = asked["content"].removeprefix("Do "), place < len(messages) - 1
        self.calls[f"{step}+tool" if answered else step] += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for part in self._parts(step, answered):
            await response.write(part)
        return response

    async def _parts(self, step: str, answered: bool) -> AsyncIterator[bytes]:
        yield ROLE
        while step in self.held:  # noqa: ASYNC110 of another thread
            await asyncio.sleep(0.05)
        if step == "flaky" and self.calls[step] == 1:
            yield chunk({"content": "half an "})
            return
        if step == "tool" and not answered:
            arguments = json.dumps({"filename": f"{uuid4().hex}.md", "content": "x"})
            function = {"name": "create_file", "arguments": arguments}
            yield chunk({"tool_calls": [{"index": 0, "id": f"call_{uuid4().hex}", "function": function}]})
            yield chunk(finish="tool_calls")
        else:
            text, pause = self.WORDS.get(step, (f"{step} done", 0.05))
            for word in text.split():
                yield chunk({"content": f"{word} "})
                await asyncio.sleep(pause)
            yield FINISH
        yield COUNTS
        yield DONE


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", made.chat)
    with served(app) as url:
        made.url = f"{url}/v1"
        yield made


@pytest.fixture(scope="module")
def killed(site: Site, upstream: Upstream) -> Iterator[Fleet]:
    env = {**site.env, "RUN_LEASE_SECONDS": "2", "RUN_ATTEMPTS": "1000", "HEARTBEAT_SECONDS": "1"}
    with fleet(Site(site.home, env), servers=1) as made:
        make_provider(made.servers[0], "killed", upstream.url)
        yield made


STEPS = [
    {"name": name, "instruction": f"Do {name}", "depends_on": needs}
    for name, needs in {"quick": [], "slow": [], "tool": [], "next": ["quick"], "end": ["slow", "tool", "next"]}.items()
]
OUTPUTS = {
    "quick": "quick done",
    "slow": "s1 s2 s3 s4 s5 s6 s7 s8 s9 s10",
    "tool": "t1 t2 t3 t4 t5",
    "next": "next done",
    "end": "end done",
}


def finished(events: Events) -> set[str]:
    """Without those that were only cut by a restart."""
    return {event["stepName"] for event in events if event["type"] == "STEP_FINISHED" and "metadata" in event}


def said(events: Events, text: str) -> bool:
    return any(text in event.get("delta", "") for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


class Moment(NamedTuple):
    """When a run is killed. During a call a person would be asked: where none is awaited, its step is held."""

    parallel: bool
    held: set[str]
    reached: Callable[[Events], bool]


MOMENTS = {
    "a step has ended": Moment(False, {"tool"}, lambda events: "quick" in finished(events)),
    "two have ended": Moment(True, {"tool"}, lambda events: {"quick", "next"} <= finished(events)),
    "a tool was called": Moment(
        False, set(), lambda events: any(event["type"] == "TOOL_CALL_RESULT" for event in events)
    ),
    "the step that called it has ended": Moment(True, set(), lambda events: "tool" in finished(events)),
    "in the middle of a step": Moment(False, {"tool"}, lambda events: said(events, "s4")),
    "all but the last have ended": Moment(
        True, set(), lambda events: {"quick", "next", "slow", "tool"} <= finished(events)
    ),
}


@contextmanager
def begun(fleet: Fleet, parallel: bool) -> Iterator[tuple[httpx.Client, str]]:
    """A task that goes on by itself, and a client that can read it."""
    slug = f"killed-{uuid4().hex[:8]}"
    with fleet.servers[0].client() as http:
        config = {"steps": STEPS, "parallelExecution": parallel, "outputFormat": "json"}
        make_agent(http, slug, "task", "killed/any", config, "files")
        body = {"model": slug, "messages": [{"role": "user", "content": "Go."}], "stream": True}
        with http.stream("POST", "chat/completions", json=body, headers={"Idempotency-Key": uuid4().hex}) as response:
            assert response.status_code == 200
            run_id = response.headers["X-Run-Id"]
            yield http, run_id


def until(http: httpx.Client, run_id: str, reached: Callable[[Events], bool]) -> Events:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            events = events_of(http, run_id)
        except (httpx.TransportError, KeyError):
            time.sleep(0.2)
            continue
        if reached(events):
            return events
        assert not ended(events), events[-1]
        time.sleep(0.02)
    raise AssertionError(events_of(http, run_id)[-5:])


def further(done: dict[str, int], events: Events) -> bool:
    return bool(finished(events) - set(done)) or ended(events)


def ended(events: Events) -> bool:
    return bool(events) and events[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")


def kept(events: Events) -> Events:
    """Without what a restart took back."""
    found: list[tuple[int, dict[str, Any]]] = []
    for seq, event in enumerate(events, 1):
        if event.get("name") == "attempt_restarted":
            found = [(place, told) for place, told in found if place <= event["value"]["keep"]]
        found.append((seq, event))
    return [event for _, event in found]


def check(fleet: Fleet, events: Events, run_id: str) -> None:
    """The run ended well, tells each step once, and its file was made once."""
    assert events[-1]["type"] == "RUN_FINISHED", events[-1]
    valid = kept(events)
    for type in ("STEP_STARTED", "STEP_FINISHED"):
        assert Counter(event["stepName"] for event in valid if event["type"] == type) == Counter(list(OUTPUTS))
    starts = [event["messageId"] for event in valid if event["type"] == "TEXT_MESSAGE_START"]
    texts = dict.fromkeys(starts, "")
    for event in valid:
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            texts[event["messageId"]] += event["delta"]
    *spoken, answer = [text.strip() for text in texts.values()]
    assert sorted(spoken) == sorted(OUTPUTS.values())
    document = json.loads(answer)
    assert {each["name"]: each["output"].strip() for each in document["steps"]} == OUTPUTS
    assert {each["status"] for each in document["steps"]} == {"ok"}
    query = "SELECT status FROM tool_call WHERE run_id = %s"
    with psycopg.connect(fleet.servers[0].site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        assert connection.execute(query, [run_id]).fetchall() == [("succeeded",)]


def stop_all(fleet: Fleet) -> None:
    for member in fleet.members:
        member.kill()


def test_a_step_whose_model_breaks_off_is_tried_again(killed: Fleet, upstream: Upstream) -> None:
    upstream.calls.clear()
    with killed.servers[0].client() as http:
        steps = [{"name": "flaky", "instruction": "Do flaky"}, {"name": "quick", "instruction": "Do quick"}]
        config = {"steps": steps, "outputFormat": "json", "retryCount": 1}
        make_agent(http, "flaky", "task", "killed/any", config)
        response = ask(http, "flaky")
        document = json.loads(response.json()["choices"][0]["message"]["content"])
        assert [(each["status"], each["attempts"]) for each in document["steps"]] == [("ok", 2), ("ok", 1)]
        messages = http.get(f"sessions/{response.headers['X-Session-Id']}/messages").json()["data"]
        assert [message["content"].strip() for message in messages][1:-1] == ["flaky done", "quick done"]
    assert upstream.calls == {"flaky": 2, "quick": 1}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_task_goes_on_without_repeating_a_finished_step(
    killed: Fleet, upstream: Upstream, moment: str
) -> None:
    upstream.calls.clear()
    parallel, upstream.held, reached = MOMENTS[moment]
    with begun(killed, parallel) as (http, run_id):
        events = until(http, run_id, reached)
        done, before = finished(events), upstream.calls.copy()
        killed.members[0].kill()
    upstream.held = set()
    with killed.servers[0].client() as http:
        killed.members[0].until_ready()
        events = until(http, run_id, ended)
    check(killed, events, run_id)
    assert any(event.get("name") == "attempt_restarted" for event in events)
    repeated = {name: upstream.calls[name] for name in done if upstream.calls[name] != before[name]}
    assert (repeated, {name: before[name] for name in done}) == ({}, dict.fromkeys(done, 1))
    if moment == "a tool was called":
        assert upstream.calls["tool"] == 1  # the answer that called the tool was not asked for again
    assert upstream.calls.total() <= 6 + 3  # those that were under way


@pytest.mark.parametrize("parallel", [False, True], ids=["in turn", "parallel"])
def test_a_task_whose_processes_are_killed_again_and_again_ends(
    killed: Fleet, upstream: Upstream, parallel: bool
) -> None:
    """Each time that a further step has ended, whoever has the run is killed.

    Not while the tool is called, about which a person would be asked, nor after the last step.
    """
    upstream.calls.clear()
    upstream.held = {"tool", "end"}
    done: dict[str, int] = {}  # with how often the model had been asked when the step was found to have ended
    with begun(killed, parallel) as (_, run_id):
        pass
    with killed.servers[0].client() as http:
        while True:
            events = until(http, run_id, partial(further, done))
            if ended(events):
                break
            done |= {name: upstream.calls[name] for name in finished(events) - set(done)}
            stop_all(killed)
            killed.members[0].until_ready()
            if done.keys() >= ({"quick", "slow", "next"} if parallel else {"quick", "slow"}):
                upstream.held.discard("tool")
            if OUTPUTS.keys() - done.keys() == {"end"}:
                upstream.held.discard("end")
    check(killed, events, run_id)
    assert {name: upstream.calls[name] for name in done} == done
