"""start.py itself, in this checkout with a state folder of the test's own."""

import ast
import json
import os
import queue
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agentsite.embedded.home import CHECKOUT, Home
from agentsite.embedded.postgres import Cluster
from tests.start.conftest import kill_all, processes_of

START = CHECKOUT / "start.py"
OURS = {"DATABASE_URL", "AGENTSITE_ENV", "AGENTSITE_HOME"} | {name for name in os.environ if name.startswith("PYTEST")}


def environment(home: Path, **more: str) -> dict[str, str]:
    """As a user's, without what the test run set."""
    return {**{k: v for k, v in os.environ.items() if k not in OURS}, "AGENTSITE_HOME": str(home), **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Site:
    """A start.py that runs."""

    def __init__(self, home: Path, port: int, **env: str) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, str(START), "--port", str(port), "--no-local-model"],
            env=environment(home, **env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def until(self, start: str) -> str:
        """The output up to and with the first line that begins so."""
        output = ""
        while line := self._lines.get(timeout=90):
            output += line
            if line.startswith(start):
                return output
        raise AssertionError(f"start.py ended: {output}")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    started: list[Site] = []
    yield started
    for site in started:
        if site.process.poll() is None:
            site.end(signal.SIGTERM)


def run(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(START), *arguments]
    return subprocess.run(command, env=environment(home, **env), capture_output=True, text=True, timeout=90)


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


def gone(home: Path) -> bool:
    deadline = time.monotonic() + 60
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes_of(home)


def test_parses_on_old_pythons_and_says_that_they_are_too_old() -> None:
    ast.parse(START.read_text(), feature_version=(3, 6))
    old = f"import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path({str(START)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True)
    assert_one_line(done, "Agentsite needs Python 3.11 or newer, this is 3.9")


def test_taken_port(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert_one_line(run(home.path, "--port", str(port)), f":{port}", f"--port {port + 1}")


def test_address_of_another_machine(home: Home) -> None:
    assert_one_line(run(home.path, "--host", "192.0.2.1"), "Cannot listen on 192.0.2.1:8000")


def test_impossible_port(home: Home) -> None:
    done = run(home.path, "--port", "70000")
    assert done.returncode == 2
    assert "a port is a number from 1 to 65535" in done.stderr


def test_second_start_on_the_same_home(home: Home) -> None:
    lock = home.lock("start")
    lock.acquire()
    assert_one_line(run(home.path), "Another start.py uses", "AGENTSITE_HOME")
    lock.release()


def test_folder_of_something_else(folder: Path) -> None:
    (folder / "thesis.txt").touch()
    assert_one_line(run(folder), "thesis.txt but no secrets.json")


@pytest.mark.slow
def test_unreachable_database(home: Home) -> None:
    done = run(
        home.path, "--no-local-model", f"--port={free_port()}", DATABASE_URL="postgresql://me:secret@127.0.0.1:1/site"
    )
    assert_one_line(done, "The database of DATABASE_URL cannot be reached", "refused")
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.slow
def test_database_that_the_login_may_not_prepare(home: Home, cluster: Cluster) -> None:
    with psycopg.connect(cluster.admin_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'secret'")
    url = f"postgresql://plain:secret@127.0.0.1:{cluster.port}/postgres"
    done = run(home.path, "--no-local-model", f"--port={free_port()}", DATABASE_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith("The login plain of DATABASE_URL may not prepare the database")
    assert '\n    CREATE ROLE "app_user"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_first_start_stop_and_second_start(home: Home, sites: list[Site]) -> None:
    port = free_port()
    site = Site(home.path, port)
    sites.append(site)
    output = site.until("Ready")
    demo = json.loads((home.path / "demo.json").read_text())
    assert stat.S_IMODE((home.path / "demo.json").stat().st_mode) == 0o600
    assert demo["base_url"] == site.base_url
    assert demo["admin"]["password"] in output
    assert "\nassistant: You said: Say hello" in output
    curl = next(line for line in output.splitlines() if line.startswith("curl "))
    answer = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout
    assert answer.count("data: {") > 2
    assert answer.rstrip().endswith("data: [DONE]")
    assert site.end(signal.SIGTERM) == 0
    assert processes_of(home.path) == []

    again = Site(home.path, port)
    sites.append(again)
    output = again.until("Ready")
    assert "assistant: " not in output
    assert json.loads((home.path / "demo.json").read_text()) == demo
    assert again.end(signal.SIGINT) == 0
    assert processes_of(home.path) == []


@pytest.mark.slow
def test_kill_9_leaves_no_process_and_no_damage(home: Home, sites: list[Site]) -> None:
    port = free_port()
    first = Site(home.path, port)
    sites.append(first)
    first.until("Ready")
    demo = json.loads((home.path / "demo.json").read_text())
    first.process.kill()
    assert gone(home.path)
    second = Site(home.path, port)
    sites.append(second)
    second.until("Ready")
    kill_all(home.path)
    third = Site(home.path, port)
    sites.append(third)
    third.until("Ready")
    key = demo["tenants"][1]["api_key"]
    request = urllib.request.Request(f"{third.base_url}/v1/me", headers={"Authorization": f"Bearer {key}"})
    assert json.load(urllib.request.urlopen(request))["tenant"]["slug"] == "globex"
    assert third.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_lost_worker_and_database_come_back_and_a_lost_server_ends_it(home: Home, sites: list[Site]) -> None:
    site = Site(home.path, free_port())
    sites.append(site)
    site.until("Ready")
    for word in (b"manage.py\0worker", b"keeper.py"):  # PostgreSQL has workers, too
        victim = next(pid for pid in processes_of(home.path) if word in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(victim, signal.SIGKILL)
        site.until("The database" if word == b"keeper.py" else "The worker")
    time.sleep(3)
    with urllib.request.urlopen(f"{site.base_url}/v1/health/ready") as response:
        components = json.load(response)["components"]
    assert all(part["status"] != "down" for part in components), components
    server = next(pid for pid in processes_of(home.path) if b"uvicorn" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(server, signal.SIGKILL)
    site.until("The server ended")
    assert site.process.wait(timeout=60) == 1
    assert processes_of(home.path) == []
