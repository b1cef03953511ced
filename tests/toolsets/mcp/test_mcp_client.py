"""The kind `mcp` and servers that behave."""

import asyncio
import json
from typing import Any

import pytest
from django.conf import LazySettings

from core.ids import uuid7
from core.validation import config_faults
from tests.toolsets.mcp.server import (
    ECHO,
    Asked,
    answer,
    body,
    client_of,
    event,
    learned,
    made_client,
    reachable,
    refusal,
    reply,
    results,
    says,
    serving,
    sse_head,
)
from toolsets.exceptions import ToolError
from toolsets.kinds.mcp import kept
from toolsets.kinds.mcp.toolset import McpConfig

__all__ = ["reachable"]
pytestmark = pytest.mark.usefixtures("reachable")
URL = "https://mcp.example.com/mcp"
OBJECT = {"type": "object"}
SECRET = "s3cr3t-of-acme"


async def until(found: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await found.wait()


async def test_a_tool_is_learned_and_called() -> None:
    async with serving() as server:
        client = await client_of(server)
        assert await client.done("echo", text="hi") == "echo hi"
        (tool,) = client._index.tools.values()
        await until(server.ended)  # the session in which the tools were asked for
    assert tool.tool.parameters()["required"] == ["text"]
    assert (tool.tool.risk.value, tool.tool.untrusted, tool.tool.once) == ("egress", True, True)
    session = ["initialize", "notifications/initialized"]
    assert [name for name in server.methods() if name != "DELETE"] == [*session, "tools/list", *session, "tools/call"]
    first, second, *_ = server.asked
    assert first.message["params"] == {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "agentsite", "version": "1"},
    }
    assert first.headers["accept"] == "application/json, text/event-stream"
    assert "mcp-session-id" not in first.headers
    assert (second.headers["mcp-session-id"], second.headers["mcp-protocol-version"]) == ("s1", "2025-11-25")


async def test_wrong_arguments_are_not_sent() -> None:
    async with serving() as server:
        client = await client_of(server)
        before = len(server.asked)
        assert "text" in await client.failed("echo", txt="hi")
        assert "is not of type" in await client.failed("echo", text=[1])
        assert len(server.asked) == before or server.methods()[before:] == ["DELETE"]


async def test_calls_of_a_run_share_a_session_and_other_runs_do_not() -> None:
    async with serving() as server:
        known = await learned(server.url)
        tenant, run = uuid7(), uuid7()
        for whose in ({"run": run}, {"run": run}, {"run": uuid7()}):
            client = made_client(server, known, whose={"tenant": tenant, **whose})
            await client.done("echo", text="1")
        other = made_client(server, known, whose={"tenant": uuid7(), "run": run})
        await other.done("echo", text="1")
    assert server.methods().count("initialize") == 1 + 3
    assert server.methods().count("tools/call") == 4


async def test_a_session_that_is_not_used_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "IDLE_SECONDS", 0.05)
    async with serving() as server:
        known = await learned(server.url)
        await until(server.ended)
        server.ended.clear()
        client = made_client(server, known)
        await client.done("echo", text="1")
        await until(server.ended)
        await client.done("echo", text="2")
    assert server.methods().count("initialize") == 3


async def test_the_oldest_session_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 1)
    async with serving() as server:
        known = await learned(server.url)
        await until(server.ended)
        server.ended.clear()
        await made_client(server, known).done("echo", text="1")
        await made_client(server, known).done("echo", text="2")
        await until(server.ended)


@pytest.mark.parametrize(
    "told", [body(b"", status=404), body('{"error": {"message": "No valid session"}}', status=400)]
)
async def test_a_session_that_the_server_forgot_is_opened_anew(told: bytes) -> None:
    async with serving() as server:
        client = await client_of(server)
        await client.done("echo", text="1")
        server.known.clear()

        async def forgotten(asked: Asked, writer: asyncio.StreamWriter) -> None:
            del server.does["tools/call"]
            writer.write(told)

        server.does["tools/call"] = forgotten
        assert await client.done("echo", text="2") == "echo 2"
    assert server.asked[-1].headers["mcp-session-id"] == "s3"


