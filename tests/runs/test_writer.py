"""The event log's writer over a real connection: what happens when the database does not do as it should."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import connection, transaction

from core.tenant import tenant_context
from runs import stream as stream_module
from runs import writer as writer_module
from runs.follow import follow
from runs.hub import Hub
from runs.models import Run, RunEvent, RunLease, utc_today
from runs.process import process
from runs.services.lease import _ensure_day, lease_create
from runs.store import Store, stream_parameters
from runs.stream import MAX_PENDING, RunLost, RunStream
from runs.writer import QUIET_BEAT, Writer
from tenants.models import Tenant
from tests.llm.doors import until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


def make_run(tenant: Tenant) -> Run:
    with tenant_context(tenant.id):
        run = Run.objects.create(
            tenant=tenant, model="m", status="running", source="api", actor_kind="x", actor_label="x"
        )
        lease_create(run, uuid4())
        return run


class Setup:
    def __init__(self) -> None:
        self.store, self.hub = Store(), Hub()
        self.cancelled: list[UUID] = []
        self.writer = Writer(self.store, self.hub, self.cancelled.append)
        self.lost: list[UUID] = []

    async def open(self, tenant: Tenant, **how: Any) -> RunStream:
        run = await sync_to_async(make_run)(tenant)
        lost = partial(self.lost.append, run.id)
        stream = RunStream(run.key, fence=1, stored=0, writer=self.writer, on_lost=lost, **how)
        self.writer.add(stream)
        return stream


@pytest.fixture
def log() -> Callable[[], Any]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Setup]:
        setup = Setup()
        try:
            yield setup
        finally:
            await setup.writer.close()
            await setup.store.close()

    return opened


def say(stream: RunStream, delta: str, message: str = "m") -> None:
    stream.publish("TEXT_MESSAGE_CONTENT", messageId=message, delta=delta)


def stored(stream: RunStream) -> list[tuple[int, str]]:
    with tenant_context(stream.key.tenant_id):
        rows = RunEvent.objects.filter(run_id=stream.key.run_id).order_by("seq")
        return [(row.seq, row.data["delta"]) for row in rows]


async def of(stream: RunStream) -> list[tuple[int, str]]:
    return await sync_to_async(stored)(stream)


@asynccontextmanager
async def outside(role: str = "app_owner") -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Somebody else in the database."""
    parameters = {**stream_parameters(), "options": f"-c role={role}"}
    async with await psycopg.AsyncConnection.connect(**parameters) as connection:
        yield connection


async def test_runs_of_many_tenants_share_commits(acme: Tenant, globex: Tenant, log: Any) -> None:
    async with log() as here:
        streams = [await here.open(tenant) for tenant in (acme, globex) for _ in range(20)]
        for turn in range(5):
            for number, stream in enumerate(streams):
                say(stream, f"{number}.{turn} ", message=str(turn))
            await asyncio.sleep(0.005)
        for stream in streams:
            await here.writer.flushed(stream)
        for number, stream in enumerate(streams):
            assert await of(stream) == [(turn + 1, f"{number}.{turn} ") for turn in range(5)]
        assert (here.writer.size, here.lost) == (0, [])


async def test_what_is_delivered_is_stored(acme: Tenant, log: Any) -> None:
    async with log() as here:
        stream = await here.open(acme)
        with here.hub.mailbox(stream.key) as mailbox:
            for number in range(20):
                say(stream, f"{number} ")
                await mailbox.changed(5) if number % 7 == 0 else await asyncio.sleep(0.002)
                seen = [(event.seq, event.data["delta"]) for event in mailbox.take()]
                assert set(seen) <= set(await of(stream))


