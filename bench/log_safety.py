"""What readers saw against what is stored, while processes and databases end as they should not.

A follower notes each event in a file before anything else happens, so that the note outlives its process. The control
hands events out before they are stored, and must be found out.
"""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.database import Part, admin, restart_at_once
from bench.log_load import PIECES, open_streams

RUNS = 30  # in one process
LOCKED_SECONDS = 5.0
GATHERED_SECONDS = 0.05  # for which the control, like others that show events first, gathers what it stores
STALLED = 200, 50  # streams, tokens a second of each


async def chatter(pipe: Connection, notes: str, deliver_first: bool) -> None:
    """Runs that talk until they are killed, or told to end: then it answers with how much each has said."""
    from runs.process import process

    here = await process()
    if deliver_first:
        here.writer = _deliver_first(here)
    streams = await open_streams(RUNS, on_lost=lambda: None)
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    followers = [asyncio.create_task(note(stream.key, file)) for stream in streams]
    stop = asyncio.Event()
    talking = [asyncio.create_task(talk(stream, stop)) for stream in streams]
    pipe.send(None)
    await asyncio.to_thread(pipe.recv)
    stop.set()
    said = await asyncio.gather(*talking)
    for stream in streams:
        await here.writer.flushed(stream)
    pipe.send({str(stream.key.run_id): text for stream, text in zip(streams, said, strict=True)})
    for follower in followers:
        follower.cancel()


def _deliver_first(here: Any) -> Any:
    from runs.writer import Writer

    class DeliverFirst(Writer):
        async def _write(self, streams: Any) -> None:
            for stream in streams:
                if events := stream.take():
                    self._hub.deliver(stream.key.run_id, events)
            await asyncio.sleep(GATHERED_SECONDS)
            await super()._write(streams)

    return DeliverFirst(here.store, here.hub, here.cancel)


async def note(key: Any, file: int) -> None:
    from runs.follow import follow

    async for event in follow(key, after=1):
        if event is not None:
            os.write(file, f"{key.run_id} {event.seq} {event.data.get('delta')}\n".encode())


async def talk(stream: Any, stop: asyncio.Event) -> str:
    from runs.stream import RunLost

    said, message = "", str(uuid4())
    while not stop.is_set():
        word = f"{random.randrange(1_000_000)}."
        try:
            stream.publish(PIECES, messageId=message, delta=word)
            await stream.room()
        except RunLost:
            break
        said += word
        await asyncio.sleep(random.expovariate(100))
    return said


def violations(cluster: Any, notes: Path) -> list[str]:
    """Events that were seen and are not stored as they were seen, and holes in what is stored."""
    seen: dict[str, dict[int, str]] = defaultdict(dict)
    for line in notes.read_text().splitlines():
        run, seq, delta = line.split(" ", 2)
        seen[run][int(seq)] = delta
    faults = []
    for run, events in seen.items():
        stored = rows_of(cluster, run)
        faults += [f"{run} {seq} was seen" for seq, delta in events.items() if stored.get(seq) != delta]
        faults += [f"{run} has a hole"] if sorted(stored) != list(range(1, len(stored) + 1)) else []
    return faults


def rows_of(cluster: Any, run: str) -> dict[int, str]:
    with admin(cluster) as session:
        rows = session.execute("SELECT seq, coalesce(data ->> 'delta', 'None') FROM run_event WHERE run_id = %s", [run])
        return dict(rows.fetchall())


def killed(cluster: Any, times: int, *, deliver_first: bool = False) -> tuple[int, int]:
    """How many of the processes that were killed had shown what is not stored; and how many events were seen."""
    harmed = seen = 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            notes = Path(folder) / "notes"
            part = Part(chatter, str(notes), deliver_first)
            part.answer()
            time.sleep(random.uniform(0.2, 0.8))
            part.kill()
            seen += len(notes.read_text().splitlines())
            harmed += bool(violations(cluster, notes))
    return harmed, seen


