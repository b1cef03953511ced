"""What one process learns of the runs of another: all that were named, by one statement."""

from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from runs.hub import MAILBOX, Hub, Mailbox
from runs.store import Store
from runs.stream import RunStream
from runs.tail import Tail
from tenants.models import Tenant
from tests.runs.test_writer import log as log
from tests.runs.test_writer import say

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


class Counted(Store):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.broken = False

    async def read(self, *asked: Any) -> Any:
        self.reads += 1
        if self.broken:
            raise psycopg.OperationalError
        return await super().read(*asked)


class Elsewhere:
    """Another process, which follows runs."""

    def __init__(self) -> None:
        self.hub, self.store = Hub(), Counted()
        self.tail = Tail(self.store, self.hub)

    async def told_of(self, *streams: RunStream) -> None:
        for stream in streams:
            self.tail.read(stream.key.run_id)
        if self.tail._work is not None:
            await self.tail._work


def said(mailbox: Mailbox) -> list[tuple[int, str]]:
    return [(event.seq, event.data["delta"]) for event in mailbox.take()]


async def test_the_news_of_many_runs_are_read_at_once(acme: Tenant, globex: Tenant, log: Any) -> None:
    there = Elsewhere()
    async with log() as here:
        streams = [await here.open(tenant) for tenant in (acme, globex) for _ in range(10)]
        with ExitStack() as stack:
            mailboxes = [stack.enter_context(there.hub.mailbox(stream.key)) for stream in streams]
            for turn in (1, 2):
                for number, stream in enumerate(streams):
                    say(stream, f"{number}.{turn}", message=str(turn))
                await here.writer.flushed(streams[-1])
                await there.told_of(*streams)
                assert [said(mailbox) for mailbox in mailboxes] == [[(turn, f"{n}.{turn}")] for n in range(20)]
                assert there.store.reads == turn
    await there.tail.close()


async def test_who_is_far_behind_reads_by_itself(acme: Tenant, log: Any) -> None:
    there = Elsewhere()
    async with log() as here:
        stream = await here.open(acme)
        for number in range(MAILBOX + 1):
            say(stream, "x", message=str(number))
        await here.writer.flushed(stream)
        with there.hub.mailbox(stream.key) as mailbox:
            await there.told_of(stream)
            assert len(mailbox.take()) == MAILBOX
            assert mailbox.behind
    await there.tail.close()


async def test_what_cannot_be_read_together_each_follower_looks_up(acme: Tenant, log: Any) -> None:
    there = Elsewhere()
    there.store.broken = True
    async with log() as here:
        stream = await here.open(acme)
        with there.hub.mailbox(stream.key) as mailbox:
            await there.told_of(stream)
            assert mailbox.behind
    await there.tail.close()


async def test_runs_that_nobody_follows_are_not_read(acme: Tenant, log: Any) -> None:
    there = Elsewhere()
    async with log() as here:
        await there.told_of(await here.open(acme))
    assert there.store.reads == 0
    await there.tail.close()