async def test_what_a_quiet_run_says_is_stored_in_larger_pieces(acme: Tenant, log: Any) -> None:
    async with log() as here:
        quiet, other = await here.open(acme, quiet=True), await here.open(acme)
        for stream in (quiet, other):
            say(stream, "a")
        await here.writer.flushed(other)
        say(quiet, "b")
        assert (await of(other), await of(quiet)) == ([(1, "a")], [])
        await asyncio.sleep(QUIET_BEAT + 0.2)
        assert await of(quiet) == [(1, "ab")]
        say(quiet, "c")
        await here.writer.flushed(quiet)  # it is to be stored at once
        assert await of(quiet) == [(1, "ab"), (2, "c")]
        say(quiet, "d" * MAX_PENDING)
        await quiet.room()
        say(quiet, "e")
        await here.writer.settled(quiet)
        assert [event.data["delta"] for event in quiet.rest()] == ["e"]
        await asyncio.sleep(QUIET_BEAT + 0.1)
        assert (len(await of(quiet)), here.writer.size) == (3, 1)


async def test_a_run_that_ends_with_its_caller_is_shown_before_it_is_stored(acme: Tenant, log: Any) -> None:
    async with log() as here:
        stream = await here.open(acme, early=True)
        with here.hub.mailbox(stream.key) as mailbox:
            say(stream, "a")
            say(stream, "b")
            assert await mailbox.changed(5)
            assert [(event.seq, event.data["delta"]) for event in mailbox.take()] == [(1, "ab")]
            assert await of(stream) == []
            say(stream, "c")
            await here.writer.flushed(stream)
            assert {(event.seq, event.data["delta"]) for event in mailbox.take()} == {(1, "ab"), (2, "c")}
        assert await of(stream) == [(1, "ab"), (2, "c")]
        say(stream, "d")
        await asyncio.sleep(QUIET_BEAT + 0.2)
        assert await of(stream) == [(1, "ab"), (2, "c"), (3, "d")]
        say(stream, "e")
        await asyncio.sleep(0.01)
        say(stream, "f")
        await here.writer.settled(stream)
        assert [(event.seq, event.data["delta"]) for event in stream.rest()] == [(4, "e"), (5, "f")]


async def test_followers_of_an_early_run_read_each_event_once(acme: Tenant, log: Any) -> None:
    """Whether they are there from the beginning or come later, quick or slow."""
    here = await process()
    async with log() as apart:
        stream = await apart.open(acme, early=True)
        apart.writer._hub = here.hub
        here.live[stream.key.run_id] = stream
        readers = []

        async def read(pause: float) -> list[int]:
            seen = []
            async for event in follow(stream.key):
                assert event is not None
                seen.append(event.seq)
                await asyncio.sleep(pause)
                if event.seq == 40:
                    break
            return seen

        for number in range(40):
            if number % 10 == 0:
                readers += [asyncio.create_task(read(pause)) for pause in (0, 0.02)]
            say(stream, "x", message=str(number))
            await asyncio.sleep(0.012)
            if number % 9 == 0:
                await apart.writer.flushed(stream)
        await apart.writer.flushed(stream)
        assert await asyncio.gather(*readers) == [list(range(1, 41))] * len(readers)
        del here.live[stream.key.run_id]


async def test_a_follower_of_an_early_run_that_must_look_at_the_table_waits_for_what_it_was_shown(
    acme: Tenant, log: Any
) -> None:
    here = await process()
    async with log() as apart:
        stream = await apart.open(acme, early=True)
        apart.writer._hub = here.hub
        here.live[stream.key.run_id] = stream
        events = follow(stream.key)
        told = asyncio.create_task(anext(events))
        await until(lambda: here.hub.followers(stream.key.run_id) == 1)
        say(stream, "a")
        assert (await told).seq == 1
        assert stream.stored == 0
        told = asyncio.create_task(anext(events))
        here.hub.look_all()
        await asyncio.sleep(0.05)
        say(stream, "b", message="2")
        assert (await told).seq == 2
        await apart.writer.flushed(stream)
        await events.aclose()
        del here.live[stream.key.run_id]


