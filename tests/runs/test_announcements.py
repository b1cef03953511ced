"""Sockets are told of the new runs of their session, whoever begins them, and of no old ones."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from core.tenant import tenant_context
from runs.models import Run
from runs.process import process, topic_of
from sessions_app.models import ChatSession
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_lost_runs import begun
from tests.runs.test_socket import hear, hear_run, run_input, say, silent, socket
from tests.runs.test_waiting_runs import SLOW, all_done
from tests.runs.test_writer import outside

CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


def topic(run: Run) -> UUID:
    assert run.session is not None
    return topic_of(run.session)


def test_a_session_that_is_named_as_another_has_a_topic_of_its_own(acme: Tenant, globex: Tenant) -> None:
    ours = ChatSession(tenant_id=acme.id)
    named = [ChatSession(tenant_id=tenant.id, external_id=str(ours.id)) for tenant in (acme, globex)]
    assert len({topic_of(session) for session in (ours, *named)}) == 3


async def joined(ws: Any) -> None:
    """Once it waits for runs."""
    await say(ws, {"type": "ping"})
    assert (await hear(ws))["type"] == "pong"


async def begun_elsewhere(owner: Actor, text: str) -> Run:
    """As another process would begin it: nobody here is told but by the database."""
    here = await process()
    told = dict(here._topics)
    here._topics.clear()
    run = await begun(owner, text)
    here._topics.update(told)
    async with outside("app_user") as other:
        await asyncio.sleep(0.1)
        await other.execute("SELECT pg_notify('agentsite', %s)", [f"s{topic(run).hex}"])
    return run


async def test_a_run_of_another_process_reaches_every_tenants_sockets(
    owner: Actor, stranger: Actor, scripted: str, in_acme: Tenant
) -> None:
    with tenant_context(stranger.tenant.id):
        await process()  # another tenant was the first to need it
    await begun(owner, "hi")
    await all_done()
    async with socket(owner, "s") as ws:
        await joined(ws)
        run = await begun_elsewhere(owner, SLOW)
        events = await hear_run(ws)
        assert {event["metadata"]["run_id"] for event in events} == {str(run.id)}


async def test_what_was_announced_while_nobody_listened_is_looked_up(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    await begun(owner, "hi")
    await all_done()
    here = await process()
    async with socket(owner, "s") as ws:
        await joined(ws)
        told = dict(here._topics)
        here._topics.clear()
        run = await begun(owner, "hi")
        await all_done()
        here._topics.update(told)
        async with outside("none") as other:
            assert (await other.execute(CUT)).rowcount == 1
        events = await hear_run(ws)
        assert {event["metadata"]["run_id"] for event in events} == {str(run.id)}


async def test_of_a_run_that_has_ended_a_socket_keeps_its_id(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    here = await process()
    async with socket(owner, "s") as ws:
        for text in ("one", "two"):
            await say(ws, {"type": "run", "agent": scripted, "input": run_input(text, "s")})
            await hear_run(ws)
        run = await Run.objects.select_related("session").alatest("created_at")
        (announced,) = here._topics[topic(run)]
        (member,) = announced.__self__.members  # type: ignore[attr-defined]
        following = member._following
        await asyncio.sleep(0.05)
        assert list(following.values()) == [None, None]
        here.announce(topic(run), run.key)  # late
        assert await silent(ws, 0.2)
        await say(ws, {"type": "since", "run_id": str(run.id), "seq": 0})
        metadata = (await hear_run(ws))[0]["metadata"]
        assert (metadata["seq"], metadata["run_id"]) == (1, str(run.id))


async def test_a_socket_that_is_there_before_its_session_sees_its_runs_once(
    owner: Actor, viewer: Actor, stranger: Actor, scripted: str, in_acme: Tenant
) -> None:
    async with socket(owner, "s") as first, socket(viewer, "s") as second, socket(stranger, "s") as theirs:
        for ws in (first, second, theirs):
            await joined(ws)
        for text in ("one", "two"):
            run = await begun(owner, text)
            heard = [await hear_run(ws) for ws in (first, second)]
            assert heard[0] == heard[1]
            assert [event["metadata"]["run_id"] for event in heard[0]] == [str(run.id)] * len(heard[0])
        for ws in (first, second, theirs):
            assert await silent(ws, 0.1)


async def test_a_socket_that_is_there_before_its_session_sees_the_runs_of_other_processes(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    async with socket(owner, "s") as ws:
        await joined(ws)
        run = await begun_elsewhere(owner, SLOW)
        assert {event["metadata"]["run_id"] for event in await hear_run(ws)} == {str(run.id)}
        assert await silent(ws, 0.1)


async def test_sockets_by_our_id_and_by_the_clients_see_the_same(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    before = await begun(owner, "hi")
    await all_done()
    async with socket(owner, str(before.session_id)) as ours, socket(owner, "s") as theirs:
        for ws in (ours, theirs):
            await joined(ws)
        await begun(owner, "again")
        assert await hear_run(ours) == await hear_run(theirs)


async def test_a_repetition_announces_nothing(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner, "hi", idempotency_key="k")
    await all_done()
    async with socket(owner, "s") as ws:
        await joined(ws)
        assert (await begun(owner, "hi", idempotency_key="k")).id == run.id
        assert await silent(ws, 0.2)
