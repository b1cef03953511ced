"""Checkpoints of runs in PostgreSQL. The saver has connections of its own, so the rows here are committed."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from core.errors import Unavailable
from core.ids import uuid7
from core.rls import catalogue_faults
from core.tenant import tenant_context
from templates_app import checkpoints
from templates_app.checkpoints import forget, journal_read, journal_write, run_saver, thread_of
from templates_app.events import Checkpointed, StepFinished, StepStarted
from tenants.models import Tenant
from tests.templates_app.checkpointed import TABLES, Chain, Note, Siblings, last_checkpoint, lose, play, rows, run_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


async def test_a_lost_run_goes_on_after_its_last_finished_node(acme: Tenant, in_acme: Tenant) -> None:
    thread, template = thread_of(acme.id, uuid7()), Chain()
    told = await lose(template, run_of(template, thread))
    assert template.ran == ["one", "two"]
    assert told[-3:] == [StepFinished("one"), Checkpointed(await last_checkpoint(thread) or ""), StepStarted("two")]
    rest = await play(template, run_of(template, thread, resume=await last_checkpoint(thread)))
    assert template.ran == ["one", "two", "two", "three"]
    assert [event.name for event in rest if isinstance(event, StepStarted)] == ["two", "three"]
    assert rest[-2] == Checkpointed(await last_checkpoint(thread) or "")
    assert rest[-1].message["content"] == "Hello one two three"  # type: ignore[union-attr]


async def test_a_node_that_had_finished_beside_a_lost_one_runs_again(acme: Tenant, in_acme: Tenant) -> None:
    thread, template = thread_of(acme.id, uuid7()), Siblings()
    await lose(template, run_of(template, thread))
    rest = await play(template, run_of(template, thread, resume=await last_checkpoint(thread)))
    assert template.ran == ["one", "two", "one", "two", "three"]
    steps = [event for event in rest if isinstance(event, StepStarted | StepFinished)]
    assert len(steps) == 6  # each that begins also ends


async def test_a_run_that_was_lost_after_its_last_node_only_answers(acme: Tenant, in_acme: Tenant) -> None:
    thread, template = thread_of(acme.id, uuid7()), Chain()
    told = await play(template, run_of(template, thread))
    assert (await play(template, run_of(template, thread, resume=await last_checkpoint(thread))))[-1] == told[-1]
    assert template.ran == ["one", "two", "three"]


async def test_types_that_the_state_names_come_back_and_others_do_not(acme: Tenant, in_acme: Tenant) -> None:
    assert os.environ["LANGGRAPH_STRICT_MSGPACK"] == "true"
    thread, template = thread_of(acme.id, uuid7()), Chain()
    run = run_of(template, thread)
    await play(template, run)
    graph, _, where = await template._prepared(run)
    state = await graph.aget_state({"configurable": where})
    assert state.values["note"] == Note(text="one")
    stored = (await run_saver()).serde
    assert stored.loads_typed(stored.dumps_typed(Note(text="one"))) == {"text": "one"}


async def test_forget_deletes_all_of_a_run_and_nothing_else(acme: Tenant, in_acme: Tenant) -> None:
    template = Chain()
    first, second = thread_of(acme.id, uuid7()), thread_of(acme.id, uuid7())
    await play(template, run_of(template, first))
    one = await rows()
    assert all(one)
    await play(template, run_of(template, second))
    await forget(first)
    assert await last_checkpoint(first) is None
    assert await rows() == one
    await forget(second)
    assert await rows() == [0, 0, 0]


async def test_the_journal_outlives_the_checkpoints_of_an_attempt(acme: Tenant, in_acme: Tenant) -> None:
    thread, template = thread_of(acme.id, uuid7()), Chain()
    await play(template, run_of(template, thread))
    await journal_write(thread, 1, "a", b"one")
    await journal_write(thread, 2, "a", b"two")
    await journal_write(thread, 1, "a", b"late")  # of a process that has lost the run
    await journal_write(thread, 1, "b", b"b")
    await forget(thread, keep_journal=True)
    assert await last_checkpoint(thread) is None
    assert await journal_read(thread) == {"a": b"two", "b": b"b"}
    assert await journal_read(thread_of(acme.id, uuid7())) == {}
    await forget(thread)
    assert await rows() == [0, 0, 0]


async def test_a_tenants_checkpoints_are_nobody_elses(acme: Tenant, globex: Tenant) -> None:
    thread, template = thread_of(acme.id, uuid7()), Chain()
    with tenant_context(acme.id):
        await lose(template, run_of(template, thread))
        held = await rows()
    for other in (globex.id, None):
        with tenant_context(other):
            assert await rows() == [0, 0, 0]
            assert await last_checkpoint(thread) is None
            saver = await run_saver()
            assert await saver.aget_tuple({"configurable": {"thread_id": thread}}) is None
            assert [found async for found in saver.alist(None)] == []
            await saver.adelete_thread(thread)
            await forget(thread)
            with pytest.raises(psycopg.Error):
                await play(template, run_of(template, thread))
    with tenant_context(acme.id):
        assert await rows() == held


async def test_a_thread_cannot_be_taken_before_its_tenant_uses_it(acme: Tenant, globex: Tenant) -> None:
    template = Chain()
    with tenant_context(globex.id), pytest.raises(psycopg.errors.CheckViolation):
        await play(template, run_of(template, thread_of(acme.id, uuid7())))


async def test_runs_of_many_tenants_share_few_connections_and_nothing_else(transactional_db: None) -> None:
    ids = [uuid7() for _ in range(5)]
    for number, id_ in enumerate(ids):
        with tenant_context(id_):
            await sync_to_async(Tenant.objects.create)(id=id_, slug=f"t{number}", name="t")
    template, compiled = Chain(), {}  # type: ignore[var-annotated]

    async def run(number: int, tenant_id: UUID) -> None:
        with tenant_context(tenant_id):
            thread = thread_of(tenant_id, uuid7())
            said = [{"role": "user", "content": f"I am {number}"}]
            told = await play(template, run_of(template, thread, messages=said, compiled=compiled))
            assert told[-1].message["content"] == f"I am {number} one two three"  # type: ignore[union-attr]
            assert told[-2] == Checkpointed(await last_checkpoint(thread) or "")

    await asyncio.gather(*(run(number, ids[number % len(ids)]) for number in range(50)))
    assert (await checkpoints._pool()).get_stats()["connections_num"] <= checkpoints.POOL_SIZE
    for id_ in ids:
        with tenant_context(id_):
            assert (await rows())[0] == 10 * 5  # ten runs; the input, the start and three nodes


@pytest.mark.slow
async def test_a_database_that_falls_silent_ends_the_run(
    acme: Tenant, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = checkpoints._parameters
    template = Chain()
    monkeypatch.setattr(checkpoints, "TIMEOUT", 0.5)
    async with quiet_proxy(parameters()) as (port, silent):
        monkeypatch.setattr(checkpoints, "_parameters", lambda: {**parameters(), "host": "127.0.0.1", "port": port})
        await play(template, run_of(template, thread_of(acme.id, uuid7())))
        silent()
        with pytest.raises(Unavailable) as failed:
            await asyncio.wait_for(play(template, run_of(template, thread_of(acme.id, uuid7()))), 30)
        assert failed.value.code == "database_unavailable"


@asynccontextmanager
async def quiet_proxy(parameters: dict[str, Any]) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A way to the database on which nothing comes through any more once it is made silent."""
    quiet = asyncio.Event()
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not quiet.is_set():
                writer.write(data)
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection(parameters["host"], parameters["port"])
        pumps.update(asyncio.create_task(pump(*way)) for way in ((reader, behind[1]), (behind[0], writer)))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)

    def silent() -> None:
        quiet.set()
        server.close()  # so that psycopg's attempt to cancel is refused at once

    try:
        yield server.sockets[0].getsockname()[1], silent
    finally:
        server.close()
        for task in pumps:
            task.cancel()


