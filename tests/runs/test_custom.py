"""Runs of agents whose answer is made by code of the tenant's own, in the real sandbox."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from core.aio import in_db_thread
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.custom_code import SOURCES, make
from tests.runs.test_chat_completions import chat, chunks, script, stored, user
from tests.toolsets.vault import vault
from toolsets import limits
from toolsets.models import ToolCall
from toolsets.services import toolset_create

__all__ = ["vault"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault", "scripted")]
LOOK = {"tool": "look", "args": {"name": "the map"}}


@pytest.fixture
def safe(owner: Actor, scripted: str, in_acme: Tenant) -> Iterator[str]:
    """A toolset beside `time`, of which an agent is granted the one or the other."""
    limits.forget()
    toolset_create(actor=owner.principal, slug="safe", name="Safe", kind="vault", secrets={"token": "hunter2"})
    yield "safe"
    limits.forget()


async def answered(owner: Actor, *steps: Any, **fields: Any) -> str:
    response = await chat(owner, script(*steps) if steps else user("Hello"), "coded", **fields)
    body = orjson.loads(response.content)
    assert response.status_code == 200, body
    text: str = body["choices"][0]["message"]["content"]
    return text


async def failed(owner: Actor, *steps: Any) -> tuple[int, str, str]:
    response = await chat(owner, script(*steps) if steps else user("Hello"), "coded")
    error = orjson.loads(response.content)["error"]
    return response.status_code, error["code"], error["message"]


@pytest.mark.parametrize("language", SOURCES)
async def test_code_asks_the_model_and_its_granted_tools_only(owner: Actor, safe: str, language: str) -> None:
    await make(owner, SOURCES[language], language, toolsets=["safe"])
    text = await answered(owner, LOOK, {"say": "ok"}, metadata={"plan": "gold"})
    refused = "The agent was granted no tool 'current_time'. Granted: ask, look, one_by_one, put, stuck."
    tools = "look,put,ask,one_by_one,stuck"
    assert text == f"the map is there | the key is there | {refused} | {tools} | Be brief. | gold"
    found = await stored()
    assert found["run"].status == "succeeded"
    told = [(event.type, event.data) for event in found["events"]]
    assert ("CUSTOM", "progress", {"step": 1}) in [(t, d.get("name"), d.get("value")) for t, d in told]
    started = [data["toolCallId"] for type, data in told if type == "TOOL_CALL_START"]
    results = [data["toolCallId"] for type, data in told if type == "TOOL_CALL_RESULT"]
    assert started == results
    assert len(results) == 2
    rows = await in_db_thread(lambda: list(ToolCall.objects.order_by("id").values_list("call_id", "tool", "status")))
    assert rows == [(call, "look", "succeeded") for call in results]
    roles = [message.role for message in found["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
