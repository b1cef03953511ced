"""Who may do what in a session: one table over every way to it."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from runs.models import Run, ToolApproval
from sessions_app.models import ChatSession, Participant
from sessions_app.selectors.participants import session_role
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_socket import communicator, hear, hear_run, run_input, say
from tests.sessions_app.conftest import Room, make_approval, make_run, make_session
from tests.sessions_app.people import join, make_user, refusal
from tests.tenants.guests import make_guest

pytestmark = pytest.mark.django_db
PEOPLE = ["owner", "member", "viewer", "lowered", "guest", "outsider", "foreign", "operator", "key"]
READ = dict(zip(PEOPLE, [200, 200, 200, 200, 200, 404, 404, 200, 200], strict=True))
SPEAK = READ | {"viewer": 403, "lowered": 403}
DECIDE = SPEAK | {"guest": 403}
OWN = SPEAK | {"member": 403, "guest": 403}
EDIT = {"title": "Ours"}
# Names of sessions as clients of persons give them.
OTHER, TAKEN, MINE, TO_COME = (f"0e6e9e0a-0000-4000-8000-00000000000{number}" for number in range(4))
SAY = {"messages": [{"role": "user", "content": "hi"}]}


def resumed(room: Room) -> dict[str, Any]:
    return {"resume": [{"interruptId": str(room.approval.id), "status": "resolved", "payload": {"approved": True}}]}


READS: dict[str, Callable[[Actor, Room], Any]] = {
    "get": lambda who, room: who.get(f"sessions/{room.session.id}"),
    "messages": lambda who, room: who.get(f"sessions/{room.session.id}/messages"),
    "runs": lambda who, room: who.get(f"sessions/{room.session.id}/runs"),
    "participants": lambda who, room: who.get(f"sessions/{room.session.id}/participants"),
    "run": lambda who, room: who.get(f"runs/{room.run.id}"),
    "approval": lambda who, room: who.get(f"approvals/{room.approval.id}"),
}
OWNS: dict[str, Callable[[Actor, Room], Any]] = {
    "edit": lambda who, room: who.patch(f"sessions/{room.session.id}", EDIT),
    "archive": lambda who, room: who.patch(f"sessions/{room.session.id}", {"status": "closed"}),
    "invitations": lambda who, room: who.get(f"sessions/{room.session.id}/invitations"),
}
GAUGES = {"delete": 204, "invite": 201, "add": 201, "promote": 200, "remove": 204}


def statuses(table: dict[str, Callable[[Actor, Room], Any]], room: Room) -> dict[str, dict[str, int]]:
    return {op: {who: ask(room.people[who], room).status_code for who in PEOPLE} for op, ask in table.items()}


def test_who_takes_part_reads(room: Room) -> None:
    assert statuses(READS, room) == dict.fromkeys(READS, READ)


def test_the_owner_decides_about_the_session(room: Room) -> None:
    assert statuses(OWNS, room) == dict.fromkeys(OWNS, OWN)


@pytest.mark.parametrize("who", PEOPLE)
def test_who_may_change_who_takes_part(room: Room, who: str) -> None:
    path, actor = f"sessions/{room.session.id}", room.people[who]
    mona = Participant.objects.get(label="mona")
    make_user(room.session.tenant, "nora")
    invite = {"role": "viewer", "audience": "members"}
    got = {
        "invite": actor.post(f"{path}/invitations", invite).status_code,
        "add": actor.post(f"{path}/participants", {"user": "nora", "role": "member"}).status_code,
        "promote": actor.patch(f"{path}/participants/{mona.id}", {"role": "owner"}).status_code,
        "remove": actor.delete(f"{path}/participants/{mona.id}").status_code,
        "delete": actor.delete(path).status_code,
    }
    if who == "member":  # everybody may go, and has then gone
        assert (got.pop("remove"), got.pop("delete")) == (204, 404)
    refused = OWN[who]
    assert got == {op: status if refused == 200 else refused for op, status in GAUGES.items() if op in got}


@pytest.mark.parametrize("who", PEOPLE)
def test_lists_have_what_one_may_see(room: Room, who: str, django_assert_max_num_queries: Any) -> None:
    other = make_session(room.people["outsider"], "helper", external_id=OTHER)
    make_approval(make_run(other, status="waiting"))
    actor, found = room.people[who], READ[who] == 200
    everything = who in ("operator", "key")
    expected = {"outsider": {other.id}, "foreign": set()}.get(who, {room.session.id})
    expected = {room.session.id, other.id} if everything else expected
    listed = actor.get("sessions").json()["data"]
    assert {row["id"] for row in listed} == {str(id) for id in expected}
    approvals = {row["session_id"] for row in actor.get("approvals", status="pending").json()["data"]}
    assert approvals == {str(id) for id in expected}
    roles = {"member": "member", "viewer": "viewer", "lowered": "viewer", "guest": "member"}
    for row in listed:
        assert row["role"] == roles.get(who, "owner")
    if found:
        assert session_role(actor=actor.principal, session=room.session) == listed[-1]["role"]
        assert actor.get(f"sessions/{OTHER}").status_code == (200 if everything else 404)


@pytest.mark.parametrize("who", PEOPLE)
async def test_who_may_speak(room: Room, who: str) -> None:
    actor = room.people[who]
    thread = str(room.session.id)
    chat = await actor.apost("chat/completions", {"model": "helper", **SAY, "metadata": {"session_id": thread}})
    stream = await actor.apost("agents/helper/ag-ui", run_input("hi", thread))
    events = await actor.ahttp.get(
        f"/v1/runs/{room.run.id}/events", headers={**actor.headers, "Accept": "text/event-stream"}
    )
    cancelled = await actor.apost(f"runs/{room.run.id}/cancel", {})
    decided = await actor.apost(f"runs/{room.approval.run_id}/resume", resumed(room))
    listed = await actor.aget(f"runs/{room.run.id}/events")
    assert (events.status_code, listed.status_code) == (READ[who], READ[who])
    spoken = {"chat": chat, "ag-ui": stream, "cancel": cancelled}
    assert {op: answer.status_code for op, answer in spoken.items()} == dict.fromkeys(spoken, SPEAK[who])
    assert decided.status_code == DECIDE[who]
    for answer in (*spoken.values(), decided):
        if answer.status_code == 403:
            assert answer.json()["error"]["code"] == ("not_for_guests" if who == "guest" else "role_too_low")
    begun = await Run.objects.filter(
        session=room.session, source__in=["api", "ag-ui"], actor_id=actor.principal.id
    ).acount()
    assert begun == (2 if SPEAK[who] == 200 else 0)
    approval = await ToolApproval.objects.aget(id=room.approval.id)
    assert (approval.status == "approved") is (DECIDE[who] == 200)


async def test_members_replace_what_they_said_themselves(room: Room) -> None:
    thread = str(room.session.id)

    async def chat(who: str, **more: str) -> Any:
        body = {"model": "helper", **SAY, "metadata": {"session_id": thread, **more}}
        return await room.people[who].apost("chat/completions", body)

    places = {}
    for who in ("owner", "member"):
        assert (await chat(who)).status_code == 200
        places[who] = str((await ChatSession.objects.aget(id=room.session.id)).last_seq - 1)
    assert refusal(await chat("member", replace_from=places["owner"])) == (403, "others_message")
    assert (await chat("member", replace_from=places["member"])).status_code == 200
    last = (await ChatSession.objects.aget(id=room.session.id)).last_seq
    again = await chat("owner", replace_from=str(last))  # the answer to the member's question
    assert again.status_code == 200
    assert (await chat("owner", replace_from=places["owner"])).status_code == 200


async def open_socket(actor: Actor, ref: str) -> Any:
    """As a browser does, by a ticket."""
    ticket = await sync_to_async(actor.post)("ws-tickets")
    ws = communicator(ref, None, ["agui.v1", f"ticket.{ticket.json()['ticket']}"])
    assert await ws.connect(timeout=20) == (True, "agui.v1")
    return ws


@pytest.mark.parametrize("who", PEOPLE)
async def test_who_may_open_a_socket_and_speak_in_it(room: Room, who: str) -> None:
    if who == "foreign":  # in whose own tenant a session of this name may be made
        return
    ws = await open_socket(room.people[who], str(room.session.id))
    if READ[who] == 404:
        assert await ws.receive_output(timeout=20) == {"type": "websocket.close", "code": 4403, "reason": "not_found"}
        return
    await say(ws, {"type": "ping"})
    while (frame := await hear(ws))["type"] != "pong":
        assert frame["metadata"]
    await say(ws, {"type": "run", "agent": "helper", "input": run_input("hi", str(room.session.id))})
    last = (await hear_run(ws))[-1]
    if SPEAK[who] == 403:
        assert last["error"]["code"] == "role_too_low"
    else:
        assert last["type"] == "RUN_FINISHED"
    await say(ws, {"type": "cancel", "run_id": str(room.run.id)})
    await say(ws, {"type": "ping"})
    heard = [await hear(ws)]
    if SPEAK[who] == 403:
        heard.append(await hear(ws))
        assert {frame["type"] for frame in heard} == {"pong", "error"}
    await ws.disconnect()


def test_a_foreign_session_is_as_one_that_does_not_exist(room: Room) -> None:
    otto = room.people["outsider"]
    for method, path in (("GET", ""), ("GET", "/messages"), ("GET", "/runs"), ("PATCH", ""), ("DELETE", "")):
        bodies = []
        for id in (room.session.id, "01a21eed-4e9d-7392-824d-ea51b3ea62de"):
            answer = otto.send(method, f"sessions/{id}{path}", EDIT if method == "PATCH" else None)
            error = answer.json()["error"]
            bodies.append((answer.status_code, {**error, "request_id": None}))
        assert bodies[0] == bodies[1]
        assert bodies[0][0] == 404


async def test_a_name_that_is_taken_tells_nothing(room: Room, in_acme: Tenant) -> None:
    await ChatSession.objects.filter(id=room.session.id).aupdate(external_id=TAKEN)
    otto, gus = room.people["outsider"], room.people["guest"]
    made = await otto.apost("sessions", {"external_id": TAKEN})
    said = await otto.apost("chat/completions", {"model": "helper", **SAY, "metadata": {"session_id": TAKEN}})
    by_id = await otto.apost(
        "chat/completions", {"model": "helper", **SAY, "metadata": {"session_id": str(room.session.id)}}
    )
    for answer in (made, said, by_id):
        assert (refusal(answer), answer.json()["error"]["message"]) == ((404, "not_found"), "No session with this id.")
    again = await room.people["owner"].apost("sessions", {"external_id": TAKEN})
    assert refusal(again) == (409, "session_exists")
    mine = await otto.apost("chat/completions", {"model": "helper", **SAY, "metadata": {"session_id": MINE}})
    assert mine.status_code == 200
    owner = await Participant.objects.aget(session__external_id=MINE)
    assert (owner.person_id, owner.role) == (otto.principal.id, "owner")
    for name in ({"external_id": "customer-42"}, {"external_id": "customer-42", "agent": "helper"}):
        assert refusal(await otto.apost("sessions", name)) == (400, "name_for_programs")
    guessed = {"model": "helper", **SAY, "metadata": {"session_id": "customer-42"}}
    assert refusal(await otto.apost("chat/completions", guessed)) == (404, "not_found")
    assert (await room.people["key"].apost("chat/completions", guessed)).status_code == 200
    assert refusal(await otto.aget("sessions/customer-42")) == (404, "not_found")
    refused = await gus.apost("chat/completions", {"model": "helper", **SAY, "metadata": {"session_id": "new"}})
    assert refusal(refused) == (404, "not_found")
    assert not await ChatSession.objects.filter(external_id="new").aexists()


async def test_a_socket_waits_for_a_session_only_where_it_may_be_made(room: Room) -> None:
    gus, lars = room.people["guest"], room.people["lowered"]
    for refused in (gus, lars):
        ws = await open_socket(refused, TO_COME)
        assert await ws.receive_output(timeout=20) == {"type": "websocket.close", "code": 4403, "reason": "not_found"}
    mona, otto = (
        await open_socket(room.people["member"], TO_COME),
        await open_socket(room.people["outsider"], TO_COME),
    )
    await say(otto, {"type": "run", "agent": "helper", "input": run_input("mine", TO_COME)})
    assert (await hear_run(otto))[-1]["type"] == "RUN_FINISHED"
    await say(otto, {"type": "run", "input": run_input("again", TO_COME)})
    assert (await hear_run(otto))[-1]["type"] == "RUN_FINISHED"
    assert await mona.receive_nothing(timeout=0.3)
    await say(mona, {"type": "run", "agent": "helper", "input": run_input("mine too", TO_COME)})
    assert (await hear(mona))["error"]["code"] == "not_found"
    await otto.disconnect()
    await mona.disconnect()


async def test_a_repetition_finds_no_other_persons_run(room: Room) -> None:
    body = {"model": "helper", **SAY}
    answers = []
    for who in ("owner", "outsider", "owner"):
        actor = room.people[who]
        headers = {**actor.headers, "Idempotency-Key": "one"}
        answers.append(
            await actor.ahttp.post("/v1/chat/completions", body, content_type="application/json", headers=headers)
        )
    assert [answer.status_code for answer in answers] == [200, 422, 200]
    assert answers[0].headers["X-Run-Id"] == answers[2].headers["X-Run-Id"]
    await Participant.objects.filter(session_id=answers[0].json()["metadata"]["session_id"]).adelete()
    actor = room.people["owner"]
    headers = {**actor.headers, "Idempotency-Key": "one"}
    gone = await actor.ahttp.post("/v1/chat/completions", body, content_type="application/json", headers=headers)
    assert gone.status_code == 404


async def test_runs_without_a_session_are_their_own_persons(room: Room) -> None:
    mona, otto = room.people["member"], room.people["outsider"]
    answer = await mona.apost("chat/completions", {"model": "scripted/default", **SAY})
    path = f"runs/{answer.headers['X-Run-Id']}"
    assert [(await who.aget(path)).status_code for who in (mona, otto, room.people["operator"])] == [200, 404, 200]


def test_confinement_costs_no_query_more(room: Room, django_assert_num_queries: Any) -> None:
    olive, key = room.user("owner"), room.people["key"]
    for warm in (olive, key):
        warm.get("sessions")
    for number in range(3):
        make_session(olive, "helper", external_id=f"{MINE[:-1]}{number + 4}")
    with django_assert_num_queries(1):
        assert len(key.get("sessions").json()["data"]) == 4
    with django_assert_num_queries(4):  # the browser's session, the user and the memberships before
        assert len(olive.get("sessions").json()["data"]) == 4
    with django_assert_num_queries(2):
        key.get(f"sessions/{room.session.id}/messages")
    with django_assert_num_queries(5):
        olive.get(f"sessions/{room.session.id}/messages")
    with django_assert_num_queries(2):
        key.get(f"sessions/{room.session.id}/participants")


def test_an_api_keys_turn_asks_nothing_of_participants(room: Room, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert session_role(actor=room.people["key"].principal, session=room.session) == "owner"
        assert session_role(actor=room.people["operator"].principal, session=room.session) == "owner"
    with django_assert_num_queries(1):
        assert session_role(actor=room.people["lowered"].principal, session=room.session) == "viewer"


def test_who_makes_a_session_is_its_owner_and_programs_own_none(room: Room, in_acme: Tenant) -> None:
    for who in ("member", "operator", "key"):
        made = make_session(room.people[who], "helper")
        owners = [(one.person_kind, one.label, one.role) for one in made.participants.all()]
        assert owners == ([] if who == "key" else [("user", room.people[who].principal.label, "owner")])


def test_the_palette_and_the_lists_of_the_admin(room: Room) -> None:
    session, run = room.session.id, room.run.id
    for who in ("owner", "member", "viewer", "lowered", "outsider", "operator"):
        http, found = room.user(who).http, READ[who] == 200

        def seen(path: str, http: Any = http) -> Any:
            return http.get(f"/t/acme/admin/{path}")

        pages = {
            f"sessions_app/chatsession/{session}/change/": 200,
            f"runs/run/{run}/change/": 200,
            f"runs/toolapproval/{room.approval.id}/change/": 200,
        }
        assert {path: seen(path).status_code for path in pages} == dict.fromkeys(pages, 200 if found else 302)
        for page in ("sessions_app/chatsession/", "runs/run/", "runs/toolapproval/"):
            count = {"runs/run/": 2}.get(page, 1)
            assert seen(f"{page}?since=all").context_data["cl"].result_count == (count if found else 0), (who, page)
        for text in (session, run):
            results = seen(f"search/?s={text}&extended=1")
            assert (str(text) in results.content.decode()) is found, (who, text)


def test_statistics_count_what_one_may_see(room: Room) -> None:
    make_run(make_session(room.people["outsider"], "helper"))

    def counted(who: str) -> int:
        return int(room.people[who].get("templates/conversation/statistics", days=1).json()["runs"])

    assert [counted(who) for who in ("owner", "lowered", "outsider", "key")] == [2, 2, 1, 3]


def test_a_guest_has_only_the_sessions_that_they_were_let_into(room: Room, in_acme: Tenant) -> None:
    ann = make_guest(in_acme, "Ann")
    assert ann.get("sessions").json()["data"] == []
    assert refusal(ann.get(f"sessions/{room.session.id}")) == (404, "not_found")
    join(room.session, ann, "viewer")
    assert ann.get(f"sessions/{room.session.id}").json()["role"] == "viewer"
