"""A site of its own to measure: started by start.py, without the local model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from agentsite.embedded.postgres import read_postmaster
from bench.processes import children, free_port

CHECKOUT = Path(__file__).resolve().parents[1]
# A target of a route that always fails is tried by every call, and once.
SETTINGS = {"LLM_ATTEMPTS": "1", "LLM_BREAKER_FAILURES": "1000000000", "LLM_WATCH_PROVIDERS": "false"}


class Site(NamedTuple):
    """Its address, acme's owner key, and its processes."""

    base_url: str
    token: str
    server: int
    worker: int
    database: int


@contextmanager
def site(home: Path, checkout: Path = CHECKOUT) -> Iterator[Site]:
    """A started site, whose server has one process."""
    command = [sys.executable, "start.py", "--no-local-model", "--port", str(free_port())]
    env = {**os.environ, **SETTINGS, "AGENTSITE_HOME": str(home)}
    with subprocess.Popen(command, cwd=checkout, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not any(line.startswith("Ready: ") for line in process.stdout):
                sys.exit("start.py did not get ready.")
            demo = json.loads((home / "demo.json").read_text())
            server, worker = (_child(process.pid, word) for word in (b"uvicorn", b"worker"))
            yield Site(demo["base_url"], demo["tenants"][0]["api_key"], server, worker, _postmaster(home))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def _child(starter: int, word: bytes) -> int:
    """The child of start.py's that has the word in its command."""
    return next(pid for pid in children(starter) if word in Path(f"/proc/{pid}/cmdline").read_bytes())


def _postmaster(home: Path) -> int:
    """0 for a database that the home did not start."""
    server = read_postmaster(home / "postgres")
    return server.pid if server else 0


def prepare(where: Site, upstream: str, slug: str = "bench") -> None:
    """An active agent of this slug, with a provider of its own."""
    with api(where) as http:
        http.post("providers", json={"slug": slug, "kind": "openai", "base_url": upstream}).raise_for_status()
        _agent(http, slug, f"{slug}/m")


def budgeted(where: Site) -> None:
    """Every call has a price and counts against a hard budget of the tenant's, which is never reached."""
    with api(where) as http:
        http.post("prices", json={"model": "*", "input": "0.15", "output": "0.60"}).raise_for_status()
        budget = {"slug": "bench", "scope": "tenant", "amount": "100000000", "period": "month", "hard": True}
        http.post("budgets", json=budget).raise_for_status()


def cached_agent(where: Site, slug: str, model: str) -> None:
    """An agent whose answers are cached for an hour."""
    with api(where) as http:
        _agent(http, slug, model, cache_seconds=3600)


def failing_first(where: Site, upstream: str, slug: str, second: str) -> None:
    """A route to a provider that always fails, and then to `second`."""
    failing = f"{upstream.removesuffix('/v1')}/failing/v1"
    targets = [{"model": f"{slug}/m"}, {"model": second}]
    with api(where) as http:
        http.post("providers", json={"slug": slug, "kind": "openai", "base_url": failing}).raise_for_status()
        http.post("routes", json={"slug": slug, "strategy": "fallback", "targets": targets}).raise_for_status()


def api(where: Site) -> httpx.Client:
    headers = {"Authorization": f"Bearer {where.token}"}
    return httpx.Client(base_url=f"{where.base_url}/v1/", headers=headers, trust_env=False, timeout=30)


def _agent(http: httpx.Client, slug: str, model: str, **more: object) -> None:
    agent = {"slug": slug, "name": "Bench", "template": "conversation", "model": model, **more}
    http.post("agents", json=agent).raise_for_status()
    http.patch(f"agents/{slug}/status", json={"status": "active"}).raise_for_status()
