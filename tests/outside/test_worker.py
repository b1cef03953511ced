"""What becomes of the jobs of a worker that ends: by a signal, and by force."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.outside.processes import running
from tests.outside.site import CHECKOUT, Site

COMMAND = [sys.executable, "-m", "tests.outside.worker"]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


@contextmanager
def working(site: Site, journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {**site.env, "JOURNAL": str(journal)}
    log = journal.with_name("worker.log")
    before = reported(site)
    with running(COMMAND, log=log, ready=lambda: reported(site) > before, env=env, cwd=CHECKOUT) as process:
        yield process


def ask(site: Site, query: str, *values: Any) -> list[Any]:
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops", autocommit=True) as connection:
        cursor = connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def reported(site: Site) -> int:
    return int(ask(site, "SELECT coalesce(max(id), 0) FROM procrastinate_workers")[0][0])


def put(site: Site, name: str, journal: Path | None = None, *, seconds: float = 0, queue: str = "default") -> None:
    arguments = {"journal": str(journal), "seconds": seconds} if journal else {}
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES (%s, %s, %s)"
    ask(site, insert, queue, name, Jsonb({"arguments": arguments}))


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def statuses(site: Site) -> dict[str, str]:
    return dict(ask(site, "SELECT task_name, status FROM procrastinate_jobs WHERE task_name LIKE 'test.%%'"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_calls_the_hook_and_lets_jobs_finish(site: Site, journal: Path, number: signal.Signals) -> None:
    put(site, "test.thread", journal, seconds=2)
    put(site, "test.loop", journal, seconds=2.5, queue="runs")
    with working(site, journal) as worker:
        until(lambda: journal.read_text().count("began") == 2)
        os.kill(worker.pid, number)
        assert worker.wait(15) == 0
    stopping, *ended = journal.read_text().splitlines()[2:]
    assert (stopping, set(ended)) == ("stopping", {"thread ended", "loop ended"})
    assert set(statuses(site).values()) == {"succeeded"}
    ticks = "SELECT args ->> 'timestamp' FROM procrastinate_jobs WHERE task_name = %s AND args ? 'timestamp'"
    moments = ask(site, ticks, "core.rescue_jobs")
    assert len(set(moments)) == len(moments) > 0


def test_a_job_of_a_killed_worker_is_finished_by_another(site: Site, journal: Path) -> None:
    put(site, "test.thread", journal, seconds=2)
    with working(site, journal) as first:
        until(lambda: "began" in journal.read_text())
        first.kill()
        first.wait()
    ask(site, "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 minute'")
    put(site, "core.rescue_jobs")  # rather than wait for its time
    with working(site, journal):
        until(lambda: "ended" in journal.read_text())
    assert journal.read_text().splitlines() == ["thread began", "thread began", "thread ended", "stopping"]
    attempts = "SELECT status, attempts FROM procrastinate_jobs WHERE task_name = 'test.thread' ORDER BY id DESC"
    assert ask(site, attempts)[0] == ("succeeded", 2)
