"""PostgreSQL crashes under load: two servers are back at once, and nothing that they acknowledged is lost.

The issue's size: CRASHES=5 CRASH_RATE=50 CRASH_BACK_SECONDS=5 pytest tests/outside/test_database_crash.py
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import psycopg
import pytest

from agentsite.embedded import postgres, roles
from agentsite.embedded.home import open_home
from agentsite.embedded.postgres import Cluster
from bench.database import restart_at_once
from tests.outside.fleet import Fleet, fleet, scale
from tests.outside.readers import StreamReader
from tests.outside.site import Server, Site, new_site

CRASHES = scale("CRASHES", 2)
RATE = scale("CRASH_RATE", 10)  # requests a second: turns of an agent and reads of runs by turns
BETWEEN = 4.0  # seconds
BACK_WITHIN = scale("CRASH_BACK_SECONDS", 30)  # where other tests share the cores
ANSWER = "You said: hello"


@dataclass
class Seen:
    """`acknowledged` are runs whose whole answer came with status 200; `begun` those whose headers came."""

    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    begun: list[tuple[str, str]] = field(default_factory=list)
    good: list[float] = field(default_factory=list)


@pytest.fixture
def durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A server of its own, with fsync on."""
    monkeypatch.setenv("AGENTSITE_HOME", str(tmp_path / "home"))
    cluster = postgres.ensure(open_home())
    roles.bootstrap(cluster)
    yield cluster
    cluster.stop()


@pytest.fixture
def crashing(durable: Cluster) -> Iterator[Fleet]:
    site = new_site(durable.home.path, durable.url)
    site = Site(site.home, {**site.env, "RUN_LEASE_SECONDS": "3"})
    with fleet(site) as made:
        yield made


@pytest.mark.timeout(180 + 30 * CRASHES)
def test_nothing_that_was_acknowledged_is_lost(durable: Cluster, crashing: Fleet) -> None:
    seen, crashes, backs = asyncio.run(under_load(durable, crashing))
    outages = [next(at for at in sorted(seen.good) if at > crash) - crash for crash in crashes]
    print(f"\n{len(crashes)} crashes at {RATE} requests a second: {dict(seen.statuses)}")
    print("  seconds until PostgreSQL was back: " + " ".join(f"{back:.1f}" for back in backs))
    print("  seconds from a crash to the next whole answer: " + " ".join(f"{outage:.1f}" for outage in outages))
    assert max(outages) < BACK_WITHIN
    assert seen.statuses["200"] > RATE
    assert {status for status in seen.statuses if status.startswith("look 2")} == {"look 200 succeeded"}
    assert lost(crashing, seen) == []


async def under_load(cluster: Cluster, crashing: Fleet) -> tuple[Seen, list[float], list[float]]:
    seen = Seen()
    headers = {"Authorization": f"Bearer {crashing.servers[0].site.key('acme')}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as http:
        await ask(http, crashing.servers, seen)
        crashing_now = asyncio.create_task(asyncio.to_thread(crash_often, cluster))
        asked = []
        for work in itertools.cycle([ask, look]):
            if crashing_now.done():
                break
            asked.append(asyncio.create_task(work(http, crashing.servers, seen)))
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*asked)
        for run_id, session in seen.begun:  # whatever became of their clients, these runs end with their answer
            reader = StreamReader(run_id, session)
            async with asyncio.timeout(60):
                await reader.read(http, crashing.servers)
            seen.statuses["answered after all" if reader.text == ANSWER else f"said {reader.text!r}"] += 1
        return seen, *await crashing_now


def crash_often(cluster: Cluster) -> tuple[list[float], list[float]]:
    """When they were, and how long each took until the database accepted connections."""
    crashes, backs = [], []
    for _ in range(CRASHES):
        time.sleep(BETWEEN)
        crashes.append(time.monotonic())
        restart_at_once(cluster)
        backs.append(time.monotonic() - crashes[-1])
    time.sleep(BETWEEN)
    return crashes, backs


async def ask(http: aiohttp.ClientSession, servers: Sequence[Server], seen: Seen) -> None:
    session = f"crash-{uuid4().hex}"
    body = {
        "model": "scripted",
        "messages": [{"role": "user", "content": "hello"}],
        "metadata": {"session_id": session},
        "stream": True,
    }
    run_id = None
    try:
        async with http.post(f"{random.choice(servers).api}/chat/completions", json=body) as response:
            run_id = response.headers.get("X-Run-Id")
            text = await response.text()
            whole = response.status == 200 and text.endswith("data: [DONE]\n\n")
            seen.statuses["200" if whole else f"{response.status}{' cut' if response.status == 200 else ''}"] += 1
            if whole:
                seen.acknowledged.append(run_id or "")
                seen.good.append(time.monotonic())
    except aiohttp.ClientError as error:
        seen.statuses[type(error).__name__] += 1
    if run_id and run_id not in seen.acknowledged:
        seen.begun.append((run_id, session))


async def look(http: aiohttp.ClientSession, servers: Sequence[Server], seen: Seen) -> None:
    """What was acknowledged is there at every moment, when the database answers at all."""
    run_id = random.choice(seen.acknowledged)
    try:
        async with http.get(f"{random.choice(servers).api}/runs/{run_id}") as response:
            found = (await response.json()).get("status", "")
            seen.statuses[f"look {response.status} {found}".strip()] += 1
    except aiohttp.ClientError as error:
        seen.statuses[f"look {type(error).__name__}"] += 1


def lost(crashing: Fleet, seen: Seen) -> list[str]:
    """What was acknowledged and is not there."""
    query = """
        SELECT run.id::text FROM run JOIN message ON message.run_id = run.id AND message.role = 'assistant'
        WHERE run.status = 'succeeded' AND message.content = '"You said: hello"'
        AND (SELECT max(seq) = count(*) AND count(*) = run.last_seq FROM run_event WHERE run_id = run.id)
    """
    url = crashing.servers[0].site.env["DATABASE_URL"]
    with psycopg.connect(url, options="-c role=app_ops") as connection:
        kept = {run_id for (run_id,) in connection.execute(query)}
    return sorted({*seen.acknowledged, *(run_id for run_id, _ in seen.begun)} - kept)
