"""Servers and a worker that are killed and paused at random while runs go on: no run and no event is lost.

The issue's sizes: SURVIVAL_RUNS=500 SURVIVAL_KILLS=200 SURVIVAL_PAUSES=50 pytest tests/outside/test_survival.py
"""

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import psycopg
import pytest

from tests.outside.fleet import Fleet, fleet, scale
from tests.outside.readers import READERS, RETRY_SECONDS, TIMEOUT, TROUBLE, Reader, checked
from tests.outside.site import Server, Site

RUNS = scale("SURVIVAL_RUNS", 40)
KILLS = scale("SURVIVAL_KILLS", 8)
PAUSES = scale("SURVIVAL_PAUSES", 3)
AT_ONCE = 10  # runs
BETWEEN_DEEDS = (0.5, 4)  # seconds; a killed server needs some of them to come back
LEASE_SECONDS = 2
WORDS = " ".join(str(number) for number in range(30))
SCRIPT = "#script " + orjson.dumps([{"say": WORDS, "delay_ms": 80}]).decode()
RUN_TIMEOUT = 120  # seconds until a run counts as lost


@pytest.fixture(scope="module")
def hasty(site: Site) -> Iterator[Fleet]:
    """Two servers and a worker that believe in a lost process soon, and never give a run up."""
    env = {**site.env, "RUN_LEASE_SECONDS": str(LEASE_SECONDS), "RUN_ATTEMPTS": "1000", "HEARTBEAT_SECONDS": "1"}
    with fleet(Site(site.home, env)) as made:
        yield made


@pytest.mark.timeout(60 + 12 * (KILLS + PAUSES) + 4 * RUNS)
def test_nothing_is_lost_when_processes_are_killed_and_paused(hasty: Fleet) -> None:
    readers = asyncio.run(survive(hasty))
    assert len(readers) >= RUNS * len(READERS)
    assert wrong_texts(readers) == []
    assert wrong_rows(hasty.servers[0].site, readers) == []


async def survive(fleet: Fleet) -> list[Reader]:
    """The readers of all runs, at their ends. Harm is done until there was enough of it, and runs go on until then."""
    async with aiohttp.ClientSession(headers=headers(fleet.servers[0]), timeout=TIMEOUT) as http:
        harm = asyncio.create_task(asyncio.to_thread(do_harm, fleet))
        numbers = itertools.count()
        lanes = [lane(http, fleet.servers, lambda: next(numbers) < RUNS or not harm.done()) for _ in range(AT_ONCE)]
        readers = [reader for read in await asyncio.gather(*lanes) for reader in read]
        await harm
    troubles = Counter(type(reader).__name__ for reader in readers for _ in range(reader.troubles))
    restarts = sum(event.get("name") == "attempt_restarted" for reader in readers for event in reader.seen.values())
    print(f"\n{len(readers) // len(READERS)} runs, {KILLS} kills, {PAUSES} pauses past the lease of {LEASE_SECONDS} s:")
    print(f"  {sum(reader.last for reader in readers)} events read, {restarts // len(READERS)} attempts begun again")
    print(f"  connections that broke: {dict(troubles)}")
    return readers


def headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.site.key('acme')}"}


def do_harm(fleet: Fleet) -> None:
    deeds = ["kill"] * KILLS + ["pause"] * PAUSES
    random.shuffle(deeds)
    for deed in deeds:
        member = random.choice(fleet.members)
        time.sleep(random.uniform(*BETWEEN_DEEDS))
        if deed == "kill":
            member.kill()
        else:
            with member.paused():
                time.sleep(LEASE_SECONDS + random.uniform(0.5, 3))


async def lane(http: aiohttp.ClientSession, servers: Sequence[Server], further: Callable[[], bool]) -> list[Reader]:
    """Runs one after the other, each with a reader of every kind."""
    done: list[Reader] = []
    while further():
        run_id, session = await begun(http, servers)
        async with asyncio.timeout(RUN_TIMEOUT):
            readers = [kind(run_id, session).read(http, servers) for kind in READERS]
            done += await asyncio.gather(*readers)
    return done


async def begun(http: aiohttp.ClientSession, servers: Sequence[Server]) -> tuple[str, str]:
    """A run and its session, asked for with an Idempotency-Key until a server has said that it is there."""
    session, key = f"survival-{uuid4().hex}", uuid4().hex
    body = {
        "model": "scripted",
        "messages": [{"role": "user", "content": SCRIPT}],
        "stream": True,
        "metadata": {"session_id": session},
    }
    while True:
        url = f"{random.choice(servers).api}/chat/completions"
        try:
            async with http.post(url, json=body, headers={"Idempotency-Key": key}) as response:
                checked(response)
                return response.headers["X-Run-Id"], session
        except TROUBLE:
            await asyncio.sleep(RETRY_SECONDS)


STORED = """
    SELECT run_id::text, seq, jsonb_build_object('type', type, 'timestamp', at_ms) || data
    FROM run_event WHERE run_id = ANY (%s)
"""


def wrong_texts(readers: Sequence[Reader]) -> list[tuple[str, str, str, Any]]:
    """With how these runs ended."""
    wrong = [reader for reader in readers if reader.text != WORDS]
    return [(type(reader).__name__, reader.run_id, reader.text, reader.seen[reader.last]) for reader in wrong]


def wrong_rows(site: Site, readers: Sequence[Reader]) -> list[str]:
    """Runs that did not succeed or still have a lease, holes in the log, and what was seen and is not there."""
    runs = {reader.run_id for reader in readers}
    stored: dict[str, dict[int, Any]] = defaultdict(dict)
    faults = []
    for run_id, seq, data in rows(site, STORED, runs):
        if seq in stored[run_id]:
            faults.append(f"{run_id} has seq {seq} twice")
        stored[run_id][seq] = data
    faults += [f"{run} has holes" for run in runs if sorted(stored[run]) != list(range(1, len(stored[run]) + 1))]
    for reader in readers:
        changed = [seq for seq, event in reader.seen.items() if stored[reader.run_id].get(seq) != event]
        faults += [f"{reader.run_id} {seq} was seen and is not stored" for seq in changed]
    ended = rows(site, "SELECT id::text FROM run WHERE id = ANY (%s) AND status = 'succeeded'", runs)
    faults += [f"{run} did not succeed" for run in runs - {run for (run,) in ended}]
    leases = rows(site, "SELECT run_id::text FROM run_lease WHERE run_id = ANY (%s)", runs)
    return faults + [f"{run} still has a lease" for (run,) in leases]


def rows(site: Site, query: str, runs: set[str]) -> list[Any]:
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        return connection.execute(query, [list(runs)]).fetchall()
