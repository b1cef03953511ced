"""A person's run that waits has its turn only while they may still speak in its session."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.aio import in_db_thread
from runs import runner
from runs.models import Run, RunLease
from runs.services.authors import author_check
from runs.services.steer import steering_hear
from runs.services.turns import TurnRequest
from sessions_app.models import ChatSession, Message, Participant
from tenants.models import Membership, Tenant, User
from tests.conftest import Actor
from tests.runs.test_chat_completions import user
from tests.runs.test_waiting_runs import HANG, all_done
from tests.sessions_app.conftest import make_session
from tests.sessions_app.people import UserActor, join, make_user
from tests.tenants.guests import make_guest

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
ENDED = ("failed", "participation_ended")
WELL = ("succeeded", "")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert not RunLease.objects.using("owner").exists()


@dataclass
class Line:
    """Olive's session, whose run hangs; others wait behind it."""

    olive: UserActor
    session: ChatSession
    people: dict[str, Actor]

    async def ask(self, actor: Actor, text: str, **more: Any) -> Run:
        asked = TurnRequest("helper", user(text), "api", session=str(self.session.id), **more)
        return await runner.begin(actor=actor.principal, request=asked)

    async def end(self, first: Run) -> None:
        await runner.stop(actor=self.olive.principal, ref=str(first.id))
        await all_done()


@pytest.fixture
def line(scripted: str, in_acme: Tenant) -> Line:
    olive = make_user(in_acme, "olive")
    session = make_session(olive, scripted)
    people: dict[str, Actor] = {"user": make_user(in_acme, "mona"), "guest": make_guest(in_acme, "Gus")}
    for person in people.values():
        join(session, person, "member")
    return Line(olive, session, {**people, "operator": make_user(in_acme, "opal", "operator")})


def change(line: Line, who: str, how: str) -> None:
    them = line.people[who].principal
    row = Participant.objects.filter(person_id=them.id)
    place = f"sessions/{line.session.id}/participants/{row.values_list('id', flat=True).first()}"
    members = Membership.objects.filter(user_id=them.id)
    match how:
        case "demoted":
            assert line.olive.patch(place, {"role": "viewer"}).status_code == 200
        case "removed":
            assert line.olive.delete(place).status_code == 204
        case "viewer of the tenant" | "member of the tenant":
            members.update(role=how.split()[0])
        case "suspended":
            members.update(status="suspended")
        case "inactive":
            User.objects.filter(id=them.id).update(is_active=False)


CASES = [
    ("user", "as before", WELL),
    ("user", "demoted", ENDED),
    ("user", "removed", ENDED),
    ("user", "viewer of the tenant", ENDED),
    ("user", "suspended", ENDED),
    ("user", "inactive", ENDED),
    ("guest", "as before", WELL),
    ("guest", "demoted", ENDED),
    ("guest", "removed", ENDED),
    ("operator", "as before", WELL),
    ("operator", "member of the tenant", ENDED),
]


@pytest.mark.parametrize(("who", "how", "end"), CASES)
async def test_a_run_that_waits_begins_while_its_author_may_speak(
    line: Line, who: str, how: str, end: tuple[str, str]
) -> None:
    first = await line.ask(line.olive, HANG)
    waiting, last = await line.ask(line.people[who], "two"), await line.ask(line.olive, "three")
    assert (waiting.status, last.status) == ("queued", "queued")
    await sync_to_async(change)(line, who, how)
    await line.end(first)
    await waiting.arefresh_from_db()
    await last.arefresh_from_db()
    assert (waiting.status, waiting.error_code) == end
    assert last.status == "succeeded"  # whoever waits behind them has their turn
    assert await Message.objects.filter(content="two").aexists() is (end == WELL)


@pytest.mark.parametrize(("how", "heard"), [("as before", True), ("demoted", False), ("removed", False)])
async def test_an_agent_hears_only_who_may_speak(line: Line, how: str, heard: bool) -> None:
    first = await line.ask(line.olive, HANG)
    waiting = await line.ask(line.people["user"], "two", when_busy="steer")
    await sync_to_async(change)(line, "user", how)
    found = await in_db_thread(steering_hear, run=first, heard=set())
    assert [id for id, _ in found] == ([str(waiting.id)] if heard else [])
    await line.end(first)


@pytest.mark.parametrize(("how", "end"), [("as before", "succeeded"), ("lowered", "failed")])
async def test_what_others_said_is_replaced_by_owners_only_also_later(line: Line, how: str, end: str) -> None:
    mona = line.people["user"]
    await sync_to_async(Participant.objects.filter(person_id=mona.principal.id).update)(role="owner")
    await line.ask(line.olive, "one")
    await all_done()
    first = await line.ask(line.olive, HANG)
    waiting = await line.ask(mona, "again")
    asked = {**waiting.request, "replace_from": 1}  # as of one that interrupts, and waits until that has ended
    await Run.objects.filter(id=waiting.id).aupdate(request=asked)
    if how == "lowered":
        await sync_to_async(Participant.objects.filter(person_id=mona.principal.id).update)(role="member")
    await line.end(first)
    await waiting.arefresh_from_db()
    assert waiting.status == end
    assert waiting.error_code == ("" if how == "as before" else "others_message")
    replaced = await Message.objects.filter(content="one", replaced_by=waiting.id).aexists()
    assert replaced is (how == "as before")


def test_of_an_api_keys_run_nothing_is_asked(line: Line, owner: Actor) -> None:
    def check(actor: Actor) -> int:
        who = actor.principal
        run = Run(tenant_id=who.tenant_id, session=line.session, actor_kind=who.kind, actor_id=who.id)
        with CaptureQueriesContext(connection) as asked:
            author_check(run)
        return len(asked)

    assert (check(owner), check(line.people["guest"]), check(line.people["user"])) == (0, 1, 2)
