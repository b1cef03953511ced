"""Sockets end with their person's place in the session, and with the session."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async

from sessions_app.models import ChatSession, Participant
from sessions_app.selectors.places import Place, place_of, places_lost
from tenants.models import Guest, Tenant
from tests.conftest import Actor
from tests.runs.test_socket import communicator, hear, run_input, say
from tests.sessions_app.conftest import Room, make_session
from tests.sessions_app.conftest import room as room
from tests.sessions_app.people import join, make_user

pytestmark = pytest.mark.django_db
HALL, TO_COME = "0e6e9e0a-0000-4000-8000-000000000001", "0e6e9e0a-0000-4000-8000-000000000002"


async def opened(actor: Actor, ref: object) -> Any:
    ticket = await sync_to_async(actor.post)("ws-tickets")
    ws = communicator(str(ref), None, ["agui.v1", f"ticket.{ticket.json()['ticket']}"])
    assert await ws.connect(timeout=20) == (True, "agui.v1")
    return ws


async def closed(ws: Any) -> tuple[int, str]:
    while (output := await ws.receive_output(timeout=20))["type"] != "websocket.close":
        pass
    return output["code"], output["reason"]


async def lives(ws: Any) -> bool:
    await say(ws, {"type": "ping"})
    return (await hear(ws))["type"] == "pong"


def demote(room: Room) -> None:
    path = f"sessions/{room.session.id}/participants/{Participant.objects.get(label='mona').id}"
    assert room.people["owner"].patch(path, {"role": "viewer"}).status_code == 200


def promote(room: Room) -> None:
    path = f"sessions/{room.session.id}/participants/{Participant.objects.get(label='mona').id}"
    assert room.people["owner"].patch(path, {"role": "owner"}).status_code == 200


def remove(room: Room) -> None:
    path = f"sessions/{room.session.id}/participants/{Participant.objects.get(label='mona').id}"
    assert room.people["owner"].delete(path).status_code == 204


@pytest.mark.parametrize(
    ("change", "reason"),
    [(demote, "participation_changed"), (promote, "participation_changed"), (remove, "participation_ended")],
)
async def test_a_changed_participants_sockets_close(
    room: Room, settings: Any, change: Callable[[Room], None], reason: str
) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.05
    mona, gus, key = [await opened(room.people[who], room.session.id) for who in ("member", "guest", "key")]
    for ws in (mona, gus, key):
        assert await lives(ws)
    await sync_to_async(change)(room)
    assert await closed(mona) == (4403, reason)
    assert await lives(gus)
    assert await lives(key)
    again = await opened(room.people["member"], room.session.id)
    assert await closed(again) == (4403, "not_found") if change is remove else await lives(again)
    for ws in (again, gus, key):
        await ws.disconnect()


async def test_everybody_is_told_that_a_session_has_gone(room: Room, settings: Any) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.05
    sockets = [await opened(room.people[who], room.session.id) for who in ("owner", "guest", "operator", "key")]
    other = await opened(room.people["key"], "elsewhere")
    for ws in sockets:
        assert await lives(ws)
    assert (await sync_to_async(room.people["owner"].delete)(f"sessions/{room.session.id}")).status_code == 204
    for ws in sockets:
        assert await closed(ws) == (4403, "session_deleted")
    assert await lives(other)
    await other.disconnect()


async def test_a_revoked_guests_socket_closes(room: Room, settings: Any) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.05
    gus = await opened(room.people["guest"], room.session.id)
    assert await lives(gus)
    await Guest.objects.aupdate(revoked_at="2026-01-01T00:00Z")
    assert (await closed(gus))[0] in (4401, 4403)


async def test_who_makes_a_session_by_a_socket_has_a_place_in_it(room: Room, settings: Any) -> None:
    settings.SOCKET_RECHECK_SECONDS = 0.05
    ws = await opened(room.people["outsider"], TO_COME)
    await say(ws, {"type": "run", "agent": "helper", "input": run_input("mine", TO_COME)})
    while (await hear(ws))["type"] != "RUN_FINISHED":
        pass
    assert await lives(ws)
    assert await Participant.objects.filter(session__external_id=TO_COME).adelete()
    assert await closed(ws) == (4403, "participation_ended")


def test_all_places_of_any_tenants_are_one_statement(
    room: Room, globex: Tenant, stranger: Actor, django_assert_num_queries: Any
) -> None:
    places = [
        place_of(actor=room.people[who].principal, session=room.session) for who in ("owner", "guest", "operator")
    ]
    made = stranger.post("sessions", {}).json()["id"]
    places += [Place(UUID(made)), place_of(actor=room.people["viewer"].principal, session=room.session)]
    Participant.objects.filter(label="vic").update(role="member")
    with django_assert_num_queries(1):
        lost = places_lost(places)
    assert {place: fault.code for place, fault in lost.items()} == {places[-1]: "participation_changed"}
    with django_assert_num_queries(0):
        assert places_lost([]) == {}


async def test_a_name_made_again_by_somebody_else_shows_nothing(room: Room, in_acme: Tenant) -> None:
    """Before the look that closes the socket."""
    session = await sync_to_async(make_session)(room.people["owner"], "helper", external_id=HALL)
    mona = await opened(room.people["member"], HALL)
    assert await closed(mona) == (4403, "not_found")
    await sync_to_async(join)(session, room.people["member"], "member")
    mona = await opened(room.people["member"], HALL)
    assert await lives(mona)
    await ChatSession.objects.filter(id=session.id).adelete()
    nora = await sync_to_async(make_user)(in_acme, "nora")
    theirs = await opened(nora, HALL)
    await say(theirs, {"type": "run", "agent": "helper", "input": run_input("secret", HALL)})
    while (await hear(theirs))["type"] != "RUN_FINISHED":
        pass
    assert await mona.receive_nothing(timeout=0.3)
    await mona.disconnect()
    await theirs.disconnect()
