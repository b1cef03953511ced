"""The pool process: takes jobs from the server on standard input, gives each to a slot, and tells what comes of it.

It is single-threaded, so that starting processes is safe, has the standard library only, and ends with the server.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any

from sandbox.pool import jail
from sandbox.pool.slots import Slot
from sandbox.pool.stock import Stock, Unavailable
from sandbox.wire import ANSWER, CANCEL, COLD_JOB, GONE, HEADER, JOB, MISSING, STATE, frame


class Pool:
    def __init__(self, config: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self._stock = Stock(config["level"], config["idle"])
        self._writer = writer
        self._slots: dict[int, Slot] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Until the server closes its end."""
        try:
            while True:
                size, number, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
                self._on(number, kind, await reader.readexactly(size))
        except asyncio.IncompleteReadError:
            pass
        await self._stock.close()
        for task in list(self._tasks.values()):
            task.cancel()
        while waiting := [*self._tasks.values(), *self._ending]:
            await asyncio.wait(waiting)
        await self._stock.empty()

    def _on(self, number: int, kind: bytes, payload: bytes) -> None:
        if kind in (JOB, COLD_JOB):
            task = self._tasks[number] = asyncio.create_task(self._job(number, payload, warm=kind == JOB))
            task.add_done_callback(lambda _: self._tasks.pop(number, None))
        elif kind == ANSWER and number in self._slots:
            self._slots[number].write(payload)
        elif kind == CANCEL and number in self._tasks:
            self._tasks[number].cancel()

    async def _job(self, number: int, payload: bytes, *, warm: bool) -> None:
        head, _, line = payload.partition(b"\n")
        terms = json.loads(head)
        began = time.monotonic()
        wanted = jail.Terms(terms["runtime"], terms["memory_mb"], tuple(terms["packages"]))
        try:
            slot = await self._stock.take(wanted, warm=warm)
        except Unavailable as error:
            self._tell(number, MISSING, json.dumps([error.wanted, error.faults]).encode())
            return
        self._slots[number] = slot
        why = "cancelled"
        try:
            slot.begin(line, lambda kind, data: self._tell(number, kind, data), slow=not warm)
            why = await asyncio.wait_for(asyncio.shield(slot.over), terms["timeout"])
        except TimeoutError:
            why = "timeout"
        finally:
            del self._slots[number]
            self._end(number, slot, why, began)

    def _end(self, number: int, slot: Slot, why: str, began: float) -> None:
        """The answer does not wait for the end of a slot that told its result."""
        task = asyncio.create_task(self._ended(number, slot, why, began))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, number: int, slot: Slot, why: str, began: float) -> None:
        ms = round((time.monotonic() - began) * 1000)
        if why == "end":
            slot.finish_reading()
            self._tell(number, GONE, json.dumps({"why": why, "code": 0, "ms": ms}).encode())
        code = await self._stock.finish(slot)
        if why != "end":
            self._tell(number, GONE, json.dumps({"why": why, "code": code, "ms": ms}).encode())
        self._stock.refill(slot.terms.runtime)
        self._tell(0, STATE, json.dumps(self._state()).encode())

    def _state(self) -> dict[str, Any]:
        figures = self._stock.figures
        counts = {"started": figures.started, "crashed": figures.crashed}
        return {"idle": self._stock.waiting, "walls": self._stock.walls, **counts}

    def _tell(self, number: int, kind: bytes, payload: bytes) -> None:
        self._writer.write(frame(number, kind, payload))


async def serve(config: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    await Pool(config, asyncio.StreamWriter(transport, protocol, None, loop)).serve(reader)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the server decides
    asyncio.run(serve(json.loads(sys.argv[1])))
