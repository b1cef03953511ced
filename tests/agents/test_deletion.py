from typing import Any

from agents.models import Agent, AgentVersion
from agents.services import agent_create, agent_delete, agent_update
from audit.models import AuditEvent
from runs.models import Run
from sessions_app.models import ChatSession, Message
from tests.conftest import Actor
from toolsets.models import Toolset


def test_what_an_agent_said_outlives_it(owner: Actor, body: dict[str, Any]) -> None:
    agent = agent_create(actor=owner.principal, **body)
    first = agent.version
    agent = agent_update(actor=owner.principal, ref="helper", changes={"name": "Second"})
    tenant = owner.tenant
    session = ChatSession.objects.create(tenant=tenant, agent=agent, created_by="x")
    for seq, version in enumerate((first, agent.version), 1):
        Message.objects.create(
            tenant=tenant, session=session, seq=seq, role="assistant", content=f"answer {seq}", agent_version=version
        )
    run = Run.objects.create(
        tenant=tenant, session=session, agent_version=first, model="m", source="api", actor_kind="x", actor_label="x"
    )
    agent_delete(actor=owner.principal, ref="helper")
    session.refresh_from_db()
    run.refresh_from_db()
    assert (session.agent, run.agent_version) == (None, None)
    said = session.messages.order_by("seq").values_list("content", "agent_version")
    assert list(said) == [("answer 1", None), ("answer 2", None)]
    assert not Agent.objects.exists()
    assert not AgentVersion.objects.exists()


def test_deleting_takes_as_many_queries_for_many_answers(
    owner: Actor, body: dict[str, Any], django_assert_max_num_queries: Any
) -> None:
    agent = agent_create(actor=owner.principal, **body)
    session = ChatSession.objects.create(tenant=owner.tenant, agent=agent, created_by="x")
    Message.objects.bulk_create(
        Message(tenant=owner.tenant, session=session, seq=n, role="assistant", agent_version=agent.version)
        for n in range(1, 200)
    )
    with django_assert_max_num_queries(20):
        agent_delete(actor=owner.principal, ref="helper")
    assert Message.objects.count() == 199


def test_a_provider_in_use_is_neither_deleted_nor_renamed(owner: Actor, body: dict[str, Any]) -> None:
    assert owner.post("agents", body).status_code == 201
    for answer in (owner.delete("providers/scripted"), owner.patch("providers/scripted", {"slug": "other"})):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (409, "provider_in_use")
        assert "the agent helper" in error["message"]
    assert owner.patch("agents/helper", {"instructions": "Still answers."}).status_code == 200
    assert owner.delete("agents/helper").status_code == 204
    assert owner.delete("providers/scripted").status_code == 204


def test_a_toolset_in_use_is_neither_deleted_nor_renamed(
    owner: Actor, stranger: Actor, body: dict[str, Any], clock: Toolset
) -> None:
    assert owner.post("agents", {**body, "toolsets": ["clock"]}).status_code == 201
    for answer in (owner.delete("toolsets/clock"), owner.patch("toolsets/clock", {"slug": "other"})):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (409, "toolset_in_use")
        assert "the agent helper" in error["message"]
    assert owner.patch("toolsets/clock", {"name": "Big Ben"}).status_code == 200
    assert owner.patch("agents/helper", {"toolsets": []}).status_code == 200
    assert owner.patch("toolsets/clock", {"slug": "other"}).status_code == 200
    assert owner.delete("toolsets/other").status_code == 204
    assert [event.action for event in AuditEvent.objects.filter(object_type="toolset").order_by("id")] == [
        "toolset.create",
        "toolset.update",
        "toolset.update",
        "toolset.delete",
    ]
