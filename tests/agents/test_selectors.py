from typing import Any

import pytest

from agents.exceptions import AgentPaused
from agents.models import Agent
from agents.selectors import agent_find, agent_for_chat
from agents.services import agent_create, agent_status
from core.errors import InvalidRequest, NotFound
from llm.exceptions import ModelNotFound
from tests.conftest import Actor, make_actor


@pytest.fixture
def agent(owner: Actor, body: dict[str, Any]) -> Agent:
    return agent_create(actor=owner.principal, **body)


def test_a_draft_answers_those_who_may_edit_it(owner: Actor, acme: Any, agent: Agent) -> None:
    assert agent_for_chat(actor=owner.principal, ref="helper") == agent
    assert agent_for_chat(actor=owner.principal, ref=str(agent.id)) == agent
    for hidden_from in (make_actor(acme, "member"), make_actor(acme, "owner", scopes=["chat"])):
        with pytest.raises(ModelNotFound):
            agent_for_chat(actor=hidden_from.principal, ref="helper")


def test_an_active_agent_answers_whoever_may_chat_with_one_query(
    acme: Any, owner: Actor, agent: Agent, django_assert_num_queries: Any
) -> None:
    agent_status(actor=owner.principal, ref="helper", status="active")
    chatter = make_actor(acme, "member", scopes=["chat"]).principal
    with django_assert_num_queries(1):
        assert agent_for_chat(actor=chatter, ref="helper").version.name == "Helper"  # type: ignore[union-attr]


def test_a_paused_agent_says_so(owner: Actor, agent: Agent) -> None:
    agent_status(actor=owner.principal, ref="helper", status="paused")
    with pytest.raises(AgentPaused) as paused:
        agent_for_chat(actor=owner.principal, ref="helper")
    assert (paused.value.status, paused.value.code) == (409, "agent_paused")


def test_a_strangers_agent_is_an_unknown_model(stranger: Actor, agent: Agent) -> None:
    for ref in ("helper", str(agent.id)):
        with pytest.raises(ModelNotFound) as missing:
            agent_for_chat(actor=stranger.principal, ref=ref)
        assert missing.value.code == "model_not_found"
        assert agent_find(actor=stranger.principal, ref=ref) is None


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"instructions": "x" * 100_001}, "instructions"),
        ({"toolsets": ["x"] * 51}, "toolsets"),
        ({"status": "gone"}, "status"),
    ],
)
def test_services_hold_the_limits_without_an_edge(
    owner: Actor, body: dict[str, Any], change: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        agent_create(actor=owner.principal, **{**body, **change})
    assert refused.value.param == path
    assert not Agent.objects.exists()


def test_a_status_of_a_missing_agent_is_missing(owner: Actor, in_acme: Any) -> None:
    with pytest.raises(NotFound):
        agent_status(actor=owner.principal, ref="nobody", status="active")
