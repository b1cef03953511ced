"""Clients that go away at any byte, and streams that hang: nothing is left over, and others are served."""

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psycopg
import pytest

from tests.outside.site import Server, Site, serving

OPEN_RUNS = "SELECT count(*) FROM run WHERE finished_at IS NULL"
CONNECTIONS = """
    SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%'), count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'small'
"""


@pytest.fixture(scope="module")
def small(site: Site) -> Iterator[Server]:
    """A server with the smallest pool."""
    narrow = Site(site.home, {**site.env, "DATABASE_POOL_SIZE": "2", "PGAPPNAME": "small"})
    with serving(narrow, "uvicorn") as server:
        yield server


def asked(server: Server, body: dict[str, Any]) -> socket.socket:
    """A raw request on its way."""
    parts = urlsplit(server.base_url)
    data = orjson.dumps(body)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.site.key('acme')}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    client = socket.create_connection((parts.hostname, parts.port), timeout=20)
    client.sendall(head.encode() + data)
    return client


def query(server: Server, sql: str) -> Any:
    with psycopg.connect(server.site.env["DATABASE_URL"], options="-c role=app_ops", autocommit=True) as connection:
        return connection.execute(sql).fetchone()


def wait_until_no_run_is_open(server: Server) -> None:
    end = time.monotonic() + 15
    while query(server, OPEN_RUNS)[0]:
        assert time.monotonic() < end, "a run never ended"
        time.sleep(0.1)


def script(*steps: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "#script " + orjson.dumps(steps).decode()}]


def test_clients_that_drop_at_any_byte_leave_nothing(small: Server) -> None:
    dice = random.Random(7)  # noqa: S311 a fixed sequence
    steps = script({"repeat": "word", "times": 8, "delay_ms": 5})

    def drop(number: int) -> None:
        model = ("scripted", "scripted/default")[number % 2]
        client = asked(small, {"model": model, "messages": steps, "stream": number % 3 != 0})
        wanted = dice.choice((0, 0, 1, 100, 300, 1000, 1500))
        time.sleep(dice.random() * 0.03)
        while wanted > 0 and (read := client.recv(min(wanted, 256))):
            wanted -= len(read)
        client.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(drop, range(200)))
    wait_until_no_run_is_open(small)
    waiting, connections = query(small, CONNECTIONS)
    assert waiting == 0
    assert 0 < connections <= 7  # its pool, two for the threads and two for the requests, and the event log's three
    assert "Traceback" not in Path(small.log).read_text()
    with small.client() as http:
        assert http.get("me").status_code == 200


def test_hanging_streams_hold_no_connection(small: Server) -> None:
    steps = script({"say": "half an"}, {"fail": "hang"})
    hanging = [asked(small, {"model": "scripted/default", "messages": steps, "stream": True}) for _ in range(20)]
    for client in hanging:
        received = b""
        while b"half" not in received:
            received += client.recv(4096)
    with small.client() as http, ThreadPoolExecutor(4) as threads:
        started = time.monotonic()
        answers = list(threads.map(lambda _: http.get("agents").status_code, range(20)))
        assert answers == [200] * 20
        assert time.monotonic() - started < 10
    for client in hanging:
        client.close()
    wait_until_no_run_is_open(small)
