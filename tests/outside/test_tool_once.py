"""Servers and workers that are killed while tools change something: nothing is done twice, nor said to be done.

More of it: TOOL_KILLS=100 pytest tests/outside/test_tool_once.py
"""

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest

from runs.tool_ledger import UNKNOWN
from tests.agents.graphs import CREATE_AGENT
from tests.outside.desk import DOCUMENT, Desk, open_desk
from tests.outside.fleet import Fleet, fleet, scale
from tests.outside.site import Site

pytestmark = pytest.mark.slow
KILLS = scale("TOOL_KILLS", 10)
LANES = 4  # runs at once
BETWEEN_KILLS = (0.3, 3)  # seconds; a killed server needs some of them to come back
RUN_SECONDS = 90  # until a run counts as lost
ROWS = "SELECT arguments, status, result, fence FROM tool_call WHERE run_id = %s ORDER BY created_at, id"
HASTY = {"RUN_LEASE_SECONDS": "2", "RUN_ATTEMPTS": "1000", "HEARTBEAT_SECONDS": "1"}
REACHABLE = {"ALLOW_PRIVATE_TOOLS": "true", "TOOL_RATE_PER_HOST": "100000"}
AGENTS = {"by-turn": "conversation", "by-graph": "worker"}


@pytest.fixture(scope="module")
def hasty(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server and a worker that believe in a lost process soon, and know a template that is a graph."""
    folder = tmp_path_factory.mktemp("templates")
    (folder / "worker").mkdir()
    (folder / "worker" / "__init__.py").write_text(CREATE_AGENT)
    with fleet(Site(site.home, {**site.env, **HASTY, **REACHABLE, "TEMPLATE_DIRS": str(folder)}), 1) as made:
        yield made


@pytest.fixture
def desk() -> Iterator[Desk]:
    with open_desk() as desk:
        yield desk


@pytest.fixture
def agents(hasty: Fleet, desk: Desk) -> Iterator[None]:
    hasty.members[0].until_ready()
    toolset = {"slug": "desk", "name": "Desk", "kind": "http", "config": {"document": DOCUMENT, "base_url": desk.url}}
    with client(hasty) as http:
        http.post("toolsets", json=toolset).raise_for_status()
        for slug, template in AGENTS.items():
            body = {"slug": slug, "name": slug, "template": template, "model": "scripted/default", "toolsets": ["desk"]}
            http.post("agents", json=body).raise_for_status()
            http.patch(f"agents/{slug}/status", json={"status": "active"}).raise_for_status()
    yield
    hasty.members[0].until_ready()
    with client(hasty) as http:
        for path in (*(f"agents/{slug}" for slug in AGENTS), "toolsets/desk"):
            http.delete(path).raise_for_status()


def client(hasty: Fleet) -> httpx.Client:
    return hasty.servers[0].client()


def order(item: str) -> dict[str, Any]:
    return {"tool": "createOrder", "args": {"body": {"item": item}}}


class Told(NamedTuple):
    """What became of a run: its status, the rows of its orders, what the model was told of each, and its last words."""

    status: str
    rows: list[tuple[str, str, str, int]]  # item, status, result, fence
    results: list[str]
    said: str


def begin(hasty: Fleet, agent: str, steps: list[dict[str, Any]]) -> str:
    """The id of the run, asked for until a server has said that it is there."""
    key = uuid4().hex
    messages = [{"role": "user", "content": "#script " + json.dumps(steps)}]
    body = {"model": agent, "messages": messages, "stream": True, "metadata": {"session_id": f"once-{key}"}}

    def asked(http: httpx.Client) -> str:
        with http.stream("POST", "chat/completions", json=body, headers={"Idempotency-Key": key}) as response:
            response.raise_for_status()
            return response.headers["X-Run-Id"]

    return patiently(hasty, asked)


def patiently(hasty: Fleet, ask: Callable[[httpx.Client], Any]) -> Any:
    """The answer, once a server is there to give it."""
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        try:
            with client(hasty) as http:
                return ask(http)
        except (httpx.TransportError, httpx.HTTPStatusError):
            assert time.monotonic() < deadline, hasty.logs()[-4000:]
            time.sleep(0.2)


def ended(hasty: Fleet, run_id: str) -> Told:
    deadline = time.monotonic() + RUN_SECONDS
    while (run := patiently(hasty, lambda http: read(http, f"runs/{run_id}")))["finished_at"] is None:
        assert time.monotonic() < deadline, run
        patiently(hasty, lambda http: let_it_be(http, run_id))
        time.sleep(0.2)
    messages = patiently(hasty, lambda http: read(http, f"sessions/{run['session_id']}/messages"))["data"]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    return Told(run["status"], rows(hasty, run_id), results, messages[-1]["content"])


def let_it_be(http: httpx.Client, run_id: str) -> None:
    """A person says that no call of unknown end shall be made again. One that is decided meanwhile stays so."""
    for asked in read(http, "approvals", status="pending", run_id=run_id)["data"]:
        assert asked["reason"] == "unknown"
        entry = {"interruptId": asked["id"], "status": "cancelled"}
        answer = http.post(f"runs/{run_id}/resume", json={"resume": [entry]})
        assert answer.status_code in (200, 409), answer.text


def read(http: httpx.Client, path: str, **filters: str) -> Any:
    return http.get(path, params={"limit": 100, **filters}).raise_for_status().json()


def rows(hasty: Fleet, run_id: str) -> list[tuple[str, str, str, int]]:
    with psycopg.connect(hasty.servers[0].site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        found = connection.execute(ROWS, [run_id]).fetchall()
    return [(json.loads(arguments)["body"]["item"], *rest) for arguments, *rest in found]


@pytest.fixture(params=AGENTS)
def agent(agents: None, request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_call_that_was_under_way_is_not_made_again(hasty: Fleet, desk: Desk, agent: str) -> None:
    killed = threading.Event()
    desk.before = lambda item: killed.wait(RUN_SECONDS)
    run_id = begin(hasty, agent, [order("corn"), {"say": "I do not know."}])
    desk.until(1)
    hasty.members[0].kill()
    killed.set()
    told = ended(hasty, run_id)
    assert desk.orders == ["corn"]
    assert told == Told("succeeded", [("corn", "started", "", 1)], [UNKNOWN.content], "I do not know.")


def test_a_call_that_was_finished_is_answered_from_its_row(hasty: Fleet, desk: Desk, agent: str) -> None:
    words = " ".join(["word"] * 20)
    run_id = begin(hasty, agent, [order("corn"), {"say": words, "delay_ms": 500}])
    desk.until(1)
    deadline = time.monotonic() + RUN_SECONDS
    while not (before := [row for row in rows(hasty, run_id) if row[1] == "succeeded"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    hasty.members[0].kill()
    told = ended(hasty, run_id)
    assert desk.orders == ["corn"]
    assert told == Told("succeeded", before, [before[0][2]], words)
    assert '"number":1' in before[0][2]
    events = patiently(hasty, lambda http: read(http, f"runs/{run_id}/events"))["data"]
    assert "attempt_restarted" in [each["event"].get("name") for each in events]


@pytest.mark.timeout(120 + 20 * KILLS)
def test_nothing_is_done_twice_whenever_processes_are_killed(hasty: Fleet, desk: Desk, agents: None) -> None:
    """Each item is ordered by one call of one run. What is known of it agrees with what the desk has."""
    desk.before = lambda item: time.sleep(random.uniform(0, 0.4))
    over = threading.Event()
    numbers = itertools.count()

    def lane(agent: str) -> list[Told]:
        found = []
        while not over.is_set():
            items = [f"item {next(numbers)}" for _ in range(4)]
            steps = [
                step for item in items for step in ({"say": "And", "delay_ms": random.randrange(200)}, order(item))
            ]
            told = ended(hasty, begin(hasty, agent, [*steps, {"say": "done"}]))
            assert [row[0] for row in told.rows] == items
            found.append(told)
        return found

    with ThreadPoolExecutor(LANES) as threads:
        lanes = [threads.submit(lane, agent) for _ in range(LANES // len(AGENTS)) for agent in AGENTS]
        try:
            for _ in range(KILLS):
                time.sleep(random.uniform(*BETWEEN_KILLS))
                random.choice(hasty.members).kill()
        finally:
            over.set()
        runs = [told for each in lanes for told in each.result()]
    count = Counter(desk.orders)
    known = Counter(row[1] for told in runs for row in told.rows)
    attempts = Counter(row[3] for told in runs for row in told.rows)
    print(
        f"\n{len(runs)} runs, {KILLS} kills, orders by status {dict(known)}, by the fence of their attempt {attempts}"
    )
    assert [item for item, times in count.items() if times > 1] == []
    for told in runs:
        assert (told.status, told.said.split()[-1]) == ("succeeded", "done")
        for (item, status, result, _), heard in zip(told.rows, told.results, strict=True):
            assert (status, heard) in (("started", UNKNOWN.content), ("succeeded", result))
            assert count[item] == 1 or (count[item] == 0 and status == "started")
