"""Streams of tokens into the event log, and followers that note when each token reached them.

A token is five characters, so that a follower knows from an event's length how many of them came with it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

from bench.database import Part
from bench.processes import cpu_of_tree, cpu_seconds, spent

Arrivals = dict[str, list[tuple[float, int]]]

TOKEN = " word"
TENANTS = 20
TICK = 0.002  # seconds between two rounds of the generator
WARM_UP = 2.0  # seconds that are not counted
PIECES = "TEXT_MESSAGE_CONTENT"


@dataclass
class Load:
    """`arrivals` has, for each run, when its tokens came and how many came together; times are monotonic."""

    streams: int
    rate: float
    seconds: float
    published: dict[str, list[float]] = field(default_factory=dict)
    arrivals: Arrivals = field(default_factory=dict)
    cpu: float = 0.0
    began: float = 0.0
    lag: float = 0.0

    @property
    def window(self) -> tuple[float, float]:
        return self.began + WARM_UP, self.began + WARM_UP + self.seconds

    @property
    def due(self) -> int:
        return int(self.streams * self.rate * self.seconds)


def latencies(load: Load, arrivals: Arrivals) -> list[float]:
    """Milliseconds from the publication of each token to its arrival, of those published in the counted time."""
    found = []
    low, high = load.window
    for run, published in load.published.items():
        times = iter(published)
        for came, count in arrivals[run]:
            for _ in range(count):
                said = next(times)
                if low <= said < high:
                    found.append((came - said) * 1000)
    return found


async def produce(pipe: Connection, load: Load, follow_here: bool) -> None:
    """Says which runs there are, waits for a go, plays the load, and answers with it."""
    from runs.process import process

    here = await process()
    streams = await open_streams(load.streams)
    followers = await following([stream.key for stream in streams], load.arrivals) if follow_here else []
    pipe.send([stream.key for stream in streams])
    await asyncio.to_thread(pipe.recv)
    await play(load, streams)
    for stream in streams:
        stream.publish("RUN_ERROR", message="The end.", code="end")
        await here.writer.flushed(stream)
        here.writer.remove(stream)
    await asyncio.gather(*followers)
    pipe.send(load)
    await asyncio.to_thread(pipe.recv)


async def open_streams(count: int, on_lost: Callable[[], None] | None = None) -> list[Any]:
    """Runs that this process has, of many tenants, begun as a request begins them."""
    from core.aio import in_db_thread
    from runs.process import OWNER, process
    from runs.services.begin import begin_turn
    from runs.services.turns import TurnRequest
    from runs.stream import RunStream

    here = await process()
    actors = await in_db_thread(tenants, min(TENANTS, count))
    streams = []
    for number in range(count):
        asked = TurnRequest("scripted/default", [{"role": "user", "content": "go"}], "bench")
        turn = (await in_db_thread(in_tenant, actors[number % len(actors)], begin_turn, asked, OWNER)).turn
        stream = RunStream(turn.run.key, fence=1, stored=turn.stored, writer=here.writer, on_lost=on_lost or _lost)
        here.live[turn.run.id] = stream
        here.writer.add(stream)
        streams.append(stream)
    return streams


def _lost() -> None:
    raise AssertionError("A run of the measurement was lost")


def in_tenant(actor: Any, function: Any, request: Any, owner: Any) -> Any:
    from core.tenant import tenant_context

    with tenant_context(actor.tenant_id):
        return function(actor=actor, request=request, owner=owner)


def tenants(count: int) -> list[Any]:
    from core.tenant import tenant_context
    from llm.services.providers import provider_create
    from tenants.principal import system_principal
    from tenants.services import tenant_create

    actors = []
    for _ in range(count):
        tenant = tenant_create(slug=f"bench-{uuid4().hex[:12]}", name="Bench")
        actors.append(system_principal(tenant.id, tenant.slug))
        with tenant_context(tenant.id):
            provider_create(actor=actors[-1], slug="scripted", kind="scripted")
    return actors


async def following(keys: Sequence[Any], arrivals: Arrivals) -> list[asyncio.Task[None]]:
    """A follower of each run, once all have read what there was before."""
    tasks = [asyncio.create_task(note(key, arrivals)) for key in keys]
    while len(arrivals) < len(keys):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return tasks


async def note(key: Any, arrivals: Arrivals) -> None:
    from runs.follow import follow

    came: list[tuple[float, int]] = []
    async for event in follow(key):
        if event is not None and event.data["type"] == "RUN_STARTED":
            arrivals[str(key.run_id)] = came
        elif event is not None and event.data["type"] == PIECES:
            came.append((time.monotonic(), len(event.data["delta"]) // len(TOKEN)))


async def play(load: Load, streams: list[Any]) -> None:
    """Every stream's tokens evenly in time, those of all streams evenly between."""
    messages = [str(uuid4()) for _ in streams]
    published: list[list[float]] = [load.published.setdefault(str(stream.key.run_id), []) for stream in streams]
    total, done, pace = int(load.streams * load.rate * (load.seconds + WARM_UP)), 0, load.streams * load.rate
    load.began = time.monotonic()
    counted, cpu = False, 0.0
    while done < total:
        now = time.monotonic()
        for token in range(done, due := min(total, int((now - load.began) * pace))):
            place = token % load.streams
            streams[place].publish(PIECES, messageId=messages[place], delta=TOKEN)
            published[place].append(now)
        done = due
        if not counted and now > load.window[0]:
            counted, cpu = True, time.process_time()
        await asyncio.sleep(TICK)
    load.cpu = time.process_time() - cpu
    load.lag = time.monotonic() - load.window[1]


async def observe(pipe: Connection, keys: list[Any]) -> None:
    """Follows runs of another process; answers with the arrivals once all have ended."""
    arrivals: Arrivals = {}
    followers = await following(keys, arrivals)
    pipe.send(None)
    await asyncio.gather(*followers)
    pipe.send(arrivals)


@dataclass
class Measured:
    load: Load
    here: list[float]
    afar: list[float]
    database_cpu: float
    bytes_per_row: float
    rows: int
    afar_cpu: float = 0.0


def measure(
    cluster: Any, streams: int, rate: float, seconds: float, *, afar: bool = False, work: Any = produce
) -> Measured:
    """One load; with `afar` a second process follows every run as well. `work` plays it."""
    from bench.database import admin, postmaster

    producer = Part(work, Load(streams, rate, seconds), not afar)
    keys = producer.answer()
    observer = Part(observe, keys) if afar else None
    if observer:
        observer.answer()
    with admin(cluster) as session:
        session.execute("CHECKPOINT")
        producer.pipe.send(None)
        time.sleep(WARM_UP)
        rows, wal, cpu = rows_of(session), wal_of(session), cpu_of_tree(postmaster(cluster))
        cpu_afar = cpu_seconds(observer.pid) if observer else 0.0
        time.sleep(seconds)
        used = spent(cpu, cpu_of_tree(postmaster(cluster)))
        cpu_afar = cpu_seconds(observer.pid) - cpu_afar if observer else 0.0
        written, made = wal_of(session) - wal, rows_of(session) - rows
        load: Load = producer.answer()
        came = observer.answer() if observer else {}
    producer.pipe.send(None)
    for part in filter(None, (producer, observer)):
        part.end()
    here = latencies(load, load.arrivals) if not afar else []
    return Measured(load, here, latencies(load, came) if afar else [], used, written / made, made, cpu_afar)


def rows_of(session: Any) -> int:
    count: int = session.execute("SELECT count(*) FROM run_event").fetchone()[0]
    return count


def wal_of(session: Any) -> int:
    written: int = session.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()[0]
    return written
