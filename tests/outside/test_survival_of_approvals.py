"""Runs that wait for persons while their servers are killed: nothing is done twice, and no answer is lost.

More of it: APPROVAL_RUNS=200 APPROVAL_KILLS=40 pytest tests/outside/test_survival_of_approvals.py
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psycopg
import pytest

from tests.outside.fleet import Fleet, fleet, scale
from tests.outside.site import Server, Site

RUNS = scale("APPROVAL_RUNS", 24)
KILLS = scale("APPROVAL_KILLS", 5)
AT_ONCE = 8  # runs
RUN_SECONDS = 180  # until a run counts as lost
TROUBLE = (httpx.TransportError, AssertionError)


@pytest.fixture(scope="module")
def hasty(site: Site) -> Iterator[Fleet]:
    env = {**site.env, "RUN_LEASE_SECONDS": "2", "RUN_ATTEMPTS": "1000", "HEARTBEAT_SECONDS": "1"}
    with fleet(Site(site.home, env)) as made:
        with made.servers[0].client() as http:
            toolset = {"slug": "papers", "name": "Papers", "kind": "files", "policy": {"approval": "side_effects"}}
            assert http.post("toolsets", json=toolset).status_code == 201
            agent = {"slug": "scribe", "name": "Scribe", "template": "conversation", "model": "scripted/default"}
            assert http.post("agents", json={**agent, "toolsets": ["papers"]}).status_code == 201
            assert http.patch("agents/scribe/status", json={"status": "active"}).status_code == 200
        yield made


@pytest.mark.timeout(120 + 15 * KILLS + 6 * RUNS)
def test_nothing_is_done_twice_and_no_answer_is_lost(hasty: Fleet) -> None:
    persons = [Person(hasty.servers) for _ in range(3)]  # who all see the same list
    harm = threading.Thread(target=do_harm, args=[hasty])
    harm.start()
    with ThreadPoolExecutor(AT_ONCE) as lanes:
        done = list(lanes.map(lambda _: one_run(hasty.servers), range(RUNS)))
    harm.join()
    for person in persons:
        person.leave()
    decided = Counter(id for person in persons for id in person.decided)
    told = Counter(code for person in persons for code in person.answers)
    wrong = [fault for run, mark, ended in done for fault in faults_of(hasty.servers[0].site, run, mark, ended)]
    print(f"\n{RUNS} runs, {KILLS} kills, {len(decided)} decisions; persons were answered {dict(told)}")
    assert wrong == []
    assert [id for id, count in decided.items() if count > 1] == []
    assert "deadlock" not in hasty.logs()


class Person:
    """Decides all that is asked, wherever: what nobody knows is denied, all else approved."""

    def __init__(self, servers: list[Server]) -> None:
        self.decided: list[str] = []
        self.answers: list[int] = []
        self._servers = servers
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def leave(self) -> None:
        self._gone.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._gone.wait(0.05):
            with suppress(*TROUBLE):
                found = ask(self._servers, "GET", "approvals?status=pending&limit=100").json()["data"]
                for approval in random.sample(found, min(len(found), 5)):
                    self._decide(approval)

    def _decide(self, approval: dict[str, Any]) -> None:
        payload = {"approved": approval["reason"] != "unknown"}
        entry = {"interruptId": approval["id"], "status": "resolved", "payload": payload}
        answer = ask(self._servers, "POST", f"runs/{approval['run_id']}/resume", {"resume": [entry]})
        self.answers.append(answer.status_code)
        assert answer.status_code in (200, 404, 409), answer.text
        if answer.status_code == 200:
            self.decided.append(approval["id"])


def ask(servers: list[Server], method: str, path: str, body: Any = None, key: str = "") -> httpx.Response:
    """Of any server. Raises what it takes to ask again."""
    headers = {"Idempotency-Key": key} if key else {}
    with random.choice(servers).client() as http:
        answer = http.request(method, path, json=body, headers=headers)
    assert answer.status_code < 500, answer.text
    return answer


def insist(servers: list[Server], *asked: Any) -> httpx.Response:
    while True:
        try:
            return ask(servers, *asked)
        except TROUBLE:
            time.sleep(0.2)


def one_run(servers: list[Server]) -> tuple[str, str, str]:
    """Its id, what its calls write, and how it ended; a few are cancelled, or asked for by AG-UI."""
    mark, key = uuid4().hex, uuid4().hex
    calls = [{"tool": "append_file", "args": {"filename": mark, "content": f"{number} "}} for number in range(3)]
    text = "#script " + orjson.dumps([*calls, {"say": "Done."}]).decode()
    turn = {
        "threadId": mark,
        "runId": "r",
        "state": None,
        "messages": [{"id": "m", "role": "user", "content": text}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    run = insist(servers, "POST", "agents/scribe/ag-ui", turn, key).headers["X-Run-Id"]
    if random.random() < 0.15:
        time.sleep(random.uniform(0, 1.5))
        insist(servers, "POST", f"runs/{run}/cancel", {})
    end = time.monotonic() + RUN_SECONDS
    while (found := insist(servers, "GET", f"runs/{run}").json())["status"] in ("running", "waiting", "queued"):
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return run, mark, found["status"]


def faults_of(site: Site, run: str, mark: str, ended: str) -> list[str]:
    written = "".join(path.read_text() for path in site.home.rglob(mark) if path.is_file()).split()
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        told = connection.execute("SELECT seq, type, data FROM run_event WHERE run_id = %s ORDER BY seq", [run])
        events = told.fetchall()
        approvals = Counter(
            connection.execute("SELECT reason, status FROM tool_approval WHERE run_id = %s", [run]).fetchall()
        )
    faults = [f"{run} wrote {written}"] if len(set(written)) != len(written) else []
    unknown = sum(count for (reason, _), count in approvals.items() if reason == "unknown")
    if ended == "succeeded":
        faults += [f"{run} wrote {written} with {approvals}"] if len(written) + unknown < 3 else []
        faults += [f"{run} asked {approvals}"] if approvals["policy", "approved"] != 3 else []
    elif ended != "cancelled":
        faults.append(f"{run} {ended}")
    faults += [f"{run} left {approvals}"] if any(status == "pending" for _, status in approvals) else []
    faults += [f"{run} has holes"] if [seq for seq, *_ in events] != list(range(1, len(events) + 1)) else []
    return faults + [f"{run}: {fault}" for fault in wrong_grammar([(type, data) for _, type, data in events])]


def wrong_grammar(events: list[tuple[str, Any]]) -> list[str]:
    running, faults = False, []
    for place, (type, _) in enumerate(events, 1):
        if (type == "RUN_STARTED") is running:
            faults.append(f"{type} at {place}")
        running = type not in ("RUN_FINISHED", "RUN_ERROR")
    return faults + (["no end"] if running else [])


def do_harm(fleet: Fleet) -> None:
    for _ in range(KILLS):
        time.sleep(random.uniform(0.5, 4))
        random.choice(fleet.members).kill()
