"""The slots of a pool: some that wait ready, and the walls that this machine can build."""

import asyncio
import os
from collections import defaultdict
from dataclasses import dataclass

from sandbox.pool import jail, uids
from sandbox.pool.reaper import Reaper
from sandbox.pool.runtimes import Missing
from sandbox.pool.slots import Slot

READY_SECONDS = 60.0  # for a slot to start; a busy machine may stand still
ALLOW = "user namespaces, or a kernel with Landlock"


class Unavailable(Exception):
    """Nothing here can jail the code: what to install or allow, and why each wall does not stand."""

    def __init__(self, wanted: str, faults: list[str]) -> None:
        super().__init__(wanted)
        self.wanted, self.faults = wanted, faults


@dataclass(slots=True)
class Figures:
    started: int = 0
    crashed: int = 0  # of those that waited


class Stock:
    """Keeps `idle` slots of each runtime that was asked for once."""

    def __init__(self, level: str, idle: int) -> None:
        self._reaper = Reaper()
        self._closed = False
        self.figures = Figures()
        self._walls = jail.walls(level)
        self._level, self._idle = level, idle
        self._ready: defaultdict[jail.Terms, list[Slot]] = defaultdict(list)
        self._chosen: dict[tuple[str, bool], jail.Wall] = {}  # by runtime, and whether it has packages
        self._choosing = asyncio.Lock()
        self._uids = uids.take() if os.geteuid() == 0 else None
        self._ends: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> dict[str, int]:
        """Slots that wait for a job, by runtime."""
        found: defaultdict[str, int] = defaultdict(int)
        for terms, slots in self._ready.items():
            found[terms.runtime] += sum(slot.ready.done() and not slot.over.done() for slot in slots)
        return dict(found)

    @property
    def walls(self) -> dict[str, str]:
        return {runtime: wall.name for (runtime, packages), wall in self._chosen.items() if not packages}

    async def take(self, terms: jail.Terms, *, warm: bool) -> Slot:
        """A slot that nobody used; one that waits, if `warm`. Raises Unavailable."""
        wall = await self._wall(terms)
        while warm and (waiting := self._ready[terms]):
            slot = waiting.pop(0)
            if not slot.over.done():
                return slot
            self._retire(slot)
        return self._spawn(wall, terms)

    def refill(self, runtime: str) -> None:
        """Of the common terms only; others are started when they are asked for."""
        terms = jail.Terms(runtime)
        slots = self._ready[terms]
        if self._closed or (runtime, False) not in self._chosen:
            return
        for slot in [slot for slot in slots if slot.over.done()]:
            slots.remove(slot)
            self.figures.crashed += 1
            self._retire(slot)
        while len(slots) < self._idle:
            slots.append(self._spawn(self._chosen[runtime, False], terms))

    async def finish(self, slot: Slot) -> int:
        """Its exit code. It and all that it started are gone then."""
        code = await slot.end()
        if self._uids is not None and slot.uid is not None:
            self._uids.append(slot.uid)
        return code

    async def close(self) -> None:
        self._closed = True
        for slots in self._ready.values():
            for slot in slots:
                self._retire(slot)
        self._ready.clear()
        while self._ends:
            await asyncio.wait(self._ends)

    async def empty(self) -> None:
        """Waits until no process is left."""
        await self._reaper.empty()

    def _spawn(self, wall: jail.Wall, terms: jail.Terms) -> Slot:
        uid = self._uids.pop(0) if self._uids is not None else None
        self.figures.started += 1
        try:
            return Slot(wall, terms, uid, self._reaper)
        except BaseException:
            if self._uids is not None and uid is not None:
                self._uids.append(uid)
            raise

    def _retire(self, slot: Slot) -> None:
        async def end() -> None:
            await self.finish(slot)

        task = asyncio.create_task(end())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _wall(self, terms: jail.Terms) -> jail.Wall:
        """Packages may lie where another wall's slots cannot read them."""
        key = (terms.runtime, bool(terms.packages))
        async with self._choosing:
            if key not in self._chosen:
                self._chosen[key] = await self._first_that_stands(terms)
        return self._chosen[key]

    async def _first_that_stands(self, terms: jail.Terms) -> jail.Wall:
        faults, missing = [], list[str]()
        for wall in self._walls:
            try:
                slot = self._spawn(wall, terms)
            except Missing as error:
                faults.append(f"{wall.name}: missing {error}")
                missing.append(str(error))
                continue
            except OSError as error:  # such as a program that the slot's user may not execute
                faults.append(f"{wall.name}: {error}")
                continue
            try:
                fault = await self._fault(slot)
            except BaseException:  # the server goes while it starts
                self._retire(slot)
                raise
            if fault is None:
                self._ready[terms].append(slot)
                return wall
            faults.append(f"{wall.name}: {fault}")
            await self.finish(slot)
        raise Unavailable(missing[0] if missing else ALLOW, faults)

    async def _fault(self, slot: Slot) -> str | None:
        try:
            is_ready = await asyncio.wait_for(asyncio.shield(slot.ready), READY_SECONDS)
        except TimeoutError:
            return "it does not start"
        if not is_ready:
            lines = slot.complaint.decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it ended at once"
        return next(iter(jail.faults(slot.wall, slot.uid, slot.facts)), None)
