"""The figures that this version promises, against a site of its own: `make bench`. They are kept in bench/results.json.

Times are of this machine; compare only figures of one run. LiteLLM is installed for it, outside the site's environment.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from bench import first_event, litellm, starts, toolsets, turns
from bench.processes import proportional_set_size
from bench.results import Results
from bench.site import CHECKOUT, Site, site
from bench.targets import LITELLM, provider, references

CALLS = 100
FILE = Path(__file__).with_name("results.json")
DISCOVERY = """
import time, django
django.setup()
from templates_app.registry import registry
began = time.perf_counter()
registry.health()
print((time.perf_counter() - began) * 1000)
"""


def main() -> None:
    results = Results()
    with tempfile.TemporaryDirectory() as home:
        results.add("template discovery in a new process", [discovery(home) for _ in range(5)], "ms", goal=100)
        with site(Path(home)) as mine, provider() as upstream, references(upstream) as others:
            of_idle_site(results, mine)
            of_calls(results, mine)
            turns.main(results, mine, upstream, others)
            has_litellm = LITELLM in [target.name for target in others]
            starts.main(results, mine, upstream, litellm=has_litellm)
            toolsets.main(results, mine, upstream)
            results.write(FILE, {"LiteLLM": litellm.version()} if has_litellm else {})
            first_event.main(mine, upstream)


def of_idle_site(results: Results, mine: Site) -> None:
    time.sleep(3)
    for name, pid in (("server", mine.server), ("worker", mine.worker)):
        results.add(f"{name}, idle after the start: memory", [proportional_set_size(pid) / 1024], "MB")


def of_calls(results: Results, mine: Site) -> None:
    """By the clock, without a provider's share."""
    headers = {"Authorization": f"Bearer {mine.token}"}
    with httpx.Client(base_url=f"{mine.base_url}/v1/", headers=headers, trust_env=False, timeout=30) as http:
        measure(results, "agent creation", lambda number: create_agent(http, number), goal=100)
        measure(results, "chat completion", lambda _: chat(http))
        measure(results, "first token of a stream", lambda _: first_token(http))


def measure(results: Results, name: str, call: Callable[[int], float], *, goal: float | None = None) -> None:
    for number in range(5):
        call(-1 - number)
    results.add(name, [call(number) for number in range(CALLS)], "ms", goal=goal)


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