async def test_a_value_that_the_database_refuses_stops_its_run_only(acme: Tenant, log: Any) -> None:
    async with log() as here:
        streams = [await here.open(acme) for _ in range(9)]
        say(streams[0], "nul \0 and half a pair \ud800")
        bad = streams[4]
        bad.publish("T" * 50, value=1)  # longer than its column
        for stream in streams[1:]:
            say(stream, "well")
        for stream in streams:
            await here.writer.flushed(stream)
        assert here.lost == [bad.key.run_id]
        assert await of(streams[0]) == [(1, "nul \ufffd and half a pair \ufffd")]
        assert [await of(stream) for stream in streams[1:4]] == [[(1, "well")]] * 3
        with pytest.raises(RunLost):
            await bad.room()


async def test_a_locked_run_holds_up_no_other(acme: Tenant, log: Any) -> None:
    async with log() as here, outside() as other:
        locked, free = await here.open(acme), await here.open(acme)
        async with other.transaction():
            await other.execute("SELECT set_config('app.tenant_id', %s, true)", [str(acme.id)])
            await other.execute("SELECT FROM run_lease WHERE run_id = %s FOR UPDATE", [locked.key.run_id])
            say(locked, "waits")
            say(free, "goes on")
            await here.writer.flushed(free)
            assert await of(free) == [(1, "goes on")]
            say(locked, " and joins")
            await asyncio.sleep(0.05)
            assert await of(locked) == []
        await here.writer.flushed(locked)
        assert "".join(delta for _, delta in await of(locked)) == "waits and joins"
        assert here.lost == []


async def test_a_locked_lease_is_renewed_later_and_holds_up_no_other(acme: Tenant, log: Any) -> None:
    async with log() as here, outside() as other:
        locked, free, gone = [await here.open(acme) for _ in range(3)]
        keys = [stream.key for stream in (locked, free, gone)]
        async with other.transaction():
            await other.execute("SELECT set_config('app.tenant_id', %s, true)", [str(acme.id)])
            await other.execute("DELETE FROM run_lease WHERE run_id = %s", [gone.key.run_id])
        async with other.transaction():
            await other.execute("SELECT set_config('app.tenant_id', %s, true)", [str(acme.id)])
            await other.execute("SELECT FROM run_lease WHERE run_id = %s FOR UPDATE", [locked.key.run_id])
            held = await here.store.renew([(key, 1) for key in keys])
            assert set(held) == {free.key.run_id}
            await here.store.watch(keys)
            await here.writer._renew()
            assert here.lost == [gone.key.run_id]
        assert set(await here.store.renew([(key, 1) for key in keys])) == {locked.key.run_id, free.key.run_id}


