"""Runs of an agent that was granted an MCP server: made by REST, learned, asked, and ended well whatever it does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agents.services import agent_update
from core.aio import in_db_thread
from core.tenant import tenant_context
from runs.models import Run
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, script
from tests.toolsets.mcp.server import ECHO, Asked, Server, body, event, reachable, says, serving, sse_head
from toolsets.models import ToolCall, Toolset

__all__ = ["reachable"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("reachable")]
CALL, END = {"tool": "echo", "args": {"text": "hi"}}, {"say": "done"}


@asynccontextmanager
async def granted(owner: Actor, **config: Any) -> AsyncIterator[Server]:
    """A server whose tools the agent `helper` has."""
    async with serving() as server:
        toolset = {"slug": "far", "name": "Far", "kind": "mcp", "config": {"url": server.url, "timeout": 5, **config}}
        made = await owner.apost("toolsets", toolset)
        assert made.status_code == 201, made.content
        refreshed = json.loads((await owner.apost("toolsets/far/refresh", {})).content)
        assert (refreshed["tools"], refreshed["learn_error"]) == (["echo"], "")
        with tenant_context(owner.tenant.id):
            await in_db_thread(agent_update, actor=owner.principal, ref="helper", changes={"toolsets": ["far"]})
        yield server


async def ran(owner: Actor, *steps: Any) -> tuple[list[Any], list[ToolCall]]:
    """The events and rows of a run that has answered."""
    answer = json.loads((await chat(owner, script(*(steps or (CALL, END))))).content)
    assert answer["choices"][0]["message"]["content"].endswith("done"), answer
    run = answer["metadata"]["run_id"]
    found = (await owner.aget(f"runs/{run}/events", limit=100)).json()["data"]
    rows = await in_db_thread(lambda: list(ToolCall.objects.filter(run_id=run).order_by("created_at", "id")))
    return [each["event"] for each in found], rows


async def test_answer_rows_and_events_tell_the_same(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with granted(owner) as server:
        events, rows = await ran(owner)
        tools = (await owner.aget("toolsets/far/tools")).json()["data"]
    (row,) = rows
    (result,) = [each for each in events if each["type"] == "TOOL_CALL_RESULT"]
    assert result["content"] == row.result == "echo hi"
    assert (row.tool, row.toolset, row.risk, row.status) == ("echo", "far", "egress", "succeeded")
    assert [(tool["name"], tool["risk"], tool["parameters"]["required"]) for tool in tools] == [
        ("echo", "egress", ["text"])
    ]
    assert server.methods().count("tools/call") == 1
    assert server.asked[-1].message["params"] == {"name": "echo", "arguments": {"text": "hi"}}


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (says(body("{nope")), "no JSON that can be read"),
        (says(sse_head() + event("{}") * 3), "ended before it was complete"),
        (says(body(b"", status=307, Location="http://169.254.169.254/")), "not followed"),
        (says(body("x" * 2_000_000)), "larger than 1,000,000 bytes"),
        (says(b"garbage"), "could not be read"),
    ],
)
async def test_a_run_goes_on_when_the_server_does_its_worst(
    owner: Actor, scripted: str, in_acme: Tenant, does: Any, told: str
) -> None:
    async with granted(owner) as server:
        server.does["tools/call"] = does
        events, (row,) = await ran(owner)
        assert server.methods().count("tools/call") == 1
    assert (row.status, told in row.result) == ("failed", True), row.result
    assert events[-1]["type"] == "RUN_FINISHED"


async def test_the_end_of_a_run_cancels_its_call(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    begun = asyncio.Event()

    async def hang(asked: Asked, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with granted(owner, timeout=60) as server:
        server.does["tools/call"] = hang
        asking = asyncio.create_task(chat(owner, script(CALL, END)))
        async with asyncio.timeout(30):
            await begun.wait()
            run = await in_db_thread(lambda: Run.objects.get())
            await owner.apost(f"runs/{run.id}/cancel", {})
            await asking
            await server.cancelled.wait()
    assert (await in_db_thread(lambda: Run.objects.get())).status == "cancelled"


async def test_tools_that_a_server_no_longer_has_are_told_apart(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with granted(owner) as server:
        server.tools = [{**ECHO, "name": "other"}]
        assert json.loads((await owner.apost("toolsets/far/refresh", {})).content)["tools"] == ["other"]
        _, rows = await ran(owner, CALL, {"tool": "other", "args": {"text": "x"}}, END)
    assert [(row.tool, row.status) for row in rows] == [("other", "succeeded")]


async def test_what_is_left_out_is_named(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with granted(owner) as server:
        server.tools = [ECHO, {"name": "odd", "inputSchema": []}]
        refreshed = json.loads((await owner.apost("toolsets/far/refresh", {})).content)
    assert refreshed["left_out"] == ["odd: Its inputSchema is none of an object."]


async def test_a_server_that_fails_keeps_its_tools(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with granted(owner) as server:
        server.does["initialize"] = says(body(b"", status=503))
        refreshed = json.loads((await owner.apost("toolsets/far/refresh", {})).content)
        del server.does["initialize"]
        _, (row,) = await ran(owner)
    assert (refreshed["tools"], refreshed["learn_error"]) == (["echo"], "The server answered 503.")
    assert row.result == "echo hi"


async def test_another_url_needs_the_secret_again(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    async with granted(owner) as server, serving() as other:
        config = {"url": server.url, "auth": "bearer"}
        await in_db_thread(owner.patch, "toolsets/far", {"config": config, "secrets": {"token": "of-one"}})
        moved = {"config": {**config, "url": other.url}}
        refused = await in_db_thread(owner.patch, "toolsets/far", moved)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "secret_needed")
        taken = await in_db_thread(owner.patch, "toolsets/far", {**moved, "secrets": {"token": "of-two"}})
        assert taken.status_code == 200
        toolset = await in_db_thread(lambda: Toolset.objects.get(slug="far"))
        assert toolset.learned is None
        await owner.apost("toolsets/far/refresh", {})
    assert {asked.headers["authorization"] for asked in other.asked} == {"Bearer of-two"}