async def test_a_server_without_state_needs_no_session() -> None:
    async with serving() as server:
        server.session = ""
        client = await client_of(server)
        assert await client.done("echo", text="1") == "echo 1"
    assert "DELETE" not in server.methods()


async def test_an_answer_comes_as_events_with_what_is_not_ours_before_it() -> None:
    async def call(asked: Asked, writer: asyncio.StreamWriter) -> None:
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
        writer.write(
            sse_head() + b": hello\r\n\r\n" + event(progress) + event({"jsonrpc": "2.0", "id": 99, "result": {}})
        )
        whole = event(reply(asked, "größer"))
        for place in range(0, len(whole), 7):  # within characters too
            writer.write(whole[place : place + 7])
            await writer.drain()
        await asyncio.sleep(60)  # a server may leave it open

    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = call
        assert await client.done("echo", text="1") == "größer"


async def test_a_stream_that_breaks_off_is_taken_up_where_it_was() -> None:
    async with serving() as server:
        client = await client_of(server)

        async def call(asked: Asked, writer: asyncio.StreamWriter) -> None:
            server.does["GET"] = resumed(asked)
            writer.write(sse_head() + b"id: e1\nretry: 10\ndata:\n\n")

        def resumed(call: Asked) -> Any:
            async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
                last = asked.headers["last-event-id"]
                writer.write(sse_head() + (event("", "e2") if last == "e1" else event(reply(call, "whole"))))

            return do

        server.does["tools/call"] = call
        assert await client.done("echo", text="1") == "whole"
    gets = [asked for asked in server.asked if asked.verb == "GET"]
    assert [(each.headers["last-event-id"], each.headers["mcp-session-id"]) for each in gets] == [
        ("e1", "s2"),
        ("e2", "s2"),
    ]
    assert server.methods().count("tools/call") == 1


async def breaks_off(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(sse_head() + b": nothing\n\n")


async def test_a_lost_answer_is_asked_for_again_only_where_that_is_safe() -> None:
    async with serving() as server:
        server.tools = [ECHO, {**ECHO, "name": "look", "annotations": {"readOnlyHint": True}}]
        server.does["tools/call"] = breaks_off
        client = await client_of(server, trust_annotations=True)
        told = await client.failed("echo", text="1")
        assert "may have taken effect" in told
        assert server.methods().count("tools/call") == 1
        told = await client.failed("look", text="1")
        assert "may have taken effect" not in told
        assert server.methods().count("tools/call") == 3


async def test_a_call_that_is_given_up_is_cancelled_at_the_server() -> None:
    begun = asyncio.Event()

    async def hang(asked: Asked, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = hang
        call = asyncio.create_task(client.ask("echo", '{"text": "1"}'))
        await until(begun)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(server.cancelled)
    asked = next(each for each in server.asked if each.method == "tools/call")
    told = next(each for each in server.asked if each.method == "notifications/cancelled")
    assert told.message["params"] == {"requestId": asked.message["id"]}


async def test_a_call_that_takes_too_long_is_cancelled_and_said() -> None:
    async def hang(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with serving() as server:
        known = await learned(server.url)
        client = made_client(server, known, timeout=1)
        server.does["tools/call"] = hang
        told = await client.failed("echo", text="1")
        await until(server.cancelled)
    assert "did not answer within 1 s. The toolset's timeout raises this. It may have taken effect" in told


async def test_requests_of_the_server_are_answered_and_refused() -> None:
    async def call(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(sse_head())
        for id, method in ((7, "ping"), ("x", "sampling/createMessage"), (8, "elicitation/create"), (9, "roots/list")):
            writer.write(event({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}))
        writer.write(event(reply(asked, "done")))

    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = call
        assert await client.done("echo", text="1") == "done"
    told = {each.message["id"]: each.message for each in server.asked if each.message and not each.method}
    assert told[7]["result"] == {}
    assert [told[id]["error"]["code"] for id in ("x", 8, 9)] == [-32601] * 3


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "text", "text": '{"a": 1}'}], "structuredContent": {"a": 1}}, '{"a":1}'),
        (
            {
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "5"}],
                "structuredContent": {"result": ["a", 5]},
            },
            '{"result":["a",5]}',
        ),
        (
            {"content": [{"type": "text", "text": "One."}], "structuredContent": {"a": 1}},
            '{"structured":{"a":1},"content":"One."}',
        ),
        (
            {"content": [{"type": "image", "mimeType": "image/png", "data": "A" * 4000}]},
            "[image image/png, 3,000 bytes: not shown]",
        ),
        ({"content": [{"type": "audio", "data": 5}]}, "[audio of an unknown type, no data: not shown]"),
        ({"content": [{"type": "resource", "resource": {"uri": "a:b", "text": "T"}}]}, "[resource a:b]\nT"),
        (
            {"content": [{"type": "resource", "resource": {"uri": "a:b", "blob": "AAAA"}}]},
            "[resource a:b, of an unknown type, 3 bytes: not shown]",
        ),
        ({"content": [{"type": "resource_link", "uri": "a:b", "name": "N"}]}, "[resource a:b N]"),
        ({"content": [{"type": "hologram"}]}, "[a part of the type hologram: not shown]"),
        ({"content": "text", "other": 1}, ""),
        ({}, ""),
    ],
)
async def test_what_a_model_is_shown(result: Any, shown: str) -> None:
    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = results(result)
        assert await client.done("echo", text="1") == shown


