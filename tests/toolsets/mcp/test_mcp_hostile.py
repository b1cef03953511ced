"""The kind `mcp` and servers that do their worst: each call ends with an error that says why, and little is read."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from tests.toolsets.mcp.server import (
    ECHO,
    HEAD,
    Asked,
    Behaviour,
    Server,
    answer,
    body,
    client_of,
    event,
    learned,
    made_client,
    reachable,
    reply,
    results,
    says,
    serving,
    sse_head,
)
from toolsets.base import TOOL_NAME
from toolsets.exceptions import ToolError
from toolsets.kinds.mcp import conversation, learning

__all__ = ["reachable"]
pytestmark = pytest.mark.usefixtures("reachable")
MEGABYTE = 1_000_000
OBJECT = {"type": "object"}
LARGE, LATE = "larger than 100,000 bytes. The toolset's max_answer_kb raises this", "did not answer within 2 s"
NO_JSON, ENDED = "is no JSON that can be read", "ended before it was complete"


def raw(message: Any) -> Behaviour:
    return says(body(json.dumps(message)))


def with_id(**fields: Any) -> Behaviour:
    async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(body(json.dumps({"jsonrpc": "2.0", "id": asked.message["id"], **fields})))

    return do


def floods(head: bytes, piece: bytes, *, megabytes: int = 50) -> Behaviour:
    """Ends with the connection: who reads it all has too much."""

    async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(megabytes * MEGABYTE // len(piece)):
            writer.write(piece)
            await writer.drain()
        raise AssertionError("all of it was read")

    return do


def drips(head: bytes, piece: bytes) -> Behaviour:
    async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)

    return do


def events(*messages: Any) -> Behaviour:
    return says(sse_head() + b"".join(map(event, messages)))


def redirects(status: int, where: str) -> Behaviour:
    return says(body(b"", status=status, Location=where))


async def flood_of_requests(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(sse_head())
    for number in range(1000):
        writer.write(event({"jsonrpc": "2.0", "id": number, "method": "sampling/createMessage", "params": {}}))
    await writer.drain()
    await asyncio.sleep(60)


async def resets(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def flood_of_notices(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(sse_head() + event({}) * 4001)
    await writer.drain()
    await asyncio.sleep(60)


async def hangs(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


CHUNKED = (HEAD.format(200) + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").encode()
JSON_HEAD = (HEAD.format(200) + "Content-Type: application/json\r\n\r\n").encode()
BOMB = gzip.compress(b" " * 30 * MEGABYTE)
OTHER = "redirects elsewhere, which is not followed"
CALLS: dict[str, tuple[Behaviour, str]] = {
    "no JSON": (says(body("{nope")), NO_JSON),
    "nothing": (says(body("")), NO_JSON),
    "a number": (raw(5), "is no JSON-RPC"),
    "a text": (raw("text"), "is no JSON-RPC"),
    "a list of numbers": (raw([1, 2]), "is no JSON-RPC"),
    "an empty batch": (raw([]), ENDED),
    "no UTF-8": (says(body(b'{"a": "\xff\xfe"}')), NO_JSON),
    "not a number": (says(body('{"a": NaN}')), NO_JSON),
    "nested deep": (says(body("[" * 90_000)), NO_JSON),
    "nested deep and closed": (says(body("[" * 40_000 + "]" * 40_000)), NO_JSON),
    "nested deeper than can be told": (says(body('{"a":' * 500 + "1" + "}" * 500)), NO_JSON),
    "another id": (raw({"jsonrpc": "2.0", "id": 99, "result": {}}), ENDED),
    "an id that is true": (raw({"jsonrpc": "2.0", "id": True, "result": {}}), ENDED),
    "an id that is a list": (raw({"jsonrpc": "2.0", "id": [5], "result": {}}), ENDED),
    "no id": (raw({"jsonrpc": "2.0", "result": {}}), ENDED),
    "no result": (with_id(), "has no result"),
    "a result that is a list": (with_id(result=[]), "has no result"),
    "a result that is null": (with_id(result=None), "has no result"),
    "an error that is a text": (with_id(error="no"), "refused with the code 0"),
    "an error and a result": (with_id(error={"code": 5, "message": "no"}, result={}), "The server refused: no"),
    "an error with odd fields": (with_id(error={"code": "x", "message": [1]}), "refused with the code 0"),
    "HTML": (says(body("<html>", "text/html")), "neither JSON nor events"),
    "no type": (says((HEAD.format(200) + "\r\n").encode() + b"{}"), "neither JSON nor events"),
    "accepted and no more": (says(body(b"", status=202)), ENDED),
    "no content": (says(body(b"", status=204)), ENDED),
    "a large body": (floods(JSON_HEAD, b" " * 65_536), LARGE),
    "a large body in chunks": (floods(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"), LARGE),
    "a large event": (floods(sse_head() + b"data: ", b"x" * 65_536), LARGE),
    "events without end": (floods(sse_head(), event({"jsonrpc": "2.0", "method": "notifications/x"}) * 999), LARGE),
    "comments without end": (floods(sse_head(), b": hello\n" * 8192), LARGE),
    "empty lines without end": (floods(sse_head(), b"\n" * 65_536), LARGE),
    "a bomb": (says(body(BOMB, Content_Encoding="gzip")), LARGE),
    "an unknown encoding": (says(body(b"{}", Content_Encoding="rot13")), "encoded in a way that cannot be read"),
    "a slow body": (drips(JSON_HEAD, b" "), LATE),
    "slow events": (drips(sse_head(), b": x\n"), LATE),
    "silence": (hangs, LATE),
    "a reset": (resets, "The connection to the server failed"),
    "no HTTP": (says(b"hello\r\n\r\n"), "could not be read"),
    "half a head": (says(b"HTTP/1.1 200 OK\r\nContent-Le"), "The connection to the server failed"),
    "half a body": (
        says((HEAD.format(200) + "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{").encode()),
        "failed",
    ),
    "a large head": (says((HEAD.format(200) + f"X: {'x' * 99_999}\r\n\r\n").encode()), "could not be read"),
    "odd chunks": (says(CHUNKED + b"zz\r\n{}\r\n"), "could not be read"),
    "an event that is no JSON": (events("{nope"), NO_JSON),
    "an event that is no text": (says(sse_head() + b"data: \xff\xfe\x00\n\n"), NO_JSON),
    "answers to others": (events({"id": 98, "result": {}}, {"id": 99, "error": {}}), ENDED),
    "events of another type": (says(sse_head() + b'event: x\ndata: {"id": 1}\n\n'), ENDED),
    "a cut event": (says(sse_head() + b'data: {"jsonrpc"'), ENDED),
    "notices without end": (flood_of_notices, "told more than 4,000 other things"),
    "requests without end": (flood_of_requests, "made more than 20 requests"),
    "a redirect to the machine's metadata": (redirects(307, "http://169.254.169.254/latest/"), OTHER),
    "a redirect to another port": (redirects(307, "http://127.0.0.1:1/mcp"), OTHER),
    "a redirect to another scheme": (redirects(308, "file:///etc/passwd"), OTHER),
    "a redirect that drops the call": (redirects(303, "/mcp"), OTHER),
    "a redirect to nowhere": (redirects(307, "http://[::1"), "redirected to what is no URL"),
    "redirects without end": (redirects(307, "/mcp"), "redirected more than 3 times"),
    "a fault": (says(body("<h1>Traceback</h1>", "text/html", status=500)), "The server answered 500. "),
    "a large fault": (floods(JSON_HEAD.replace(b"200", b"500"), b" " * 65_536), LARGE),
    "no credentials taken": (says(body(b"", status=401)), "does not take the credentials (status 401)"),
    "sessions that it never knows": (says(body(b"", status=404)), "knows none of the sessions that it opens"),
}


@pytest.mark.parametrize("what", CALLS)
async def test_a_call_ends_with_an_error(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_MESSAGES", 4000)
    does, told = CALLS[what]
    async with serving() as server:
        known = await learned(server.url)
        client = made_client(server, known, timeout=2, max_answer_kb=100)
        server.does["tools/call"] = does
        async with asyncio.timeout(60):
            found = await client.failed("echo", text="1")
    assert told in found + " "
    assert "Traceback" not in found
    assert len(found) < 3000


async def test_what_is_not_ours_is_not_answered_for_another_call() -> None:
    """Two calls at once, each of which is also sent the answer to the other."""
    both: list[Asked] = []
    met = asyncio.Event()

    async def call(asked: Asked, writer: asyncio.StreamWriter) -> None:
        both.append(asked)
        if len(both) == 2:
            met.set()
        await met.wait()
        other = next(each for each in both if each is not asked)
        writer.write(sse_head() + event(reply(other, "wrong")) + event(reply(asked, asked.message["params"]["name"])))

    async with serving() as server:
        hints = {"readOnlyHint": True}
        server.tools = [{**ECHO, "name": name, "annotations": hints} for name in ("one", "two")]
        client = await client_of(server, trust_annotations=True)
        server.does["tools/call"] = call
        found = await asyncio.gather(client.done("one", text="1"), client.done("two", text="1"))
    assert list(found) == ["one", "two"]


@pytest.mark.parametrize("id", [{"a": 1}, [1], None, True, 1.5, "x" * 9999])
async def test_a_request_of_the_server_with_an_odd_id_is_not_answered(id: Any) -> None:
    async def call(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(sse_head() + event({"jsonrpc": "2.0", "id": id, "method": "ping"}) + event(reply(asked)))

    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = call
        assert await client.done("echo", text="1") == "ok"
    assert not [each for each in server.asked if each.message and "method" not in each.message]


async def test_a_stream_that_breaks_off_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_RESUMES", 5)
    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = server.does["GET"] = says(sse_head() + b"id: 1\nretry: 0\ndata:\n\n")
        told = await client.failed("echo", text="1")
    assert "broke its answer off more than 5 times" in told
    assert server.methods().count("GET") == 5


@pytest.mark.parametrize("last", [b"id: " + b"x" * 50_000, b"id: \xc3\xa9", b"id: a\0b", b"id: \x7f\x1b"])
async def test_an_event_id_that_no_header_can_hold_is_none(last: bytes) -> None:
    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = says(sse_head() + last + b"\ndata:\n\n")
        assert ENDED in await client.failed("echo", text="1")
    assert "GET" not in server.methods()


async def test_a_wait_without_end_is_cut_by_the_calls_own_time() -> None:
    async with serving() as server:
        known = await learned(server.url)
        client = made_client(server, known, timeout=2)
        server.does["tools/call"] = says(sse_head() + b"id: 1\nretry: 999999999999\ndata:\n\n")
        assert LATE in await client.failed("echo", text="1")


@pytest.mark.parametrize("status", [404, 405, 400, 500, 307])
async def test_a_stream_that_may_not_be_taken_up_is_lost_and_the_call_is_not_made_again(status: int) -> None:
    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = says(sse_head() + b"id: 1\nretry: 0\ndata:\n\n")
        server.does["GET"] = says(body('{"error": {"message": "No session"}}', status=status))
        told = await client.failed("echo", text="1")
        assert "does not let it be taken up again. It may have taken effect" in told
    assert server.methods().count("tools/call") == 1


def introduces(**fields: Any) -> Behaviour:
    told = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}, **fields}
    return results(told)


def in_session(id: str) -> Behaviour:
    async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
        told = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
        writer.write(answer(asked, told, Mcp_Session_Id=id))

    return do


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (introduces(protocolVersion="1999-01-01"), "speaks none of the protocol's versions"),
        (introduces(protocolVersion=20250618), "speaks none of the protocol's versions"),
        (introduces(protocolVersion=["2025-06-18"]), "speaks none of the protocol's versions"),
        (introduces(protocolVersion="2025-06-18\r\nX-Evil: 1"), "speaks none of the protocol's versions"),
        (in_session("a b"), "session id that is none"),
        (in_session("x" * 5000), "session id that is none"),
        (in_session("é"), "session id that is none"),
        (in_session("a\tb"), "session id that is none"),
        (says(body("<html>", "text/html")), "is there an MCP server at this url?"),
        (says(body(b"", status=404)), "The server answered 404."),
        (says(body("{nope")), NO_JSON),
        (flood_of_requests, "made more than 20 requests"),
        (says(sse_head() + b"id: 1\ndata:\n\n"), ENDED),  # there is no session in which it could be taken up
    ],
)
async def test_a_server_that_introduces_itself_badly_tells_no_tools(does: Behaviour, told: str) -> None:
    async with serving() as server:
        server.does["initialize"] = does
        with pytest.raises(ToolError, match=told.replace("?", r"\?")):
            await learned(server.url)


@pytest.mark.parametrize(
    "fields", [{"capabilities": []}, {"capabilities": None}, {"serverInfo": [1]}, {"serverInfo": {"name": [1]}}]
)
async def test_an_introduction_with_odd_fields_is_taken(fields: dict[str, Any]) -> None:
    async with serving() as server:
        server.session = ""
        server.does["initialize"] = introduces(**fields)
        assert isinstance((await learned(server.url))["tools"], list)


async def tools_of(server: Server, *tools: Any, **config: Any) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    server.tools = list(tools)
    known = await learned(server.url, **config)
    assert all(TOOL_NAME.fullmatch(tool["name"]) for tool in known["tools"])
    return known["tools"], known["left_out"]


def named(name: Any, schema: Any = OBJECT, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": schema, **more}


async def test_names_are_made_fit_and_odd_ones_left_out() -> None:
    odd = ["", "a\x00b", "a\nb", "\x1b[31m", "x" * 201, "\u202e", None, 5, ["a"]]
    names = ["a b", "a_b", "a.b", "größe", "日本", "x" * 200, "x" * 199, "list_resources", "_"]
    async with serving() as server:
        tools, left_out = await tools_of(server, *map(named, [*names, *odd]), "no object", None)
    assert [tool["own"] for tool in tools] == names
    assert [tool["name"] for tool in tools][:4] == ["a_b", "a_b_2", "a_b_3", "gr_e"]
    assert "list_resources_2" in [tool["name"] for tool in tools]
    assert len({tool["name"] for tool in tools}) == len(tools)
    assert len(left_out) == len(odd) + 2
    assert not any("\x1b" in each["name"] or "\n" in each["name"] for each in left_out)


@pytest.mark.parametrize(
    "schema", [None, [], "x", True, {"type": "array"}, {"type": 5}, {"$ref": "http://169.254.169.254/x"}]
)
async def test_a_tool_without_a_schema_that_can_be_used_is_left_out_and_named(schema: Any) -> None:
    async with serving() as server:
        tools, left_out = await tools_of(server, named("odd", schema), named("good"))
    assert ([tool["own"] for tool in tools], [each["name"] for each in left_out]) == (["good"], ["odd"])


LOOP = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
TREE = {"type": "object", "properties": {"child": {"$ref": "#"}, "children": {"type": "array", "items": {"$ref": "#"}}}}
BILLION = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/l0"}},
    "$defs": {f"l{n}": {"anyOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 10} for n in range(30)} | {"l30": {}},
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = OBJECT
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        LOOP,
        TREE,
        BILLION,
        nested(40),
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(20_000)}},
        {"type": "object", "properties": {"a": {"enum": ["x" * 50] * 5000}}},
        {"type": "object", "properties": {"a": {"pattern": "(" * 50_000}}},
        {"type": "object", "required": ["x"] * 100_000},
        {"type": "object", "allOf": [{"required": ["nope"]}], "not": {}},
        {"type": "object", "properties": [], "required": "x", "additionalProperties": 5, "anyOf": "x"},
        {"type": "object", "patternProperties": {"(a+)+$": False}, "additionalProperties": False},
        {"type": "object", "properties": {"a": {"minimum": 10**30, "maxLength": -5, "type": ["string", "odd"]}}},
    ],
)
async def test_odd_schemas_become_small_ones_or_none_and_never_hang(schema: Any) -> None:
    async with serving() as server:
        tools, left_out = await tools_of(server, named("odd", schema))
        assert [*(tool["own"] for tool in tools), *(each["name"] for each in left_out)] == ["odd"]
        for tool in tools:
            assert len(tool["schema"]) < 40_000
            client = made_client(server, await learned(server.url))
            async with asyncio.timeout(20):
                await client.ask("odd", json.dumps({"a": "a" * 5000 + "!"}))
            assert client.results[-1].content != "The tool failed on the server."


async def test_a_pattern_that_takes_exponential_time_elsewhere_is_checked_at_once() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    async with serving() as server:
        await tools_of(server, named("slow", schema))
        client = made_client(server, await learned(server.url))
        async with asyncio.timeout(20):
            assert "a: 'aaa" in await client.failed("slow", a="a" * 5000 + "!")


async def test_schemas_nested_beyond_all_bounds_are_left_out_without_the_others() -> None:
    async with serving() as server:
        server.does["tools/list"] = results({"tools": [named("good"), named("deep", nested(120))]})
        tools = (await learned(server.url))["tools"]
        assert "good" in [tool["own"] for tool in tools]
        server.does["tools/list"] = results({"tools": [named("good"), named("deep", nested(400))]})
        with pytest.raises(ToolError, match="no JSON that can be read"):
            await learned(server.url)


async def test_many_tools_are_cut_and_it_is_said() -> None:
    async with serving() as server:
        tools, left_out = await tools_of(server, *(named(f"t{number}") for number in range(10_000)))
    assert len(tools) == learning.MAX_TOOLS
    assert "more than 200 tools" in left_out[-1]["why"]


async def test_many_large_schemas_are_cut() -> None:
    large = {"type": "object", "properties": {f"p{number}": {"description": "x" * 400} for number in range(60)}}
    async with serving() as server:
        tools, left_out = await tools_of(server, *(named(f"t{number}", large) for number in range(120)))
    assert 10 < len(tools) < 120
    assert sum(len(tool["schema"]) for tool in tools) < 1_100_000
    assert "too large" in left_out[-1]["why"]


async def test_a_list_that_is_too_large_to_be_read_is_refused() -> None:
    async with serving() as server:
        server.does["tools/list"] = floods(JSON_HEAD, b" " * 65_536)
        with pytest.raises(ToolError, match="larger than 4,000,000 bytes"):
            await learned(server.url)


@pytest.mark.parametrize("moves", [True, False])
async def test_pages_without_end_are_left(moves: bool) -> None:
    async def page(asked: Asked, writer: asyncio.StreamWriter) -> None:
        cursor = str(len(server.asked)) if moves else "same"
        writer.write(answer(asked, {"tools": [], "nextCursor": cursor}))

    async with serving() as server:
        server.does["tools/list"] = page
        assert (await learned(server.url))["tools"] == []
    assert server.methods().count("tools/list") == (learning.MAX_PAGES if moves else 2)


@pytest.mark.parametrize("listed", [None, {}, "tools", 5, [None, 5, "x"]])
async def test_a_list_of_tools_that_is_none_has_none(listed: Any) -> None:
    async with serving() as server:
        server.does["tools/list"] = results({"tools": listed, "nextCursor": 5})
        assert (await learned(server.url))["tools"] == []


async def test_descriptions_are_short_and_clean() -> None:
    async with serving() as server:
        tools, _ = await tools_of(
            server,
            named("a", description="x" * 3_000_000),
            named("b", description="one\r\n\x1b[31mtwo\x00\u202e"),
            named("c", description=["odd"], title="The title"),
            named("d", annotations="odd", execution=[1]),
            named("e", execution={"taskSupport": "required"}),
        )
    told = {tool["own"]: tool["description"] for tool in tools}
    assert len(told["a"]) <= 1000
    assert (told["b"], told["c"], told["d"]) == ("one\n[31mtwo", "The title", "d")
    assert "e" not in told


async def test_large_answers_are_cut_and_odd_text_is_storable() -> None:
    blocks = [{"type": "text", "text": "x"}] * 5000
    texts = [{"type": "text", "text": "a\x00b\ud800c"}]
    async with serving() as server:
        client = await client_of(server)
        server.does["tools/call"] = results({"content": blocks})
        assert (await client.done("echo", text="1")).endswith("[4500 more parts are not shown]")
        server.does["tools/call"] = results({"content": [{"type": "text", "text": "x" * 900_000}]})
        told = await client.done("echo", text="2")
        assert len(told) < 210_000
        assert "max_result_kb" in told
        server.does["tools/call"] = results({"content": texts})
        assert NO_JSON in await client.failed("echo", text="3")  # half of a surrogate pair is no JSON
        server.does["tools/call"] = results({"content": [{"type": "text", "text": "a\x00b"}]})
        assert await client.done("echo", text="4") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("result", [{"resources": 5}, {"resources": [None, {}, {"uri": [1], "name": {}}]}, {}])
async def test_odd_lists_of_resources_and_prompts_are_taken(result: dict[str, Any]) -> None:
    async with serving() as server:
        server.capabilities = {"resources": 5, "prompts": "x"}
        server.does = {"resources/list": results(result), "prompts/list": results({"prompts": [{"arguments": 5}, 1]})}
        server.does |= {
            "resources/read": results({"contents": [5, {"text": 5}]}),
            "prompts/get": results({"messages": 5}),
        }
        client = await client_of(server, prompts=True)
        for name, arguments in (
            ("list_resources", {}),
            ("read_resource", {"uri": "a:1"}),
            ("list_prompts", {}),
            ("get_prompt", {"name": "x"}),
        ):
            await client.done(name, **arguments)
