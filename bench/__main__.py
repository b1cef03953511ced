"""The figures that the first version promises, against a site of its own: `make bench`.

Times are wall-clock milliseconds on this machine; compare only figures of one run. Memory is proportional set size.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from bench import first_event, turns
from bench.site import CHECKOUT, memory_of, site

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
            turns.main(base_url, token, starter)
            first_event.main(base_url, token)


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


if __name__ == "__main__":
    main()