async def test_what_a_tool_calls_an_error_is_one() -> None:
    async with serving() as server:
        client = await client_of(server)
        for result, told in (
            ({"content": [{"type": "text", "text": "No such city."}], "isError": True}, "No such city."),
            ({"structuredContent": {"why": "closed"}, "isError": True}, '{"why":"closed"}'),
            ({"isError": True}, "The tool failed and did not say why."),
        ):
            server.does["tools/call"] = results(result)
            assert await client.failed("echo", text=told) == told


async def test_an_error_of_the_protocol_is_told_in_one_line() -> None:
    async def refuses(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal(asked, -32602, "Unknown\ntool: \x1b[31mecho"))

    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = refuses
        assert await client.failed("echo", text="1") == "The server refused: Unknown tool: [31mecho"


async def test_resources_and_prompts_are_tools() -> None:
    async with serving() as server:
        server.capabilities = {"resources": {}, "prompts": {}}
        resource = {"uri": "a:1", "name": "One", "description": "The\nfirst", "mimeType": "text/plain", "size": 5}
        prompt = {"name": "greet", "description": "Greets", "arguments": [{"name": "who", "required": True}, 5]}
        server.does = {
            "resources/list": results({"resources": [resource, "odd"], "nextCursor": "2"}),
            "resources/templates/list": results({"resourceTemplates": [{"uriTemplate": "a:{n}", "name": "Any"}]}),
            "resources/read": results({"contents": [{"uri": "a:1", "text": "Hello"}]}),
            "prompts/list": results({"prompts": [prompt]}),
            "prompts/get": results({"messages": [{"role": "user", "content": {"type": "text", "text": "Hi Bo"}}]}),
        }
        client = await client_of(server, prompts=True)
        listed = json.loads(await client.done("list_resources"))
        assert listed["resources"] == [
            {"uri": "a:1", "name": "One", "description": "The first", "mime_type": "text/plain"}
        ]
        assert (listed["templates"][0]["uri"], listed["next_cursor"]) == ("a:{n}", "2")
        assert "templates" not in json.loads(await client.done("list_resources", cursor="2"))
        assert server.asked[-1].message["params"] == {"cursor": "2"}
        assert await client.done("read_resource", uri="a:1") == "[resource a:1]\nHello"
        found = json.loads(await client.done("list_prompts"))["prompts"]
        assert found[0]["arguments"] == [{"name": "who", "description": "", "required": True}]
        told = json.loads(await client.done("get_prompt", name="greet", arguments={"who": "Bo"}))
        assert told["messages"] == [{"role": "user", "text": "Hi Bo"}]
        tools = {name: each.tool for name, each in client._index.tools.items()}
        assert "a:1" in tools["read_resource"].description
        assert "a:{n}" in tools["read_resource"].description
        assert "greet" in tools["get_prompt"].description
        assert not any(tool.once for tool in tools.values())
        server.does["resources/templates/list"] = server.does["prompts/list"] = says(body(b"", status=500))
        assert json.loads(await client.done("list_resources", cursor=""))["templates"] == []
        assert "The server answered 500" in await client.failed("list_prompts", cursor="x")