async def test_a_tenant_is_deleted_with_its_checkpoints(acme: Tenant, in_acme: Tenant) -> None:
    template = Chain()
    await play(template, run_of(template, thread_of(acme.id, uuid7())))
    await sync_to_async(acme.delete)(using="owner")
    assert await rows() == [0, 0, 0]


def test_the_tables_are_those_of_the_installed_saver(acme: Tenant) -> None:
    """Made by its own migrations in a schema of their own, they differ from ours by `tenant_id` only."""
    from langgraph.checkpoint.postgres.base import MIGRATIONS

    def shape(cursor: Any, schema: str) -> set[tuple[str, ...]]:
        cursor.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = ANY(%s)",
            [schema, list(TABLES)],
        )
        return {row for row in cursor.fetchall() if row[1] != "tenant_id"}

    def keys(cursor: Any, schema: str) -> set[tuple[str, str]]:
        cursor.execute(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype = 'p' AND connamespace = %s::regnamespace AND conrelid::regclass::text LIKE %s",
            [schema, "%checkpoint%"],
        )
        return {(name.removeprefix(f"{schema}."), key) for name, key in cursor.fetchall()}

    with connections["owner"].cursor() as cursor:
        cursor.execute("CREATE SCHEMA theirs; SET search_path = theirs")
        try:
            for migration in MIGRATIONS:
                cursor.execute(migration.replace("CONCURRENTLY", ""))
            cursor.execute("SET search_path = public")
            theirs = {key for key in keys(cursor, "theirs") if key[0] in TABLES}
            assert shape(cursor, "theirs") == shape(cursor, "public")
            assert theirs == keys(cursor, "public")
        finally:
            cursor.execute("DROP SCHEMA theirs CASCADE; RESET search_path")
    assert catalogue_faults(connections["owner"]) == []
