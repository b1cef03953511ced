"""Follow a run wherever it runs: what is stored, then what comes, without a gap or a repetition."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import psycopg
from django.db import InterfaceError, OperationalError

from core.aio import in_db_thread
from core.tenant import tenant_context
from runs.events import DELTAS, Event, custom, make_event
from runs.exceptions import RunMoved
from runs.hub import Mailbox
from runs.pages import PAGE
from runs.process import Process, process
from runs.selectors import Page, event_page
from runs.stream import RunKey

logger = logging.getLogger(__name__)
RETRY_SECONDS = 0.5


async def follow(key: RunKey, *, after: int = 0, idle: float | None = None) -> AsyncGenerator[Event | None, None]:
    """Every event with a higher `seq` than `after`, in order; ends with the run. The caller has authorised `run.view`.

    None whenever nothing came for `idle` seconds. Raises what `selectors.event_page` does, and RunMoved when this
    process stops before the run does.
    """
    here = await process()
    last = after
    with here.hub.mailbox(key) as mailbox:
        mailbox.seen = after
        _take_recent(here, mailbox, after)
        while True:
            events, ended = await _next(here, mailbox, last)
            for event in events:
                yield as_seen_after(event, last)
                last = mailbox.seen = event.seq
                if event.is_terminal:
                    return
            if ended:
                return
            if not events and not mailbox.behind:
                if mailbox.moved:
                    raise RunMoved(last)
                if not await mailbox.changed(idle):
                    yield None


def _take_recent(here: Process, mailbox: Mailbox, after: int) -> None:
    """The last events of a run of this process are at hand; all others are read from the table."""
    stream = here.live.get(mailbox.key.run_id)
    if stream is not None and stream.recent and stream.recent[0].seq <= after + 1 <= stream.stored + 1:
        mailbox.put(list(stream.recent))
    else:
        mailbox.behind = True


async def _next(here: Process, mailbox: Mailbox, last: int) -> tuple[list[Event], bool]:
    """The events after the seq `last` that are known by now, and whether the run has no further ones."""
    if not mailbox.behind:
        events = mailbox.take()
        if not _follow_on(events, last):  # what was shown early comes once more
            known = {event.seq: event for event in events if event.seq > last}
            events = [known[seq] for seq in sorted(known)]
        if _follow_on(events, last):
            return events, False
    mailbox.behind = False  # before the read: what happens from now on is told again
    stream = here.live.get(mailbox.key.run_id)
    if stream is not None and last > stream.stored:
        return [], False  # the table has less than was shown: what is stored comes once more
    page = await _read(here, mailbox, last)
    whole = len(page.events) < PAGE
    mailbox.behind = mailbox.behind or not whole
    return page.events, whole and not page.is_open


def _follow_on(events: Sequence[Event], last: int) -> bool:
    return all(event.seq == seq for seq, event in enumerate(events, last + 1))


async def _read(here: Process, mailbox: Mailbox, after: int) -> Page:
    """Waits while the database does not answer: a reader who has begun need not begin again."""
    while True:
        try:
            return await here.pages.page(mailbox.key, after)
        except (psycopg.OperationalError, OperationalError, InterfaceError):
            logger.warning("A run's events cannot be read; its readers wait")
            await asyncio.sleep(RETRY_SECONDS)


def as_seen_after(event: Event, last: int) -> Event:
    """A merged event, for somebody who has a part of what was merged, as the snapshot of its message.

    `start` is the character of the message at which `text` begins; it replaces whatever the client has from there on.
    """
    merged = (event.data.get("metadata") or {}).get("merged")
    if merged is None or merged["since"] > last:
        return event
    part = DELTAS[event.type]
    value = {part: event.data[part], "type": event.type, "start": merged["start"], "text": event.data["delta"]}
    return make_event(event.seq, "CUSTOM", custom("message_snapshot", value), event.at)


async def all_events(key: RunKey) -> AsyncGenerator[Event, None]:
    """The stored events of a run as it is now."""
    last = 0
    while True:
        with tenant_context(key.tenant_id):
            page = await in_db_thread(event_page, key=key, after=last, limit=PAGE)
        for event in page.events:
            yield event
            last = event.seq
        if len(page.events) < PAGE:
            return


async def opened(
    events: AsyncGenerator[Event | None, None], count: int
) -> tuple[list[Event | None], AsyncGenerator[Event | None, None]]:
    """The first `count` events, or fewer when nothing comes for a while; and all events, these included."""
    head: list[Event | None] = []
    while len(head) < count and (not head or head[-1] is not None):
        try:
            head.append(await anext(events))
        except StopAsyncIteration:
            break
    return head, _chained(head, events)


async def _chained(
    head: list[Event | None], rest: AsyncGenerator[Event | None, None]
) -> AsyncGenerator[Event | None, None]:
    async with aclosing(rest):
        for event in head:
            yield event
        async for event in rest:
            yield event
