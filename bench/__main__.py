"""The figures that the first version promises, against a site of its own: `make bench`.

Times are wall-clock milliseconds on this machine; compare only figures of one run. Memory is proportional set size.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

CHECKOUT = Path(__file__).resolve().parents[1]
ROUNDS = 100
DISCOVERY = """
import time, django
django.setup()
from templates_app.registry import registry
began = time.perf_counter()
registry.health()
print((time.perf_counter() - began) * 1000)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        report("template discovery in a new process", [discovery(home) for _ in range(5)], limit=100)
        with site(Path(home)) as (base_url, token, starter):
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=f"{base_url}/v1/", headers=headers, trust_env=False, timeout=30) as http:
                time.sleep(3)
                for name, kilobytes in memory_of(starter):
                    print(f"{name:<40} {kilobytes / 1024:7.0f} MB idle")
                measure("agent creation", lambda number: create_agent(http, number), limit=100)
                measure("chat completion", lambda number: chat(http))
                measure("first token of a stream", lambda number: first_token(http))


def measure(name: str, call: Callable[[int], float], *, limit: float | None = None) -> None:
    for number in range(5):
        call(-1 - number)
    report(name, [call(number) for number in range(ROUNDS)], limit=limit)


def report(name: str, times: list[float], *, limit: float | None = None) -> None:
    median = statistics.median(times)
    worst = sorted(times)[int(len(times) * 0.95)]
    verdict = "" if limit is None else f"   (limit {limit:g}: {'kept' if median < limit else 'BROKEN'})"
    print(f"{name:<40} {median:7.1f} ms median {worst:7.1f} ms p95{verdict}", flush=True)


def discovery(home: str) -> float:
    env = {**os.environ, "AGENTSITE_HOME": home, "DJANGO_SETTINGS_MODULE": "agentsite.settings"}
    command = [sys.executable, "-c", DISCOVERY]
    return float(subprocess.run(command, cwd=CHECKOUT, env=env, check=True, capture_output=True, text=True).stdout)


@contextmanager
def site(home: Path) -> Iterator[tuple[str, str, int]]:
    """A started site: its address, acme's owner key, and the process id of start.py."""
    command = [sys.executable, "start.py", "--no-local-model", "--port", str(free_port())]
    env = {**os.environ, "AGENTSITE_HOME": str(home)}
    with subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not any(line.startswith("Ready: ") for line in process.stdout):
                sys.exit("start.py did not get ready.")
            demo = json.loads((home / "demo.json").read_text())
            yield demo["base_url"], demo["tenants"][0]["api_key"], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def create_agent(http: httpx.Client, number: int) -> float:
    body = {"slug": f"bench-{number % 1000}", "name": "Bench", "template": "conversation", "model": "scripted/default"}
    return timed(lambda: http.post("agents", json=body).raise_for_status())


def chat(http: httpx.Client) -> float:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]}
    return timed(lambda: http.post("chat/completions", json=body).raise_for_status())


def first_token(http: httpx.Client) -> float:
    body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    began = time.perf_counter()
    with http.stream("POST", "chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(line for line in lines if '"content":"You' in line)
        taken = (time.perf_counter() - began) * 1000
        for _ in lines:
            pass  # the run is over before the next one begins
    return taken


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def memory_of(starter: int) -> Iterator[tuple[str, int]]:
    """Name and kilobytes of the server and of the worker that start.py began."""
    for pid in children(starter):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        name = "server" if "uvicorn" in command else "worker" if "worker" in command else ""
        if name:
            yield name, proportional_set_size(pid)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def proportional_set_size(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
