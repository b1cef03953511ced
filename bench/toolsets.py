"""What toolsets cost: `make bench`, or python -m bench.toolsets.

Agents with ten toolsets of several kinds are made one by one over REST, each beside one that has none. What a call of a
tool adds is the processor time of a turn whose model calls a tool CALLS times in one answer, less that of a turn whose
model calls it once, by the scheduler's count of the server's process tree. It includes the tool's own work, the call's
events and row, and its result on the way to the model. What PostgreSQL adds is a figure of its own.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson

from bench.processes import cpu_of_tree, spent
from bench.provider import CALLS
from bench.results import Results
from bench.site import Site, api, site
from bench.targets import Target, provider

AGENTS, WARM_UP = 200, 10
CREATION = 100  # milliseconds, of the median
ROUNDS, TURNS = 12, 5
INVOCATION = 5  # milliseconds of processor time
SETTLE = 0.1  # seconds after a turn, for what is stored behind it
PETS = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "1"},
    "paths": {f"/pets/{name}": {"get": {"operationId": f"pet_{name}"}} for name in "abcdefghijklmnopqrst"},
}
PETS_CONFIG = {"document": orjson.dumps(PETS).decode(), "base_url": "https://api.example.com"}
MAIL = {"smtp": {"host": "smtp.example.com", "from_address": "a@example.com"}, "recipients": ["*@example.com"]}
DATABASE = {"host": "db.example.com", "database": "shop", "user": "reader"}
TOOLSETS: list[tuple[str, dict[str, Any]]] = [
    ("time", {}),
    ("files", {}),
    ("web", {}),
    ("email", MAIL),
    ("database", DATABASE),
    ("llm", {"model": "scripted/default"}),
    ("agents", {"agents": ["scripted"]}),
    ("agents", {"agents": ["scripted", "assistant"]}),
    ("http", PETS_CONFIG),
    ("http", PETS_CONFIG),
]
# What the provider of bench.provider shall say: a tool of its agent, called with other arguments each time.
TOOLS = {"a call that reads": "call t-add_duration", "a call that writes": "call f-append_file"}


class Cost(NamedTuple):
    """Milliseconds of processor time, of the server and of its database."""

    server: float
    database: float


def main(results: Results, where: Site, upstream: Target) -> None:
    with api(where) as http:
        slugs = make_toolsets(http)
        of_creation(results, http, slugs)
        of_calls(results, http, where, upstream)


def make_toolsets(http: httpx.Client) -> list[str]:
    slugs = []
    for number, (kind, config) in enumerate(TOOLSETS):
        slug = f"bench-{kind}-{number}"
        prefix = f"{kind[0]}-" if kind in ("time", "files") else f"{number}-"
        toolset = {"slug": slug, "name": "Bench", "kind": kind, "config": config, "policy": {"prefix": prefix}}
        if kind == "database":
            toolset["secrets"] = {"password": "sesame"}
        http.post("toolsets", json=toolset).raise_for_status()
        slugs.append(slug)
    return slugs


def of_creation(results: Results, http: httpx.Client, slugs: list[str]) -> None:
    none, ten = [], []
    for number in range(-WARM_UP, AGENTS):
        none.append(creation(http, f"none-{number % 10_000}", []))
        ten.append(creation(http, f"ten-{number % 10_000}", slugs))
    none, ten = none[WARM_UP:], ten[WARM_UP:]
    results.add("agent creation, no toolsets", none, "ms")
    results.add(f"agent creation, {len(slugs)} toolsets", ten, "ms", goal=CREATION)
    results.add(f"agent creation, {len(slugs)} toolsets: p95", [statistics.quantiles(ten, n=20)[18]], "ms")
    ratios = [with_them / without for with_them, without in zip(ten, none, strict=True)]
    results.add(f"agent creation, {len(slugs)} toolsets to none", ratios, "ratio")


def creation(http: httpx.Client, slug: str, toolsets: list[str]) -> float:
    body = {
        "slug": slug,
        "name": "Bench",
        "template": "conversation",
        "model": "scripted/default",
        "toolsets": toolsets,
    }
    began = time.perf_counter()
    http.post("agents", json=body).raise_for_status()
    return (time.perf_counter() - began) * 1000


def of_calls(results: Results, http: httpx.Client, where: Site, upstream: Target) -> None:
    provider = {"slug": "bench-calls", "kind": "openai", "base_url": upstream.base_url}
    http.post("providers", json=provider).raise_for_status()
    toolsets = [f"bench-{kind}-{number}" for number, (kind, _) in enumerate(TOOLSETS[:2])]
    agent = {"slug": "bench-calls", "name": "Bench", "template": "conversation", "model": "bench-calls/m"}
    http.post("agents", json={**agent, "toolsets": toolsets}).raise_for_status()
    http.patch("agents/bench-calls/status", json={"status": "active"}).raise_for_status()
    for name, asked in TOOLS.items():
        rounds = [added(http, where, asked) for _ in range(1 + ROUNDS)][1:]  # the first one warms up
        results.add(f"{name}, its own work included: CPU", [each.server for each in rounds], "ms", goal=INVOCATION)
        results.add(f"{name}, its own work included: CPU of PostgreSQL", [each.database for each in rounds], "ms")


def added(http: httpx.Client, where: Site, asked: str) -> Cost:
    """By one call, from the second call of a turn on."""
    one = cost(where, lambda: turn(http, f"{asked} once"))
    many = cost(where, lambda: turn(http, asked))
    return Cost(*((more - less) / (CALLS - 1) for more, less in zip(many, one, strict=True)))


def cost(where: Site, turn: Callable[[], None]) -> Cost:
    """Of one turn."""
    before = [cpu_of_tree(pid) for pid in (where.server, where.database)]
    for _ in range(TURNS):
        turn()
    time.sleep(SETTLE)
    after = [cpu_of_tree(pid) for pid in (where.server, where.database)]
    return Cost(*(spent(*pair) * 1000 / TURNS for pair in zip(before, after, strict=True)))


def turn(http: httpx.Client, asked: str) -> None:
    """Raises ValueError when the turn did not end with the provider's answer to the calls."""
    body = {"model": "bench-calls", "messages": [{"role": "user", "content": asked}]}
    said = http.post("chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]["content"]
    if said != f"{1 if asked.endswith('once') else CALLS} done":
        raise ValueError(f"The agent answers {said!r}.")


def alone() -> None:
    with tempfile.TemporaryDirectory() as home, site(Path(home)) as mine, provider() as upstream:
        main(Results(), mine, upstream)


if __name__ == "__main__":
    alone()