async def test_resources_and_prompts_can_be_left_out() -> None:
    async with serving() as server:
        server.capabilities = {"tools": {}, "resources": {}, "prompts": {}}
        known = await learned(server.url, prompts=True)
        assert [len(made_client(server, known, prompts=on, resources=on)._index.tools) for on in (True, False)] == [
            5,
            1,
        ]


async def test_tools_come_in_pages() -> None:
    async def page(asked: Asked, writer: asyncio.StreamWriter) -> None:
        number = int(asked.message["params"].get("cursor", 0))
        more = {"nextCursor": str(number + 1)} if number < 3 else {}
        writer.write(answer(asked, {"tools": [{"name": f"t{number}", "inputSchema": OBJECT}], **more}))

    async with serving() as server:
        server.does["tools/list"] = page
        assert [tool["name"] for tool in (await learned(server.url))["tools"]] == ["t0", "t1", "t2", "t3"]


async def test_annotations_count_where_they_are_trusted() -> None:
    hints = ["readOnlyHint", "idempotentHint", "destructiveHint"]
    async with serving() as server:
        server.tools = [{**ECHO, "name": hint, "annotations": {hint: True}} for hint in hints]
        known = await learned(server.url)
        for trusted, told in ((True, [(0, 1), (0, 1), (1, 0)]), (False, [(0, 0)] * 3)):
            client = made_client(server, known, trust_annotations=trusted)
            tools = [client._index.tools[hint].tool for hint in hints]
            assert [(tool.approval, tool.repeatable) for tool in tools] == told


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"auth": "bearer"}, {"authorization": f"Bearer {SECRET}"}),
        ({"auth": "header", "auth_name": "X-Key"}, {"x-key": SECRET}),
    ],
)
async def test_the_secret_goes_with_each_request_and_is_hidden(auth: Any, headers: dict[str, str]) -> None:
    async with serving() as server:
        server.tools = [{**ECHO, "description": f"Ask me for {SECRET}"}]
        client = await client_of(server, SECRET, **auth)
        assert SECRET not in json.dumps(client.definitions)
        assert await client.done("echo", text=f"{SECRET}!") == "echo [secret]!"
        server.does["tools/call"] = says(body(json.dumps({"error": {"message": f"bad {SECRET}"}}), status=500))
        assert await client.failed("echo", text="2") == "The server answered 500: bad [secret]"
    assert all(headers.items() <= asked.headers.items() for asked in server.asked)


async def test_a_missing_secret_is_said_and_nothing_is_sent() -> None:
    async with serving() as server:
        known = await learned(server.url)
        before = len(server.asked)
        assert "has no secret 'token'" in await made_client(server, known, auth="bearer").failed("echo", text="1")
        with pytest.raises(ToolError, match="has no secret 'token'"):
            await learned(server.url, auth="bearer")
        assert [name for name in server.methods()[before:] if name != "DELETE"] == []


@pytest.mark.parametrize("secret", ["name", "schema", "hints", "properties", "type", "version", "tools", '": {"'])
async def test_a_secret_that_is_a_word_of_the_protocol_breaks_nothing(secret: str) -> None:
    async with serving() as server:
        known = await learned(server.url, secret, auth="bearer")
        client = made_client(server, known, secret, auth="bearer")
        assert set(client._index.tools) <= {"echo"}
        for name in client._index.tools:
            await client.done(name, text="hi")


async def test_a_server_that_cannot_be_reached_has_done_nothing() -> None:
    async with serving() as server:
        known = await learned(server.url)
        client = made_client(server, known)
        server.does["initialize"] = says(b"")
        assert await client.failed("echo", text="1") == "The connection to the server failed."


