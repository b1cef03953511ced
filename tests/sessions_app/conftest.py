"""A session of Olive's in acme, and eight who want something of it."""

from dataclasses import dataclass, field

import pytest
from django.utils import timezone

from runs.models import Run, RunEvent, ToolApproval
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.sessions_app.people import UserActor, join, make_user
from tests.tenants.guests import make_guest


@dataclass
class Room:
    """`people` by what they are: owner, member, viewer, lowered (a member who is a viewer in the tenant), guest,
    outsider (of the tenant), foreign (another tenant's owner), operator and key.
    """

    session: ChatSession
    run: Run
    approval: ToolApproval
    people: dict[str, Actor] = field(default_factory=dict)

    def user(self, name: str) -> UserActor:
        found = self.people[name]
        assert isinstance(found, UserActor)
        return found


def make_session(owner: Actor, agent: str, **fields: str) -> ChatSession:
    made = owner.post("sessions", {"agent": agent, **fields})
    assert made.status_code == 201, made.content
    return ChatSession.objects.get(id=made.json()["id"])


def make_run(session: ChatSession, **fields: object) -> Run:
    """One that no other waits for, whatever its status."""
    given = {"status": "succeeded", "model": "scripted/default", "source": "api", "actor_kind": "api_key", **fields}
    given = {"finished_at": timezone.now(), **given}
    version = session.agent.version if session.agent else None
    run = Run.objects.create(tenant_id=session.tenant_id, session=session, agent_version=version, last_seq=2, **given)
    events = [(1, "RUN_STARTED", {"runId": "r"}), (2, "RUN_FINISHED", {"runId": "r"})]
    RunEvent.objects.bulk_create(
        RunEvent(tenant_id=run.tenant_id, run_id=run.id, day=run.day, seq=seq, fence=1, type=type, at_ms=1, data=data)
        for seq, type, data in events
    )
    return run


def make_approval(run: Run) -> ToolApproval:
    given = {"reason": "policy", "toolset": "time", "tool": "current_time", "risk": "read", "role": "member"}
    return ToolApproval.objects.create(
        tenant_id=run.tenant_id, run=run, arguments="{}", expires_at="2999-01-01T00:00Z", **given
    )


@pytest.fixture
def room(owner: Actor, stranger: Actor, scripted: str, in_acme: Tenant) -> Room:
    olive = make_user(in_acme, "olive")
    session = make_session(olive, scripted)
    Message.objects.create(tenant=in_acme, session=session, seq=1, role="user", content="Hello")
    ChatSession.objects.filter(id=session.id).update(last_seq=1)
    run = make_run(session)
    people: dict[str, Actor] = {
        "owner": olive,
        "member": make_user(in_acme, "mona"),
        "viewer": make_user(in_acme, "vic"),
        "lowered": make_user(in_acme, "lars", "viewer"),
        "guest": make_guest(in_acme, "Gus"),
        "outsider": make_user(in_acme, "otto"),
        "foreign": stranger,
        "operator": make_user(in_acme, "opal", "operator"),
        "key": owner,
    }
    for name, role in (("member", "member"), ("viewer", "viewer"), ("lowered", "member"), ("guest", "member")):
        join(session, people[name], role)
    return Room(session, run, make_approval(make_run(session, status="waiting")), people)
