"""What users say to a session while one of its runs goes on, for agents that listen."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import OperationalError

from core.aio import in_db_thread
from runs.process import Process, topic_of
from runs.services.steer import steering_hear
from runs.services.turns import Turn
from runs.sink import RunSink
from runs.starting import plain
from runs.stream import RunKey


class Heard:
    """What users say to the session while the run goes on. The table is asked only when a new run was announced."""

    def __init__(self, here: Process, turn: Turn, sink: RunSink) -> None:
        self._run = turn.run
        self._sink = sink
        self._heard: set[str] = set()  # the runs that brought it
        self._news = turn.fence > 1
        self._here = here

    def listening(self) -> AbstractContextManager[None]:
        session = self._run.session
        return self._here.session(topic_of(session), self._announced) if session else nullcontext()

    def _announced(self, key: RunKey | None) -> None:
        self._news = self._news or key is None or key.run_id != self._run.id

    async def __call__(self) -> list[dict[str, Any]]:
        if not self._news:
            return []
        self._news = False
        found: list[dict[str, Any]] = []
        try:
            heard = await in_db_thread(steering_hear, run=self._run, heard=self._heard)
        except OperationalError:  # what was said then waits for the next step, or for its own turn
            self._news = True
            return []
        for run_id, messages in heard:
            self._heard.add(run_id)
            await self._sink.heard(run_id, messages)
            found += plain(messages)
        return found