async def test_a_redirect_within_the_server_is_followed_with_its_method() -> None:
    async def moved(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(body(b"", status=307, Location="/mcp/"))

    async with serving() as server:
        known = await learned(server.url)
        client = made_client(server, known)
        await client.done("echo", text="0")
        moves = [moved, moved]

        async def call(asked: Asked, writer: asyncio.StreamWriter) -> None:
            if moves:
                await moves.pop()(asked, writer)
            else:
                server._behave(asked, writer)

        server.does["tools/call"] = call
        assert await client.done("echo", text="1") == "echo 1"
    assert [each.verb for each in server.asked if each.method == "tools/call"] == ["POST"] * 4


async def test_private_addresses_are_refused_unless_allowed(settings: LazySettings) -> None:
    async with serving() as server:
        known = await learned(server.url)
        before = len(server.asked)
        settings.ALLOW_PRIVATE_TOOLS = False
        told = await made_client(server, known).failed("echo", text="1")
        assert told == "The host has no address on the public internet that may be reached."
        assert [name for name in server.methods()[before:] if name != "DELETE"] == []


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server, serving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        client = await client_of(server)
        await client.done("echo", text="1")
    assert proxy.asked == []


def faults(**config: Any) -> list[tuple[str, str]]:
    return [(fault["path"], fault["message"]) for fault in config_faults(McpConfig, {"url": URL, **config})]


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"url": "npx -y some-server"}, "config.url"),
        ({"url": "stdio:///usr/bin/server"}, "config.url"),
        ({"url": "file:///etc/passwd"}, "config.url"),
        ({"url": "ws://example.com"}, "config.url"),
        ({"command": "npx"}, "config.command"),
        ({"args": ["-y"]}, "config.args"),
        ({"env": {"A": "b"}}, "config.env"),
    ],
)
def test_programs_are_refused(config: dict[str, Any], path: str) -> None:
    ((found, message),) = faults(**config)
    assert found == path
    assert "Programs are not started here (stdio)" in message


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"url": "https://user:pass@example.com/mcp"}, "config.url"),
        ({"url": "https://"}, "config.url"),
        ({"url": "https://example.com/a b"}, "config.url"),
        ({"url": 5}, "config.url"),
        ({"auth": "header"}, "config.auth_name"),
        ({"auth": "header", "auth_name": "Host"}, "config.auth_name"),
        ({"auth": "header", "auth_name": "Mcp-Session-Id"}, "config.auth_name"),
        ({"auth": "bearer", "auth_name": "X-Key"}, "config.auth_name"),
        ({"credentials": "personal"}, "config.credentials"),
        ({"timeout": 0}, "config.timeout"),
        ({"transport": "sse"}, "config.transport"),
    ],
)
def test_what_is_wrong_with_a_config_is_named(config: dict[str, Any], path: str) -> None:
    assert [found for found, _ in faults(**config)] == [path]


def test_all_faults_are_named_at_once() -> None:
    found = faults(url="npx", command="npx", args=[], timeout=0)
    assert sorted(path for path, _ in found) == ["config.args", "config.command", "config.timeout", "config.url"]
    found = faults(auth="header", timeout=0)
    assert sorted(path for path, _ in found) == ["config.auth_name", "config.timeout"]
    found = faults(auth_name=7, credentials="personal")
    assert sorted(path for path, _ in found) == ["config.auth_name", "config.auth_name", "config.credentials"]


def test_a_good_config_has_no_faults_and_its_schema_knows_no_programs() -> None:
    from core.validation import config_schema

    assert faults(auth="bearer", credentials="personal") == []
    assert not {"command", "args", "env"} & set(config_schema(McpConfig)["properties"])


@pytest.mark.slow
def test_the_server_imports_no_client_for_it_before_a_call() -> None:
    import subprocess
    import sys

    code = "import sys, toolsets.kinds.mcp; print({'mcp', 'httpx', 'aiohttp', 'jsonschema'} & set(sys.modules))"
    django = "import django, os; os.environ['DJANGO_SETTINGS_MODULE'] = 'agentsite.settings'; django.setup(); "
    printed = subprocess.run([sys.executable, "-c", django + code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
