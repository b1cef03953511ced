"""Clients that go away at any byte, and streams that hang: nothing is left over, and others are served.

The issue's size: DISCONNECT_CLIENTS=1000 pytest tests/outside/test_disconnects.py
"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.outside.fleet import scale
from tests.outside.leavers import KINDS, Leaver, connected, read, request, script
from tests.outside.site import Server, Site, serving

CLIENTS = scale("DISCONNECT_CLIENTS", 140)
AT_ONCE = 16
WARM_UP = 50  # clients, after which the server has what it needs at any load
SETTLE_SECONDS = 20
GROWTH = 48  # megabytes
ESTABLISHED, CLOSE_WAIT = "01", "08"
OPEN_RUNS = "SELECT (SELECT count(*) FROM run WHERE finished_at IS NULL) + (SELECT count(*) FROM run_lease)"
ENDS = "SELECT json_object_agg(status, n) FROM (SELECT status, count(*) AS n FROM run GROUP BY status) AS counts"
CONNECTIONS = """
    SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%'), count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'small'
"""


@pytest.fixture(scope="module", params=["uvicorn", "daphne"])
def small(request: pytest.FixtureRequest, site: Site) -> Iterator[Server]:
    """A server with the smallest pool, which tells what it holds."""
    narrow = Site(site.home, {**site.env, "DATABASE_POOL_SIZE": "2", "PGAPPNAME": "small"})
    with serving(narrow, request.param, "tests.outside.census:application") as server:
        yield server


def query(server: Server, sql: str) -> Any:
    with psycopg.connect(server.site.env["DATABASE_URL"], options="-c role=app_ops", autocommit=True) as connection:
        return connection.execute(sql).fetchone()


def wait_until(done: Callable[[], bool], fault: str) -> None:
    end = time.monotonic() + SETTLE_SECONDS
    while not done():
        assert time.monotonic() < end, fault
        time.sleep(0.1)


def wait_until_no_run_is_open(server: Server) -> None:
    wait_until(lambda: query(server, OPEN_RUNS)[0] == 0, "a run never ended, or its lease stays")


def connections_of(server: Server) -> int:
    """TCP connections that the server has not closed."""
    port = f":{int(server.base_url.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[1].endswith(port) and fields[3] in (ESTABLISHED, CLOSE_WAIT) for fields in lines)


def census(server: Server) -> dict[str, Any]:
    taken: dict[str, Any] = httpx.get(f"{server.base_url}/census", trust_env=False, timeout=20).json()
    return taken


def at_rest(server: Server) -> dict[str, Any]:
    """What the process holds once everything that was asked of it is over."""
    wait_until_no_run_is_open(server)
    wait_until(lambda: connections_of(server) == 0, "a connection stays open")
    before, now = {}, census(server)
    while before != now:
        time.sleep(0.5)
        before, now = now, census(server)
    return now


def memory_of(server: Server) -> float:
    """Resident megabytes."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def leave(server: Server, clients: int) -> None:
    """So many clients of all kinds, in turn."""
    kinds = [kind for kind, _ in zip(cycle(KINDS), range(clients))]

    def go(number: int) -> None:
        Leaver(server, random.Random(f"{clients} {number}")).go(kinds[number])

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(go, range(clients)))


@pytest.mark.timeout(120 + CLIENTS // 2)
def test_clients_that_drop_at_any_byte_leave_nothing(small: Server) -> None:
    leave(small, WARM_UP)
    before, memory = at_rest(small), memory_of(small)
    leave(small, CLIENTS)
    after, grown = at_rest(small), memory_of(small) - memory
    show(small, after, grown)
    assert {**after, "tasks": lasting(after)} == {**before, "tasks": lasting(before)}
    assert after["runs"] == {"live": 0, "followed": 0}
    assert after["objects"] == {}
    assert grown < GROWTH
    waiting, connections = query(small, CONNECTIONS)
    assert waiting == 0
    assert 0 < connections <= 7  # its pool, two for the threads and two for the requests, and the event log's three
    assert "Traceback" not in Path(small.log).read_text()
    with small.client() as http:
        assert http.get("me").status_code == 200


def lasting(found: dict[str, Any]) -> dict[str, int]:
    """But for the sign of life of sockets, which goes on for some seconds after the last of them."""
    return {name: count for name, count in found["tasks"].items() if name != "Presence._beat_again_and_again"}


def show(server: Server, after: dict[str, Any], grown: float) -> None:
    ends = query(server, ENDS)[0]
    print(f"\n{CLIENTS} clients of {server.kind} that went away; {sum(ends.values())} runs: {ends}")
    print(f"  left: {after['runs']}, objects {after['objects']}, memory {grown:+.1f} MB")
    print(f"  tasks of the server itself: {after['tasks']}")


def test_hanging_streams_hold_no_connection(small: Server) -> None:
    body = {"model": "scripted/default", "messages": script({"say": "half an"}, {"fail": "hang"}), "stream": True}
    hanging = [connected(small) for _ in range(20)]
    for client in hanging:
        client.sendall(request(small, "POST", "/v1/chat/completions", body))
        assert b"half" in read(client, until=b"half")
    with small.client() as http, ThreadPoolExecutor(4) as threads:
        started = time.monotonic()
        answers = list(threads.map(lambda _: http.get("agents").status_code, range(20)))
        assert answers == [200] * 20
        assert time.monotonic() - started < 10
    for client in hanging:
        client.close()
    wait_until_no_run_is_open(small)