async def test_what_nobody_foresaw_stops_no_other_run(acme: Tenant, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with log() as here:
        good, bad = await here.open(acme), await here.open(acme)
        monkeypatch.setattr(bad, "take", lambda: 1 / 0)
        write, calls = here.store.write, []

        async def surprised(writes: Any) -> Any:
            calls.append(1)
            if len(calls) == 1:
                raise ZeroDivisionError
            return await write(writes)

        monkeypatch.setattr(here.store, "write", surprised)
        say(good, "well")
        say(bad, "never")
        async with asyncio.timeout(20):
            await here.writer.flushed(good)
        assert await of(good) == [(1, "well")]
        assert here.lost == [bad.key.run_id]


async def test_what_could_not_be_told_is_told_again(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with log() as here:
        told: list[str] = []

        async def notify(payload: str) -> None:
            told.append(payload)
            if len(told) == 1:
                raise psycopg.OperationalError("gone")

        monkeypatch.setattr(here.store, "notify", notify)
        session = uuid4()
        here.writer.tell("s", session)
        await here.writer.told()
        assert told == [f"s{session.hex}"] * 2


async def test_while_the_database_stalls_runs_wait_and_nothing_is_lost(
    acme: Tenant, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with log() as here, outside() as other:
        stream = await here.open(acme)

        async def speak() -> None:
            for number in range(400):
                say(stream, f"{number:05d}" * 200)
                await stream.room()

        async with other.transaction():
            await other.execute("LOCK TABLE run_event IN ACCESS EXCLUSIVE MODE")
            speaking = asyncio.create_task(speak())
            await asyncio.sleep(0.5)
            assert not speaking.done()
            assert stream.size <= stream_module.MAX_PENDING + 1000
        await speaking
        await here.writer.flushed(stream)
        text = "".join(delta for _, delta in await of(stream))
        assert text == "".join(f"{number:05d}" * 200 for number in range(400))


async def test_readers_are_served_between_the_commits_of_many_runs(
    acme: Tenant, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BATCH", 4)
    async with log() as here:
        streams = [await here.open(acme) for _ in range(10)]
        write, commits = here.store.write, []

        async def counted(writes: Any) -> Any:
            commits.append((len(writes), [stream.stored for stream in streams]))
            return await write(writes)

        monkeypatch.setattr(here.store, "write", counted)
        for stream in streams:
            say(stream, "one")
        for stream in streams:
            await here.writer.flushed(stream)
        assert commits == [(4, [0] * 10), (4, [1] * 4 + [0] * 6), (2, [1] * 8 + [0] * 2)]
        assert [await of(stream) for stream in streams] == [[(1, "one")]] * 10


async def test_what_another_stores_is_not_written_after_a_fault(
    acme: Tenant, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with log() as here:
        stream = await here.open(acme)
        rest: list[Any] = []

        async def end_meanwhile(payload: str) -> None:
            if not rest:
                say(stream, "two", message="n")
                await here.writer.settled(stream)
                rest.extend(stream.rest())
                raise psycopg.OperationalError("the connection is lost")

        monkeypatch.setattr(here.store, "notify", end_meanwhile)
        here.writer.tell("s", uuid4())
        say(stream, "one")
        await here.writer.told()
        assert await of(stream) == [(1, "one")]
        assert [(event.seq, event.data["delta"]) for event in rest] == [(2, "two")]
        assert here.lost == []


async def test_a_commit_whose_answer_was_lost_is_not_repeated(
    acme: Tenant, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with log() as here:
        stream = await here.open(acme)
        write, calls = here.store.write, []

        async def cut(writes: Any) -> Any:
            calls.append(len(writes[0].events))
            answer = await write(writes)
            if len(calls) == 1:
                say(stream, "two", message="n")
                raise psycopg.OperationalError("the connection is lost")
            return answer

        monkeypatch.setattr(here.store, "write", cut)
        with here.hub.mailbox(stream.key) as mailbox:
            say(stream, "one")
            await here.writer.flushed(stream)
            assert [event.data["delta"] for event in mailbox.take()] == ["one", "two"]
        assert await of(stream) == [(1, "one"), (2, "two")]
        assert calls[:2] == [1, 2]
        assert here.lost == []


async def test_killed_connections_are_made_anew(acme: Tenant, log: Any) -> None:
    async with log() as here, outside(role="none") as other:
        stream = await here.open(acme)
        for number in range(5):
            say(stream, f"{number} ", message=str(number))
            await here.writer.flushed(stream)
            pid = here.store._connection.info.backend_pid
            await other.execute("SELECT pg_terminate_backend(%s)", [pid])
        say(stream, "end", message="end")
        await here.writer.flushed(stream)
        assert [seq for seq, _ in await of(stream)] == [1, 2, 3, 4, 5, 6]


async def test_a_run_that_another_has_is_lost_and_one_that_is_gone_as_well(acme: Tenant, log: Any) -> None:
    async with log() as here, outside() as other:
        taken, gone, mine = [await here.open(acme) for _ in range(3)]
        async with other.transaction():
            await other.execute("SELECT set_config('app.tenant_id', %s, true)", [str(acme.id)])
            await other.execute("UPDATE run_lease SET fence = 2 WHERE run_id = %s", [taken.key.run_id])
            await other.execute("DELETE FROM run WHERE id = %s", [gone.key.run_id])
        for stream in (taken, gone, mine):
            say(stream, "x")
        await here.writer.flushed(mine)
        assert set(here.lost) == {taken.key.run_id, gone.key.run_id}
        assert [await of(stream) for stream in (taken, gone, mine)] == [[], [], [(1, "x")]]


async def test_leases_are_renewed_and_tell_of_cancels(acme: Tenant, log: Any, settings: Any) -> None:
    settings.RUN_LEASE_SECONDS = 0.15
    async with log() as here, outside() as other:
        silent, stolen = await here.open(acme), await here.open(acme)
        await asyncio.sleep(0.5)

        def until() -> Any:
            with tenant_context(acme.id):
                return RunLease.objects.get(run_id=silent.key.run_id).lease_until.timestamp()

        first = await sync_to_async(until)()
        await asyncio.sleep(0.2)
        assert await sync_to_async(until)() > first
        async with other.transaction():
            await other.execute("SELECT set_config('app.tenant_id', %s, true)", [str(acme.id)])
            await other.execute("UPDATE run_lease SET cancel_requested = (run_id = %s)", [silent.key.run_id])
            await other.execute("UPDATE run_lease SET fence = 9 WHERE run_id = %s", [stolen.key.run_id])
        await asyncio.sleep(0.3)
        assert silent.key.run_id in here.cancelled
        assert here.lost == [stolen.key.run_id]


async def test_the_logs_role_may_append_and_nothing_else(acme: Tenant, globex: Tenant, log: Any) -> None:
    async with log() as here:
        mine, theirs = await here.open(acme), await here.open(globex)
        for stream in (mine, theirs):
            say(stream, "secret")
            await here.writer.flushed(stream)
    async with await psycopg.AsyncConnection.connect(**stream_parameters()) as connection:
        assert await rows_of(connection, "SELECT count(*) FROM run_event") == [(0,)]
        await connection.execute("SELECT set_config('app.tenant_ids', %s, false)", [f"{{{acme.id}}}"])
        assert await rows_of(connection, "SELECT tenant_id FROM run_event") == [(acme.id,)]
        assert await rows_of(connection, "SELECT tenant_id FROM run_lease") == [(acme.id,)]
        partition = f"run_event_{mine.key.day:%Y%m%d}"
        for forbidden in (
            "UPDATE run_event SET data = '{}'",
            "DELETE FROM run_event",
            "UPDATE run_lease SET fence = 7",
            "DELETE FROM run_lease",
            "SELECT * FROM run",
            "SELECT * FROM message",
            f"SELECT * FROM {partition}",
            "SELECT run_event_drop_days(current_date)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(forbidden)  # type: ignore[call-overload]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(
                "INSERT INTO run_event VALUES (1, current_date, %s, %s, 9, 1, 'x', '{}')",
                [globex.id, theirs.key.run_id],
            )
    assert django_settings.STREAM_DATABASE["NAME"].startswith("test_")


async def rows_of(connection: Any, sql: str) -> list[Any]:
    found: list[Any] = await (await connection.execute(sql)).fetchall()
    return found


async def test_a_run_that_begins_as_the_last_one_ends_keeps_its_lease(acme: Tenant, log: Any) -> None:
    async with log() as here:
        stream = await here.open(acme)
        here.writer.remove(stream)
        here.writer.add(stream)
        await asyncio.sleep(0.01)
        assert here.writer._beat is not None
        assert not here.writer._beat.done()


async def test_what_is_nested_too_deeply_holds_up_nobody(acme: Tenant, log: Any) -> None:
    async with log() as here:
        good, bad = await here.open(acme), await here.open(acme)
        deep: list[Any] = []
        for _ in range(400):
            deep = [deep]
        say(good, "a")
        bad.publish("CUSTOM", name="deep", value=deep)
        async with asyncio.timeout(20):
            await here.writer.flushed(good)
            await here.writer.flushed(bad)
        assert (good.stored, bad.stored, here.lost) == (1, 1, [])


def test_a_day_whose_partition_was_rolled_back_is_made_again(acme: Tenant) -> None:
    day = utc_today() + timedelta(days=20)
    for fails in (True, False):
        with suppress(ZeroDivisionError), transaction.atomic():
            _ensure_day(day)
            assert 1 / (not fails)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [f"run_event_{day:%Y%m%d}"])
        assert cursor.fetchone() != (None,)
