"""Many sockets on one server process, with streams and idle: `make bench-sockets`.

The server (as start.py serves it, with its worker), PostgreSQL (fsync on) and the client share this machine's cores.
A latency is the time from an event's making, in whole milliseconds, to its arrival at the client. `python -m
bench.sockets idle` measures a part alone; SOCKETS=500 IDLE_SOCKETS=2000 are other sizes, COMPRESSION=no is for clients
that offer none. Each socket takes a descriptor at both ends: `ulimit -n` must allow for it.
"""

import asyncio
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import uvloop

from bench.database import postmaster, prepared_database
from bench.processes import cpu_of_tree, cpu_seconds, cpu_seconds_of_all, resident_set_size
from bench.report import figure, goal, percentiles
from bench.site import site
from bench.socket_client import Socket, run_frame

SOCKETS = int(os.environ.get("SOCKETS", 2000))
IDLE_SOCKETS = int(os.environ.get("IDLE_SOCKETS", 10_000))
STREAMS = min(200, SOCKETS // 2)
RATE, RUN_SECONDS, ROUNDS = 20, 10, 3
COMPRESSION = os.environ.get("COMPRESSION") != "no"
IDLE_SECONDS = 30.0
ANSWER_SECONDS = 20.0
TENANTS, KEYS = 100, 20  # of each tenant
AT_ONCE = 100  # sockets that connect
WORD = "word"
SCRIPT = f'#script [{{"repeat": "{WORD}", "times": {RATE * RUN_SECONDS}, "delay_ms": {1000 / RATE}}}]'
PARTS = ("streams", "idle")
ACTIVE: dict[str, Any] = {"template": "conversation", "status": "active"}
SETTINGS = {"TENANT_CONCURRENT_RUNS": "100000", "MAX_CONCURRENT_RUNS": "100000", "LOG_LEVEL": "ERROR"}


class Served(NamedTuple):
    host: str
    port: int
    pid: int
    cluster: Any
    keys: list[str]


def main(parts: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with prepared_database(**SETTINGS) as cluster:
        keys = api_keys()
        for part in parts:
            with served(cluster, keys) as server:
                uvloop.run({"streams": streams, "idle": idle}[part](server))


@contextmanager
def served(cluster: Any, keys: list[str]) -> Iterator[Served]:
    with site(Path(os.environ["AGENTSITE_HOME"])) as started:
        parts = urlsplit(started.base_url)
        assert parts.hostname
        assert parts.port
        yield Served(parts.hostname, parts.port, started.server, cluster, keys)


def api_keys() -> list[str]:
    """Keys of many tenants, each with the agent `scripted`; no two neighbours are of one tenant."""
    from agents.services import agent_create
    from bench.log_load import tenants
    from core.tenant import tenant_context
    from tenants.services import api_key_create

    made = []
    for actor in tenants(TENANTS):
        with tenant_context(actor.tenant_id):
            agent_create(actor=actor, slug="scripted", name="Scripted", model="scripted/default", **ACTIVE)
            made.append([api_key_create(actor=actor, name="Bench", role="member")[1] for _ in range(KEYS)])
    return [key for keys in zip(*made, strict=True) for key in keys]


async def streams(server: Served) -> None:
    print(f"\n{SOCKETS} sockets on one server process, {STREAMS} runs at once of {RATE} tokens/s for {RUN_SECONDS} s")
    told = Told()
    sockets = await connect(server, SOCKETS, told)
    with processor_time(server, "while they stream"):
        await talk(sockets)
    figure("runs", told.runs)
    figure("messages with tokens", len(told.latencies))
    for name, milliseconds in zip(("p50", "p95", "p99"), percentiles(told.latencies), strict=True):
        figure(f"delivery latency {name}", milliseconds, "ms")
    await end(sockets, told)


async def talk(sockets: list["Client"]) -> None:
    """Lanes that begin evenly in time; in each, one socket after the other has a run."""
    following = cycle(sockets)

    async def lane(number: int) -> None:
        await asyncio.sleep(number * RUN_SECONDS / STREAMS)
        for _ in range(ROUNDS):
            await next(following).run()

    await asyncio.gather(*(lane(number) for number in range(STREAMS)))


async def idle(server: Served) -> None:
    print(f"\n{IDLE_SOCKETS} idle sockets on one server process")
    told = Told()
    sockets = await connect(server, IDLE_SOCKETS, told)
    await asyncio.sleep(5)
    with processor_time(server, "of idleness"):
        await asyncio.sleep(IDLE_SECONDS)
    began = time.perf_counter()
    await asyncio.gather(*(socket.ping() for socket in sockets))
    figure("all answered a ping within", time.perf_counter() - began, "s")
    await end(sockets, told)


async def connect(server: Served, number: int, told: "Told") -> list["Client"]:
    """That many sockets, each with a session of its own."""
    memory, used, began = resident_set_size(server.pid), cpu_seconds(server.pid), time.perf_counter()
    few = asyncio.Semaphore(AT_ONCE)
    keys = cycle(server.keys)

    async def one() -> Client:
        loop = asyncio.get_running_loop()
        async with few:
            _, client = await loop.create_connection(lambda: Client(server, next(keys), told), server.host, server.port)
            with suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(client.opened, ANSWER_SECONDS)
        return client

    sockets = await asyncio.gather(*(one() for _ in range(number)))
    figure("all connected within", time.perf_counter() - began, "s")
    figure("server, processor for each", 1000 * (cpu_seconds(server.pid) - used) / number, "ms")
    figure("server, memory of each", (resident_set_size(server.pid) - memory) / number, "kB")
    return sockets


async def end(sockets: list["Client"], told: "Told") -> None:
    told.faults += [socket.ended for socket in sockets if socket.ended]
    goal("errors", len(told.faults), 0)
    for fault, times in Counter(told.faults).most_common(5):
        print(f"    {times} x {fault}")
    for socket in sockets:
        socket.close()
    await asyncio.sleep(1)


@contextmanager
def processor_time(server: Served, when: str) -> Iterator[None]:
    """Prints how much of a core each part used, and all that is not of this measurement."""
    began, before = time.monotonic(), used(server)
    yield
    seconds, after = time.monotonic() - began, used(server)
    for name in before:
        figure(f"{name}, processor {when}", 100 * (after[name] - before[name]) / seconds, "% of a core")


def used(server: Served) -> dict[str, float]:
    """Seconds of processor time so far; `others` are the worker and whatever else the machine does."""
    parts = {"server": cpu_seconds(server.pid), "client": time.process_time()}
    parts["PostgreSQL"] = sum(cpu_of_tree(postmaster(server.cluster)).values()) / 1e9
    return {**parts, "others": cpu_seconds_of_all() - sum(parts.values())}


@dataclass
class Told:
    """What all sockets heard; `latencies` are of the messages with tokens, in milliseconds."""

    runs: int = 0
    latencies: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Client(Socket):
    """A socket that has runs one after the other, and checks that each comes whole."""

    def __init__(self, server: Served, key: str, told: Told) -> None:
        self._session = f"bench-{uuid4().hex}"
        super().__init__(f"{server.host}:{server.port}", f"/ws/v1/sessions/{self._session}", key, COMPRESSION)
        self._told = told
        self._answered = asyncio.Event()
        self._seq = self._words = 0

    async def run(self) -> None:
        self._seq = self._words = 0
        if await self._ask(run_frame("scripted", self._session, SCRIPT)):
            self._told.runs += 1
            if self._words != RATE * RUN_SECONDS:
                self._told.faults.append("a run without some of its tokens")

    async def ping(self) -> None:
        await self._ask({"type": "ping"})

    async def _ask(self, message: object) -> bool:
        """Was it answered, by a pong or the end of a run?"""
        self._answered.clear()
        self.say(message)
        try:
            await asyncio.wait_for(self._answered.wait(), ANSWER_SECONDS + RUN_SECONDS)
        except TimeoutError:
            self._told.faults.append("no answer")
            return False
        return True

    def heard(self, message: bytes) -> None:
        now = time.time() * 1000
        event = orjson.loads(message)
        match event["type"]:
            case "TEXT_MESSAGE_CONTENT":
                self._told.latencies.append(now - event["timestamp"])
                self._words += event["delta"].count(WORD)
            case "RUN_ERROR" | "error":
                self._told.faults.append(message.decode())
                self._answered.set()
            case "RUN_FINISHED" | "pong":
                self._answered.set()
        self._count(event.get("metadata"))

    def _count(self, metadata: dict[str, Any] | None) -> None:
        if metadata is not None:
            self._seq += 1
            if metadata["seq"] != self._seq:
                self._told.faults.append("a gap or a repetition")


if __name__ == "__main__":
    main(sys.argv[1:] or PARTS)
