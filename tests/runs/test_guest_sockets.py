"""Sockets of guests: of which pages, and until when."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from tenants.models import Guest, PublishableKey, Tenant
from tests.conftest import Actor
from tests.runs.test_socket import communicator, hear, hear_run, refused, run_input, say, socket, text_of
from tests.tenants.guests import SHOP, GuestActor, make_guest, make_key

pytestmark = pytest.mark.django_db
EVIL = "https://evil.example"


@pytest.fixture
def visitor(in_acme: Tenant, scripted: str) -> GuestActor:
    return make_guest(in_acme, "Vic", make_key(in_acme, origins=[SHOP, "https://more.example"]))


@pytest.fixture
def session(visitor: GuestActor) -> str:
    return str(visitor.post("sessions", {}).json()["id"])


async def ticket_of(visitor: GuestActor) -> list[str]:
    answer = await visitor.apost("ws-tickets", {})
    return ["agui.v1", f"ticket.{answer.json()['ticket']}"]


async def test_a_visitor_talks_over_a_socket(visitor: GuestActor, session: str) -> None:
    protocols = await ticket_of(visitor)
    ws = communicator(session, None, protocols, SHOP)
    assert await ws.connect(timeout=20) == (True, "agui.v1")
    await say(ws, {"type": "run", "input": run_input("hi")})
    assert text_of(await hear_run(ws)) == "You said: hi"
    await say(ws, {"type": "run", "agent": "scripted/default", "input": run_input("hi")})
    assert (await hear(ws))["error"]["code"] == "not_for_guests"
    await ws.disconnect()


async def test_a_person_has_so_many_sockets_and_no_more(
    visitor: GuestActor, session: str, owner: Actor, settings: Any
) -> None:
    settings.SOCKETS_PER_PERSON = 2
    async with socket(visitor, session, origin=SHOP):
        async with socket(visitor, session, origin=SHOP), AsyncExitStack() as of_a_key:
            assert await refused(communicator(session, visitor.token, origin=SHOP)) == 1013
            for _ in range(3):  # which may speak for many
                await of_a_key.enter_async_context(socket(owner, session))
        async with socket(visitor, session, origin=SHOP):
            pass


async def test_only_from_pages_of_the_key(visitor: GuestActor, session: str) -> None:
    async with socket(visitor, session, origin=SHOP):
        pass
    for origin in (EVIL, "null", "http://testserver", None):
        assert await refused(communicator(session, visitor.token, origin=origin)) == 4403
    for origin in (EVIL, "https://more.example", None):  # a ticket is of the page that asked for it
        assert await refused(communicator(session, None, await ticket_of(visitor), origin)) == 4403


async def test_a_guest_of_no_widget_comes_from_our_own_pages(in_acme: Tenant, scripted: str, owner: Actor) -> None:
    guest = await sync_to_async(make_guest)(in_acme)
    assert await refused(communicator("room", guest.token, origin=EVIL)) == 4403


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"origins": ["https://more.example"]}, 4403),
        ({"agent": "other"}, 4403),
        ({"revoked_at": timezone.now()}, 4401),
    ],
)
async def test_a_key_that_changes_closes_the_sockets_that_it_no_longer_covers(
    visitor: GuestActor, session: str, settings: Any, change: dict[str, Any], code: int
) -> None:
    assert settings.SOCKET_RECHECK_SECONDS < 5
    settings.SOCKET_RECHECK_SECONDS = 0.05
    async with socket(visitor, session, origin=SHOP) as ws:
        await sync_to_async(PublishableKey.objects.update)(origins=[SHOP, "https://new.example"])
        assert await ws.receive_nothing(timeout=0.3)
        await sync_to_async(PublishableKey.objects.update)(**change)
        closed = await ws.receive_output(timeout=20)
        assert (closed["type"], closed["code"]) == ("websocket.close", code)


async def test_a_revoked_guest_ends_alone(in_acme: Tenant, visitor: GuestActor, session: str, settings: Any) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.05

    def another() -> tuple[GuestActor, str]:
        other = make_guest(in_acme, "Ann", PublishableKey.objects.get())
        return other, str(other.post("sessions", {}).json()["id"])

    other, theirs = await sync_to_async(another)()
    async with socket(visitor, session, origin=SHOP) as ws, socket(other, theirs, origin=SHOP) as stays:
        await sync_to_async(Guest.objects.filter(id=visitor.principal.id).update)(revoked_at=timezone.now())
        assert (await ws.receive_output(timeout=20))["code"] == 4401
        await say(stays, {"type": "ping"})
        assert await hear(stays) == {"type": "pong"}
