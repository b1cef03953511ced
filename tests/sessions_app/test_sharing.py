"""Participants and invitations: who comes, by what, and who stays."""

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any

import orjson
import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from audit.models import AuditEvent
from sessions_app.models import ChatSession, Invitation, Participant
from tenants.models import Guest, Membership, Tenant
from tests.conftest import Actor, make_actor
from tests.sessions_app.conftest import Room, make_session
from tests.sessions_app.people import UserActor, join, make_user, nobody, refusal
from tests.tenants.guests import guest_actor, make_guest

pytestmark = pytest.mark.django_db
PAST = timezone.now() - timedelta(seconds=1)


def accept(client: Client, token: str, **body: Any) -> Any:
    data = orjson.dumps({"token": token, **body})
    return client.generic("POST", "/v1/invitations/accept", data, content_type="application/json")


def invite(owner: Actor, session: ChatSession, **fields: Any) -> dict[str, Any]:
    given = {"role": "member", "audience": "anyone", **fields}
    answer = owner.post(f"sessions/{session.id}/invitations", given)
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
def olive(in_acme: Tenant) -> UserActor:
    return make_user(in_acme, "olive")


@pytest.fixture
def mona(in_acme: Tenant) -> UserActor:
    return make_user(in_acme, "mona")


@pytest.fixture
def session(olive: UserActor, scripted: str) -> ChatSession:
    return make_session(olive, scripted)


