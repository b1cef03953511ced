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
    env = {**os.environ, "AGENTSITE_HOME": str(home)}
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
    headers = {"Authorization": f"Bearer {where.token}"}
    agent = {"slug": slug, "name": "Bench", "template": "conversation", "model": f"{slug}/m"}
    with httpx.Client(base_url=f"{where.base_url}/v1/", headers=headers, trust_env=False, timeout=30) as http:
        http.post("providers", json={"slug": slug, "kind": "openai", "base_url": upstream}).raise_for_status()
        http.post("agents", json=agent).raise_for_status()
        http.patch(f"agents/{slug}/status", json={"status": "active"}).raise_for_status()
