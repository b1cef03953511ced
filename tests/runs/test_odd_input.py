"""What no client should send: a clear 4xx, and nothing written."""

from typing import Any

import pytest

from runs.models import Run
from sessions_app.models import ChatSession
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, user
from tests.runs.test_socket import communicator, run_input

pytestmark = pytest.mark.django_db

CALL = {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}


def said(**message: Any) -> dict[str, Any]:
    return {"messages": [{"id": "1", "role": "user", "content": "hi"}, {"id": "2", **message}]}


def tool(name: str, parameters: Any) -> dict[str, Any]:
    return {"tools": [{"name": name, "description": "", "parameters": parameters}]}


@pytest.mark.parametrize(
    ("odd", "param"),
    [
        (said(role="tool", content="x", toolCallId="t" * 201), "messages.1.tool_call_id"),
        (said(role="assistant", content="x", toolCalls=[{**CALL, "id": "c" * 201}]), "messages.1.tool_calls.0.id"),
        (said(role="user", content="x", name="n" * 129), "messages.1.name"),
        (said(role="user", content=[]), "messages.1"),
        (tool("", {}), "tools.0.function.name"),
        (tool("n", "x"), "tools.0.function.parameters"),
        ({"threadId": "a\n"}, "threadId"),
        ({"threadId": "a\x01b"}, "threadId"),
        ({"threadId": "a" * 129}, "threadId"),
    ],
)
async def test_agui_input(owner: Actor, scripted: str, in_acme: Tenant, odd: dict[str, Any], param: str) -> None:
    response = await owner.apost(f"agents/{scripted}/ag-ui", {**run_input("hi"), **odd})
    assert response.status_code == 400, response.content
    assert response.json()["error"]["param"] == param
    assert not await Run.objects.aexists()
    assert not await ChatSession.objects.aexists()


async def test_agui_takes_an_assistant_message_that_says_nothing(owner: Actor, scripted: str) -> None:
    messages = [{"id": "1", "role": "assistant"}, {"id": "2", "role": "user", "content": "hi"}]
    response = await owner.apost(f"agents/{scripted}/ag-ui", {**run_input("hi"), "messages": messages})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        [],
        [{"type": "text"}],
        [{"type": "text", "text": {"a": 1}}],
        [{"type": "image_url", "image_url": 5}],
        [{"type": "input_audio"}],
        [{"text": "no type"}],
        ["x"],
        {"type": "text", "text": "x"},
    ],
)
async def test_chat_content(owner: Actor, scripted: str, in_acme: Tenant, content: Any) -> None:
    response = await chat(owner, [{"role": "user", "content": content}])
    assert response.status_code == 400, response.content
    assert not await Run.objects.aexists()


async def test_a_call_id_that_no_column_takes(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    asked = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "c" * 201}]}
    response = await chat(owner, [*user("hi"), asked, *user("so?")])
    assert response.status_code == 400
    assert not await Run.objects.aexists()


@pytest.mark.parametrize(
    ("path", "origin", "code"), [("a%00b", None, 4401), ("room", "http://[", 4403), ("room", "null", 4403)]
)
async def test_socket_addresses(owner: Actor, scripted: str, path: str, origin: str | None, code: int) -> None:
    ws = communicator(path.replace("%00", "\0"), owner.token, origin=origin)
    await ws.connect(timeout=20)
    closed = await ws.receive_output(timeout=20)
    assert (closed["type"], closed["code"]) == ("websocket.close", code)