def paused(cluster: Any, times: int) -> int:
    """Processes that slept while another took their runs, and that showed something afterwards that is not stored."""
    harmed = 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            notes = Path(folder) / "notes"
            part = Part(chatter, str(notes), False)
            part.answer()
            time.sleep(random.uniform(0.2, 0.6))
            os.kill(part.pid, signal.SIGSTOP)
            with admin(cluster) as session:
                session.execute("UPDATE run_lease SET fence = fence + 1, owner = NULL")
            os.kill(part.pid, signal.SIGCONT)
            time.sleep(0.5)
            part.kill()
            harmed += bool(violations(cluster, notes))
    return harmed


def crashed(cluster: Any, times: int) -> tuple[int, int]:
    """Violations, and words that were accepted and are not stored, over crashes of the database under one process."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        part = Part(chatter, str(notes), False)
        part.answer()
        for _ in range(times):
            time.sleep(random.uniform(0.5, 1.5))
            restart_at_once(cluster)
        time.sleep(1)
        part.pipe.send(None)
        said: dict[str, str] = part.answer()
        part.end()
        lost = sum("".join(text for _, text in sorted(rows_of(cluster, run).items())[1:]) != said[run] for run in said)
        return len(violations(cluster, notes)), lost


async def stalled(pipe: Connection) -> None:
    """Talks on while the table is locked; answers with what was said and seen, and what waited at most."""
    from runs.process import process

    here = await process()
    streams = await open_streams(STALLED[0])
    seen: dict[str, list[str]] = {}
    followers = [asyncio.create_task(collect(stream.key, seen)) for stream in streams]
    stop = asyncio.Event()
    sizes: list[tuple[float, int]] = []
    talking = [asyncio.create_task(steady(stream, stop)) for stream in streams]
    watching = asyncio.create_task(watch(here.writer, sizes))
    pipe.send(None)
    await asyncio.to_thread(pipe.recv)
    stop.set()
    said = await asyncio.gather(*talking)
    for stream in streams:
        await here.writer.flushed(stream)
    await asyncio.sleep(0.5)
    for task in (*followers, watching):
        task.cancel()
    whole = sum("".join(seen[stream.run]) == text for stream, text in zip(streams, said, strict=True))
    pipe.send((len(streams) - whole, sum(map(len, said)), sizes))


async def collect(key: Any, seen: dict[str, list[str]]) -> None:
    from runs.follow import follow

    said = seen[str(key.run_id)] = []
    async for event in follow(key, after=1):
        if event is not None:
            said.append(event.data["delta"])


async def steady(stream: Any, stop: asyncio.Event) -> str:
    said = ""
    while not stop.is_set():
        stream.publish(PIECES, messageId="m", delta=" word")
        said += " word"
        await stream.room()
        await asyncio.sleep(1 / STALLED[1])
    return said


async def watch(writer: Any, sizes: list[tuple[float, int]]) -> None:
    while True:
        sizes.append((time.monotonic(), writer.size))
        await asyncio.sleep(0.02)


def stall(cluster: Any) -> tuple[int, int, float]:
    """Streams that lost something, the most characters that waited, and seconds from the end of a lock to the usual."""
    part = Part(stalled)
    part.answer()
    time.sleep(2)
    with admin(cluster) as session, session.transaction():
        session.execute("LOCK TABLE run_event IN ACCESS EXCLUSIVE MODE")
        time.sleep(LOCKED_SECONDS)
    unlocked = time.monotonic()
    time.sleep(4)
    part.pipe.send(None)
    lost, _, sizes = part.answer()
    part.end()
    usual = max(size for at, size in sizes if at < unlocked - LOCKED_SECONDS - 0.5)
    back = next(at for at, size in sizes if at > unlocked and size <= 2 * usual)
    return lost, max(size for _, size in sizes), back - unlocked