def test_an_invitation_is_made_listed_and_used(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    made = invite(olive, session, max_uses=2)
    token, url = made.pop("token"), made.pop("url")
    assert url == f"http://127.0.0.1:8000/chat/#invite={token}"
    row = Invitation.objects.get()
    assert token.split("_", 2)[2].encode() not in bytes(row.secret_hash)
    assert olive.get(f"sessions/{session.id}/invitations").json()["data"] == [made]
    assert AuditEvent.objects.get(action="invitation.create").after["audience"] == "anyone"
    assert mona.get(f"sessions/{session.id}").status_code == 404
    for _ in range(2):  # the second time counts nothing
        answer = accept(mona.http, token)
        assert answer.json() == {"session_id": str(session.id), "role": "member", "guest": None}
    assert Invitation.objects.get().uses == 1
    assert mona.get(f"sessions/{session.id}").json()["role"] == "member"
    people = mona.get(f"sessions/{session.id}/participants").json()["data"]
    assert [(one["kind"], one["label"], one["role"], one["invitation_id"]) for one in people] == [
        ("user", "olive", "owner", None),
        ("user", "mona", "member", made["id"]),
    ]
    event = AuditEvent.objects.get(action="participant.add")
    assert (event.actor_label, event.after["role"]) == ("mona", "member")


def test_somebody_without_an_account_becomes_a_guest(olive: UserActor, session: ChatSession, in_acme: Tenant) -> None:
    token = invite(olive, session)["token"]
    answer = accept(nobody(), token, name="  Ann ").json()
    assert (answer["session_id"], answer["role"]) == (str(session.id), "member")
    ann = guest_actor(in_acme, answer["guest"]["token"], answer["guest"]["secret"])
    assert ann.get("me").json()["principal"]["label"] == "Ann"
    assert [row["id"] for row in ann.get("sessions").json()["data"]] == [str(session.id)]
    other = invite(olive, make_session(olive, "helper"), role="viewer")["token"]
    again = accept(ann.http, other).json()  # with the guest's token
    assert (again["role"], again["guest"]) == ("viewer", None)
    assert len(ann.get("sessions").json()["data"]) == 2
    assert Guest.objects.count() == 1
    assert accept(nobody(), token).json()["guest"]["secret"] != answer["guest"]["secret"]
    assert Guest.objects.order_by("created_at").last().label == "Guest"  # type: ignore[union-attr]


def test_a_user_of_another_tenant_comes_as_a_guest(
    olive: UserActor, session: ChatSession, globex: Tenant, in_acme: Tenant
) -> None:
    sue = make_user(globex, "sue", "owner")
    assert accept(sue.http, invite(olive, session, audience="members")["token"]).status_code == 404
    assert accept(sue.http, invite(olive, session)["token"]).json()["guest"]["secret"].startswith("asv_")
    assert sue.get(f"sessions/{session.id}").status_code == 404


def test_an_invitation_is_for_people(owner: Actor, olive: UserActor, session: ChatSession) -> None:
    assert refusal(accept(owner.http, invite(olive, session)["token"])) == (403, "not_for_programs")


def test_a_browser_accepts_with_its_csrf_token(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    token = invite(olive, session)["token"]
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(mona.user)
    assert refusal(accept(browser, token)) == (403, "csrf_failed")
    browser.cookies["csrftoken"] = "a" * 32
    data = orjson.dumps({"token": token})
    headers = {"X-CSRFToken": "a" * 32}
    done = browser.generic("POST", "/v1/invitations/accept", data, "application/json", headers=headers)
    assert done.json()["role"] == "member"


def test_accepting_raises_a_role_and_lowers_none(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    viewer, member = invite(olive, session, role="viewer")["token"], invite(olive, session)["token"]
    roles = [accept(mona.http, token).json()["role"] for token in (viewer, member, viewer)]
    assert roles == ["viewer", "member", "member"]
    assert accept(olive.http, viewer).json()["role"] == "owner"
    assert sorted(Invitation.objects.values_list("role", "uses")) == [("member", 1), ("viewer", 1)]


@pytest.mark.parametrize("how", ["demoted", "removed"])
@pytest.mark.parametrize("by", ["owner", "themselves"])
def test_no_link_undoes_what_an_owner_did(how: str, by: str, olive: UserActor, in_acme: Tenant, scripted: str) -> None:
    session, otto = make_session(olive, scripted), make_user(in_acme, "otto")
    viewer, member = invite(olive, session, role="viewer"), invite(olive, session)
    other = invite(olive, make_session(olive, scripted))
    for made in (viewer, member):
        accept(otto.http, made["token"])
    own = Participant.objects.get(label="otto")
    place = f"sessions/{session.id}/participants/{own.id}"
    assert olive.patch(place, {"role": "owner"}).status_code == 200
    links = [viewer, member, invite(otto, session)]
    actor = olive if by == "owner" else otto
    done = actor.patch(place, {"role": "viewer"}) if how == "demoted" else actor.delete(place)
    assert done.status_code == (200 if how == "demoted" else 204)
    if by == "owner":
        for made in links:
            for client in (otto.http, nobody()):  # nor do they come as somebody else
                assert refusal(accept(client, made["token"])) == (404, "invitation_invalid")
        roles = list(Participant.objects.filter(session=session).values_list("label", "role"))
        assert roles == [("olive", "owner"), *([("otto", "viewer")] if how == "demoted" else [])]
        assert AuditEvent.objects.filter(action="invitation.revoke", actor_label="olive").count() == 3
    else:  # who goes may come back
        assert accept(otto.http, links[1]["token"]).json()["role"] == "member"
    assert accept(otto.http, other["token"]).status_code == 200
    if by == "owner":
        assert accept(otto.http, invite(olive, session)["token"]).json()["role"] == "member"


def test_an_owner_who_is_lowered_leaves_no_link_behind_and_one_who_is_raised_does(
    olive: UserActor, mona: UserActor, session: ChatSession
) -> None:
    place = f"sessions/{session.id}/participants/{join(session, mona, 'member').id}"
    assert olive.patch(place, {"role": "owner"}).status_code == 200
    token = invite(mona, session, max_uses=5)["token"]
    assert accept(nobody(), token).status_code == 200
    assert olive.patch(place, {"role": "member"}).status_code == 200
    assert refusal(accept(nobody(), token)) == (404, "invitation_invalid")
    token = invite(olive, session)["token"]
    assert olive.patch(place, {"role": "owner"}).status_code == 200
    assert accept(nobody(), token).status_code == 200


def test_who_came_by_a_link_may_do_no_more_by_it(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    first, second = invite(olive, session), invite(olive, session)
    accept(mona.http, first["token"])
    Participant.objects.filter(label="mona").update(role="viewer")
    assert [accept(mona.http, made["token"]).json()["role"] for made in (first, second)] == ["viewer", "member"]
    assert sorted(Invitation.objects.values_list("uses", flat=True)) == [1, 1]


def test_a_viewer_of_the_tenant_stays_one(olive: UserActor, session: ChatSession, in_acme: Tenant) -> None:
    lars = make_user(in_acme, "lars", "viewer")
    assert accept(lars.http, invite(olive, session)["token"]).json()["role"] == "viewer"


def _spoilt(session: ChatSession, globex: Tenant) -> dict[str, Callable[[dict[str, Any]], str]]:
    def change(**fields: Any) -> Callable[[dict[str, Any]], str]:
        def work(made: dict[str, Any]) -> str:
            Invitation.objects.filter(id=made["id"]).update(**fields)
            return str(made["token"])

        return work

    def suspended(made: dict[str, Any]) -> str:
        Tenant.objects.filter(id=session.tenant_id).update(status="suspended")
        return str(made["token"])

    def deleted(made: dict[str, Any]) -> str:
        ChatSession.objects.get(id=session.id).delete()
        return str(made["token"])

    def renamed(made: dict[str, Any]) -> str:
        return str(made["token"]).replace(session.tenant_id.hex, globex.id.hex)

    def wrong(made: dict[str, Any]) -> str:
        return str(made["token"])[:-1] + ("a" if made["token"][-1] != "a" else "b")

    return {
        "expired": change(expires_at=PAST),
        "used up": change(max_uses=1, uses=1),
        "revoked": change(revoked_at=PAST),
        "members": change(audience="members"),
        "other tenant": renamed,
        "wrong": wrong,
        "no token": lambda made: "asi_x_y",
        "nothing": lambda made: "x",
        "suspended": suspended,
        "deleted": deleted,
    }


SPOILT = [
    "expired",
    "used up",
    "revoked",
    "members",
    "other tenant",
    "wrong",
    "no token",
    "nothing",
    "suspended",
    "deleted",
]


@pytest.mark.parametrize("how", SPOILT)
def test_whatever_is_wrong_is_told_in_the_same_words(
    how: str, olive: UserActor, session: ChatSession, globex: Tenant
) -> None:
    made = invite(olive, session)
    assert accept(nobody(), made["token"]).status_code == 200  # it was right before
    before = Participant.objects.count(), Guest.objects.count()
    answer = accept(nobody(), _spoilt(session, globex)[how](made))
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert {**error, "request_id": None} == {
        "message": "This invitation is not valid: ask who sent it for another.",
        "type": "not_found_error",
        "code": "invitation_invalid",
        "param": None,
        "request_id": None,
    }
    assert Guest.objects.count() == before[1]
    assert how == "deleted" or Participant.objects.count() == before[0]


def test_a_suspended_member_is_no_member(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    token = invite(olive, session, audience="members")["token"]
    Membership.objects.filter(user=mona.user).update(status="suspended")
    assert refusal(accept(mona.http, token)) == (404, "invitation_invalid")


def test_a_revoked_invitation_ends_and_may_take_those_along_who_came_by_it(
    olive: UserActor, mona: UserActor, session: ChatSession
) -> None:
    made, other = invite(olive, session), invite(olive, session)
    accept(mona.http, made["token"])
    accept(nobody(), other["token"])
    path = f"sessions/{session.id}/invitations/{made['id']}"
    assert olive.delete(path).status_code == olive.delete(path).status_code == 204
    assert AuditEvent.objects.filter(action="invitation.revoke").count() == 1
    assert refusal(accept(nobody(), made["token"])) == (404, "invitation_invalid")
    assert mona.get(f"sessions/{session.id}").status_code == 200
    assert refusal(olive.delete(f"{path}?participants=yes")) == (400, "invalid_request")
    assert olive.delete(f"{path}?participants=true").status_code == 204
    assert mona.get(f"sessions/{session.id}").status_code == 404
    assert sorted(Participant.objects.values_list("label", flat=True)) == ["Guest", "olive"]
    assert AuditEvent.objects.get(action="participant.remove").before["person"] == "mona"
    nothing = f"sessions/{session.id}/invitations/{session.id}"
    assert refusal(olive.delete(nothing)) == (404, "invitation_not_found")


def test_members_of_the_tenant_are_added_by_name(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    path = f"sessions/{session.id}/participants"
    added = olive.post(path, {"user": "mona", "role": "viewer"})
    assert (added.status_code, added.json()["label"], added.json()["role"]) == (201, "mona", "viewer")
    assert refusal(olive.post(path, {"user": "mona", "role": "member"})) == (409, "already_participant")
    assert refusal(olive.post(path, {"user": "nobody", "role": "member"})) == (404, "member_not_found")
    assert refusal(olive.post(path, {"user": "mona", "role": "king"})) == (400, "invalid_choice")
    changed = olive.patch(f"{path}/{added.json()['id']}", {"role": "owner"})
    assert (changed.status_code, changed.json()["role"]) == (200, "owner")
    event = AuditEvent.objects.get(action="participant.update")
    assert (event.before["role"], event.after["role"], event.actor_label) == ("viewer", "owner", "olive")
    assert mona.patch(f"sessions/{session.id}", {"title": "Ours"}).status_code == 200


def test_those_who_stay_have_an_owner(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    other = join(session, mona, "member")
    own = f"sessions/{session.id}/participants/{Participant.objects.get(label='olive').id}"
    assert refusal(olive.patch(own, {"role": "member"})) == (409, "last_owner")
    assert refusal(olive.delete(own)) == (409, "last_owner")
    assert olive.patch(f"sessions/{session.id}/participants/{other.id}", {"role": "owner"}).status_code == 200
    assert olive.delete(own).status_code == 204
    assert olive.get(f"sessions/{session.id}").status_code == 404
    assert mona.delete(f"sessions/{session.id}/participants/{other.id}").status_code == 204  # nobody is left
    assert not Participant.objects.exists()


def test_a_session_of_programs_needs_no_owner(owner: Actor, mona: UserActor, scripted: str) -> None:
    session = make_session(owner, scripted)
    path = f"sessions/{session.id}/participants"
    member = owner.post(path, {"user": "mona", "role": "member"}).json()["id"]
    assert owner.patch(f"{path}/{member}", {"role": "viewer"}).status_code == 200
    assert owner.delete(f"{path}/{member}").status_code == 204


def test_keys_share_by_their_role_and_scope(session: ChatSession, viewer: Actor, acme: Tenant) -> None:
    body = {"role": "member", "audience": "anyone"}
    path = f"sessions/{session.id}/invitations"
    assert refusal(viewer.post(path, body)) == (403, "role_too_low")
    assert refusal(make_actor(acme, "member", scopes=["read"]).post(path, body)) == (403, "scope_missing")
    assert make_actor(acme, "member", scopes=["chat"]).post(path, body).status_code == 201


@pytest.mark.parametrize(
    "change", [{"expires_in": 59}, {"expires_in": 2_592_001}, {"max_uses": 0}, {"role": "owner"}, {"audience": "all"}]
)
def test_an_invitations_limits(olive: UserActor, session: ChatSession, change: dict[str, Any]) -> None:
    body = {"role": "member", "audience": "anyone", **change}
    assert olive.post(f"sessions/{session.id}/invitations", body).status_code == 400


def test_what_is_shared_goes_with_the_session(olive: UserActor, session: ChatSession) -> None:
    accept(nobody(), invite(olive, session)["token"])
    assert olive.delete(f"sessions/{session.id}").status_code == 204
    assert not Participant.objects.exists()
    assert not Invitation.objects.exists()


def test_the_page_of_a_session_shows_and_changes_who_takes_part(room: Room) -> None:
    session, olive = room.session, room.user("owner")
    made = invite(olive, session)
    accept(nobody(), made["token"], name="<b>Ann</b>")
    path = f"/t/acme/admin/sessions_app/chatsession/{session.id}/change/"
    content = olive.http.get(path).content.decode()
    assert "&lt;b&gt;Ann&lt;/b&gt;" in content
    assert "used 1 times" in content
    shown = room.user("viewer").http.get(path).content.decode()
    assert "mona" in shown
    assert 'name="participant"' not in shown
    mona = Participant.objects.get(label="mona")
    for client, done in ((room.user("viewer").http, False), (room.user("outsider").http, False), (olive.http, True)):
        assert client.post(path, {"do": "role", "participant": mona.id, "role": "viewer"}).status_code == 302
        mona.refresh_from_db()
        assert (mona.role == "viewer") is done
    olive.http.post(path, {"do": "role", "participant": mona.id, "role": "king"})
    olive.http.post(path, {"do": "remove", "participant": mona.id})
    assert not Participant.objects.filter(id=mona.id).exists()
    room.user("operator").http.post(path, {"do": "revoke-all", "invitation": made["id"]})
    assert not Participant.objects.filter(label="<b>Ann</b>").exists()
    assert Invitation.objects.get().revoked_at is not None


def test_a_page_of_a_session_costs_the_same_for_many(
    room: Room, in_acme: Tenant, django_assert_max_num_queries: Any
) -> None:
    olive = room.user("owner")
    path = f"/t/acme/admin/sessions_app/chatsession/{room.session.id}/change/"
    olive.http.get(path)
    with django_assert_max_num_queries(100) as few:
        olive.http.get(path)
    for number in range(5):
        join(room.session, make_guest(in_acme, f"G{number}"), "viewer")
        invite(olive, room.session)
    with django_assert_max_num_queries(100) as many:
        olive.http.get(path)
    assert len(many) == len(few)


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_of_many_who_come_at_once_a_link_for_one_lets_in_one(
    olive: UserActor, session: ChatSession, in_acme: Tenant
) -> None:
    token = invite(olive, session, max_uses=1)["token"]
    together, answers = Barrier(6), []

    def come() -> None:
        together.wait()
        answers.append(accept(nobody(), token).status_code)
        connections.close_all()

    threads = [Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 404, 404, 404, 404, 404]
    assert (Invitation.objects.get().uses, Guest.objects.count(), Participant.objects.count()) == (1, 1, 2)


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_two_owners_who_go_at_once_leave_one(olive: UserActor, mona: UserActor, session: ChatSession) -> None:
    join(session, mona, "owner")
    join(session, make_user(session.tenant, "nora"), "member")
    together, answers = Barrier(2), []

    def go(actor: UserActor, own: str) -> None:
        together.wait()
        answers.append(actor.delete(own).status_code)
        connections.close_all()

    places = [(actor, Participant.objects.get(person_id=actor.user.id).id) for actor in (olive, mona)]
    paths = [(actor, f"sessions/{session.id}/participants/{place}") for actor, place in places]
    threads = [Thread(target=go, args=args) for args in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [204, 409]
    assert Participant.objects.filter(role="owner").count() == 1
