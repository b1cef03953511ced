"""Sessions with messages, for tests of what becomes of them."""

from typing import Any

from agents.models import AgentVersion
from core.ids import uuid7
from core.tenant import tenant_context
from sessions_app.models import ChatSession, Message
from sessions_app.services.sessions import messages_append, session_create
from tests.conftest import Actor

CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "```"}'}}


def talk(actor: Actor, *messages: dict[str, Any], agent: str | None = None, title: str = "") -> ChatSession:
    with tenant_context(actor.tenant.id):
        session = session_create(actor=actor.principal, agent=agent, title=title)
        version = AgentVersion.objects.filter(agent_id=session.agent_id).first() if agent else None
        messages_append(session=session, messages=messages, run_id=uuid7(), agent_version=version)
    return session


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def with_tool() -> list[dict[str, Any]]:
    return [
        user("What time is it?"),
        answer(None, tool_calls=[CALL, {**CALL, "id": "c2"}]),
        {"role": "tool", "tool_call_id": "c1", "content": "At noon. ````"},
        {"role": "tool", "tool_call_id": "c2", "content": "At one."},
        answer("It is noon."),
        user("Thanks"),
    ]


def messages_of(session: ChatSession) -> list[Message]:
    with tenant_context(session.tenant_id):
        return list(Message.objects.filter(tenant_id=session.tenant_id, session_id=session.id).order_by("seq"))
