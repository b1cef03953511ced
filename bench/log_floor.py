"""The least that such a log costs on this machine: its statement, and a note of the time when it is answered.

No events, no streams, no followers: what the product takes beyond it is its own. The figures of the design notes were
measured on such a writer; goals in milliseconds hold for a machine on which it is as fast as there.
"""

import asyncio
import time
from multiprocessing.connection import Connection
from typing import Any

from bench.log_load import PIECES, TOKEN, Load, open_streams, play

BEAT = 0.010


class Floor:
    """A run of it has the `publish` of a stream."""

    def __init__(self, stream: Any, load: Load, waiting: dict["Floor", None]) -> None:
        self.stream = stream
        self.key = stream.key
        self.tokens = 0
        self.message = ""
        self.came: list[tuple[float, int]] = []
        self._waiting = waiting
        load.arrivals[stream.run] = self.came

    def publish(self, _: str, messageId: str, delta: str) -> None:  # noqa: N803 as AG-UI names it
        self.message = messageId
        self.tokens += 1
        self._waiting[self] = None

    def json(self) -> str:
        """What they are asked to store, as `runs.store.Write` has it."""
        after = self.stream.stored
        fields = f'{{"messageId":"{self.message}","delta":"{TOKEN * self.tokens}"}}'
        said = f'["{PIECES}",{time.time_ns() // 1_000_000},{fields}]'
        return f'{{"r":"{self.stream.run}","f":1,"a":{after},"b":{after + 1},"ev":[{said}]}}'


async def produce(pipe: Connection, load: Load, _: bool) -> None:
    """As `bench.log_load.produce`."""
    waiting: dict[Floor, None] = {}
    runs = [Floor(stream, load, waiting) for stream in await open_streams(load.streams)]
    pipe.send([run.key for run in runs])
    await asyncio.to_thread(pipe.recv)
    writing = asyncio.create_task(write_all(waiting))
    await play(load, runs)
    await asyncio.sleep(2)  # for what is on its way
    writing.cancel()
    pipe.send(load)
    await asyncio.to_thread(pipe.recv)


async def write_all(waiting: dict[Floor, None]) -> None:
    from runs.store import _WRITE, Store

    store = Store()
    while True:
        began = time.monotonic()
        taken = {run: run.tokens for run in waiting}
        asked = "[" + ",".join([run.json() for run in taken]) + "]"
        waiting.clear()
        for run in taken:
            run.tokens = 0
        if taken:
            await store._run([run.key for run in taken], _WRITE, [asked, len(taken)])
        now = time.monotonic()
        for run, tokens in taken.items():
            run.stream.stored += 1
            run.came.append((now, tokens))
        await asyncio.sleep(max(0.0, began + BEAT - now))
