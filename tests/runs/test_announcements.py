"""Sockets are told of the new runs of their session, whoever begins them, and of no old ones."""

import asyncio

import pytest

from core.tenant import tenant_context
from runs.models import Run
from runs.process import process
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_lost_runs import begun
from tests.runs.test_socket import hear, hear_run, run_input, say, socket
from tests.runs.test_waiting_runs import SLOW, all_done
from tests.runs.test_writer import outside

CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


async def test_a_run_of_another_process_reaches_every_tenants_sockets(
    owner: Actor, stranger: Actor, scripted: str, in_acme: Tenant
) -> None:
    with tenant_context(stranger.tenant.id):
        here = await process()  # another tenant was the first to need it
    await begun(owner, "hi")
    await all_done()
    async with socket(owner, "s") as ws:
        await say(ws, {"type": "ping"})
        assert (await hear(ws))["type"] == "pong"
        joined = dict(here._sessions)
        here._sessions.clear()  # so that nobody here is told
        run = await begun(owner, SLOW)
        here._sessions.update(joined)
        async with outside("app_user") as other:
            await asyncio.sleep(0.1)
            await other.execute("SELECT pg_notify('agentsite', %s)", [f"s{run.session_id.hex}"])
        events = await hear_run(ws)
        assert {event["metadata"]["run_id"] for event in events} == {str(run.id)}


async def test_what_was_announced_while_nobody_listened_is_looked_up(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    await begun(owner, "hi")
    await all_done()
    here = await process()
    async with socket(owner, "s") as ws:
        await say(ws, {"type": "ping"})
        assert (await hear(ws))["type"] == "pong"
        joined = dict(here._sessions)
        here._sessions.clear()
        run = await begun(owner, "hi")
        await all_done()
        here._sessions.update(joined)
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
        run = await Run.objects.alatest("created_at")
        assert run.session_id is not None
        (announced,) = here._sessions[run.session_id]
        following = announced.__self__._following  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        assert list(following.values()) == [None, None]
        here.announce(run.session_id, run.key)  # late
        assert await ws.receive_nothing(timeout=0.2)
        await say(ws, {"type": "since", "run_id": str(run.id), "seq": 0})
        assert (await hear_run(ws))[0]["metadata"] == {"seq": 1, "run_id": str(run.id)}


async def test_a_repetition_announces_nothing(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    run = await begun(owner, "hi", idempotency_key="k")
    await all_done()
    async with socket(owner, "s") as ws:
        await say(ws, {"type": "ping"})
        assert (await hear(ws))["type"] == "pong"
        assert (await begun(owner, "hi", idempotency_key="k")).id == run.id
        assert await ws.receive_nothing(timeout=0.2)
