"""Tools made of an OpenAPI document, against a real server."""

import base64
import json
import logging
import string
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

import llm_comply
import pytest
from django.conf import LazySettings

from core import fetch
from tests.toolsets.http_api import Http, answer, document, parameter, reachable, serving
from toolsets.base import Risk

__all__ = ["reachable"]
SPECS = Path(llm_comply.__file__).parent / "specs"
SECRET = "s3cr3t/+:key"
ITEM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
PUT = {"operationId": "put", "requestBody": {"required": True, "content": {"application/json": {"schema": ITEM}}}}
GET = {"operationId": "get", "parameters": [parameter("q", "query")]}
BOTH = document(("get", "/items", GET), ("post", "/items", PUT))
pytestmark = pytest.mark.usefixtures("reachable")


def spec(name: str) -> str:
    """A document that a provider of models wrote, as it comes with the package llm-comply."""
    return json.dumps(json.loads((SPECS / f"{name}.json").read_text()), separators=(",", ":"), ensure_ascii=False)


async def test_a_providers_own_document_becomes_tools() -> None:
    async with serving() as api:
        config = {"document": spec("google_interactions"), "base_url": api.url + "/", "auth": "header"}
        http = Http({**config, "auth_name": "x-goog-api-key"}, SECRET)
        by_name = {tool.name: tool for tool in http.tools}
        assert {"ListAgents", "GetAgent", "CreateAgent", "DeleteAgent"} <= set(by_name), sorted(by_name)
        api.answers = [answer(200, '{"agents": [{"id": "a"}]}'), answer(200, '{"id": "b"}')]
        listed = await http.done("ListAgents", api_version="v1beta", page_size="2")
        assert listed == {"status": 200, "content_type": "application/json", "json": {"agents": [{"id": "a"}]}}
        await http.done("CreateAgent", api_version="v1beta", body={"id": "b"})
    assert (api.asked[0].method, api.asked[0].target) == ("GET", "/v1beta/agents?page_size=2")
    assert (api.asked[1].method, json.loads(api.asked[1].body)) == ("POST", {"id": "b"})
    assert [asked.headers["x-goog-api-key"] for asked in api.asked] == [SECRET, SECRET]


@pytest.mark.parametrize(("name", "least"), [("anthropic", 10), ("openai_chat", 20)])
def test_large_documents_become_tools_with_small_schemas(name: str, least: int) -> None:
    from toolsets.kinds.http.plan import plan_of

    assert [fault.code for fault in plan_of(spec(name), "", []).faults] == ["too_many_operations"]
    found = json.loads(spec(name))["paths"].values()
    ids = [each["operationId"] for item in found for each in item.values() if "operationId" in each][:60]
    uploads = [fault for fault in plan_of(spec(name), "", ids).faults if "body is no JSON" in fault.message]
    plan = plan_of(spec(name), "", [id for id in ids if not any(f"'{id}'" in each.message for each in uploads)])
    assert not plan.faults
    assert len(plan.operations) >= least
    assert max(len(operation.schema) for operation, _ in plan.operations) < 40_000
    assert not any(b'"$ref":"' in operation.schema for operation, _ in plan.operations)


def test_what_a_tool_may_do_follows_from_its_method() -> None:
    methods = ("get", "head", "post", "put", "patch", "delete")
    described = document(*[(each, "/items", {}) for each in methods], servers=[{"url": "https://api.example.com"}])
    tools = Http({"document": described}).tools
    assert [tool.name for tool in tools] == [f"{each}_items" for each in methods]
    assert {(tool.risk, tool.untrusted) for tool in tools} == {(Risk.EGRESS, True)}
    assert [tool.parallel for tool in tools] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("auth", "name", "expected"),
    [
        ("none", "", {}),
        ("bearer", "", {"authorization": f"Bearer {SECRET}"}),
        ("basic", "", {"authorization": "Basic " + base64.b64encode(SECRET.encode()).decode()}),
        ("header", "X-Key", {"x-key": SECRET}),
        ("query", "key", {}),
    ],
)
async def test_the_server_sees_who_asks_and_nobody_else_does(
    auth: str, name: str, expected: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    coded = base64.b64encode(SECRET.encode()).decode()
    told = {"you": f"sent {SECRET}", SECRET: [coded, "s3cr3t%2F%2B%3Akey", 5], "fine": "yes"}
    async with serving() as api:
        http = Http({"document": BOTH, "base_url": api.url, "auth": auth, "auth_name": name}, SECRET)
        api.answers = [answer(200, json.dumps(told)), answer(200, f"<{SECRET}>", "text/plain"), b""]
        api.answers += [answer(500, json.dumps(told).replace("/", "\\/")), answer(302, SECRET, Location=f"/{SECRET}")]
        found = await http.done("get", q="a")
        await http.done("get", q="b")
        for number in range(3):
            await http.failed("put", body={"name": str(number)})
    assert found["json"] == {"you": "sent [secret]", "[secret]": ["[secret]", "[secret]", 5], "fine": "yes"}
    for asked in api.asked:
        sent = {key: value for key, value in asked.headers.items() if key in ("authorization", "x-key")}
        assert sent == expected
        assert (("key", SECRET) in parse_qsl(urlsplit(asked.target).query)) is (auth == "query")
    seen = "".join(result.content for result in http.results) + caplog.text + repr(http._context)
    assert not [form for form in (SECRET, coded, "s3cr3t") if form in seen]


@pytest.mark.parametrize(
    ("auth", "token", "message"),
    [
        ("bearer", "", "has no secret 'token'"),
        ("bearer", "hunter2\r\nX-Evil: 1", "printable ASCII"),
        ("basic", "hunter2", "user:password"),
    ],
)
async def test_a_secret_that_cannot_be_sent_is_not_told(auth: str, token: str, message: str) -> None:
    async with serving() as api:
        text = await Http({"document": BOTH, "base_url": api.url, "auth": auth}, token).failed("get", q="a")
    assert message in text
    assert "hunter2" not in text
    assert api.asked == []


ODD = [*string.printable, "\0", "\x7f", "é", "日", "😀", "%2e", "%2F", "a b", "..a", "a/../b", "?x=1#y", "\\"]


async def test_parameters_arrive_byte_by_byte() -> None:
    raw = {"operationId": "look", "parameters": [parameter("p", "path", required=True), parameter("q[]", "query")]}
    async with serving() as api:
        http = Http({"document": document(("get", "/v/{p}/end", raw)), "base_url": api.url + "/base"})
        for odd in ODD:
            await http.done("look", p=odd if odd != "." else "a.", q=odd)
    for odd, asked in zip(ODD, api.asked, strict=True):
        path, _, query = asked.target.partition("?")
        base, v, value, end = path.removeprefix("/").split("/")
        assert (base, v, end) == ("base", "v", "end"), asked.target
        assert unquote_to_bytes(value) == (odd if odd != "." else "a.").encode()
        assert parse_qsl(query, keep_blank_values=True) == [("q[]", odd)]
        assert asked.raw.isascii()


@pytest.mark.parametrize(("p", "s"), [("..", "x"), (".", "x"), ("", "x"), ("a", "")])
async def test_a_path_is_never_left(p: str, s: str) -> None:
    raw = {"operationId": "look", "parameters": [parameter("p", "path"), parameter("s", "path")]}
    async with serving() as api:
        described = document(("get", "/v/{p}/{s}", raw), ("get", "/v/{p}{s}", {**raw, "operationId": "joined"}))
        http = Http({"document": described, "base_url": api.url})
        assert "must not be" in await http.failed("look", p=p, s=s)
        assert "must not be" in await http.failed("joined", p=".", s=".")
    assert api.asked == []


@pytest.mark.parametrize(
    ("how", "value", "query"),
    [
        ({}, ["a", "b&c", "d,e"], [("v", "a"), ("v", "b&c"), ("v", "d,e")]),
        ({"explode": False}, ["a", "b&c"], [("v", "a,b&c")]),
        ({"style": "pipeDelimited", "explode": False}, ["a", "b"], [("v", "a|b")]),
        ({"style": "spaceDelimited", "explode": False}, ["a", "b"], [("v", "a b")]),
        ({}, {"k": "x", "l": 2}, [("k", "x"), ("l", "2")]),
        ({"explode": False}, {"k": "x", "l": True}, [("v", "k,x,l,true")]),
        ({"style": "deepObject"}, {"k": "x", "l": 1.5}, [("v[k]", "x"), ("v[l]", "1.5")]),
        ({"content": {"application/json": {"schema": {}}}}, {"k": ["é"]}, [("v", '{"k":["é"]}')]),
        ({}, [], []),
        ({}, 12345678901234567890, [("v", "12345678901234567890")]),
    ],
)
async def test_styles_of_the_query(how: dict[str, Any], value: Any, query: list[tuple[str, str]]) -> None:
    raw = {"operationId": "look", "parameters": [parameter("v", "query", {}, **how)]}
    async with serving() as api:
        await Http({"document": document(("get", "/v", raw)), "base_url": api.url}).done("look", v=value)
    assert parse_qsl(urlsplit(api.asked[0].target).query) == query


async def test_styles_of_paths_and_headers() -> None:
    parameters = [
        parameter("list", "path", {}),
        parameter("map", "path", {}, explode=True),
        parameter("X-List", "header", {}),
        parameter("Authorization", "header"),
        parameter("COOKIE", "header"),
        parameter("Content-Length", "header", required=True),
        parameter("sid", "cookie"),
    ]
    raw = {"operationId": "look", "parameters": parameters}
    async with serving() as api:
        http = Http({"document": document(("get", "/v/{list}/{map}", raw)), "base_url": api.url})
        assert set(http.tools[0].parameters()["properties"]) == {"list", "map", "X-List"}
        await http.done("look", list=["a", "b/c"], map={"k": "x"}, **{"X-List": ["a", "b"]})
        assert "','" in await http.failed("look", list=["a,b", "c"], map={"k": "x"})
        for value in ("a\r\nX-Evil: 1", "a\n", "é", "a\0"):
            assert "printable ASCII" in await http.failed("look", list=["a"], map={"k": "x"}, **{"X-List": value})
        assert "not allowed" in await http.failed("look", list=["a"], map={"k": "x"}, Authorization="Bearer mine")
    assert [(asked.target, asked.headers["x-list"]) for asked in api.asked] == [("/v/a,b%2Fc/k=x", "a,b")]


async def test_the_credentials_win_over_what_the_model_sets() -> None:
    raw = {"operationId": "look", "parameters": [parameter("x-key", "header"), parameter("key", "query")]}
    async with serving() as api:
        config = {"document": document(("get", "/v", raw)), "base_url": api.url, "auth": "header"}
        await Http({**config, "auth_name": "X-Key"}, SECRET).done("look", **{"x-key": "mine"})
        await Http({**config, "auth": "query", "auth_name": "key"}, SECRET).done("look", key="mine")
    assert api.asked[0].raw.lower().count(b"x-key") == 1
    assert api.asked[0].headers["x-key"] == SECRET
    assert parse_qsl(urlsplit(api.asked[1].target).query) == [("key", SECRET)]


async def test_wrong_arguments_are_all_told_and_nothing_is_sent() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}, "s": {"pattern": "^a+$"}}}
    raw = {
        "operationId": "put",
        "parameters": [parameter("limit", "query", {"type": "integer"}, required=True)],
        "requestBody": {"content": {"application/json": {"schema": schema}}},
    }
    async with serving() as api:
        http = Http({"document": document(("post", "/v", raw)), "base_url": api.url})
        text = await http.failed("put", body={"n": 6, "s": "b"}, more=1)
        assert all(part in text for part in ("body.n", "body.s", "'limit'", "'more'")), text
        assert "arguments are wrong" in await http.ask("put", "[1]")
        await http.done("put", limit="5", body='{"n": 5, "s": "aa"}')  # as models write it now and then
    assert [(asked.target, json.loads(asked.body)) for asked in api.asked] == [("/v?limit=5", {"n": 5, "s": "aa"})]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (answer(204, ""), {"status": 204}),
        (answer(201, '{"a": 1}', "application/problem+json"), {"content_type": "application/problem+json"}),
        (answer(200, "a: é", "text/yaml; charset=utf-8"), {"text": "a: é"}),
        (answer(200, "é".encode("latin-1"), "text/plain; charset=iso-8859-1"), {"text": "é"}),
        (answer(200, "{broken", "application/json"), {"text": "{broken"}),
        (answer(200, b"[" * 400 + b"]" * 400), {"text": "[" * 400 + "]" * 400}),
        (answer(200, b"\x89PNG", "image/png"), {"left_out": "4 bytes, which are neither JSON nor text."}),
    ],
)
async def test_answers(sent: bytes, told: dict[str, Any]) -> None:
    async with serving() as api:
        api.answers = [sent]
        found = await Http({"document": BOTH, "base_url": api.url}).done("get")
    assert found.items() >= told.items()


async def test_an_answer_that_is_too_large_is_refused() -> None:
    async with serving() as api:
        api.answers = [answer(200, b'"' + b"a" * 2000 + b'"')] * 2
        http = Http({"document": BOTH, "base_url": api.url, "max_answer_kb": 1})
        assert "max_answer_kb" in await http.failed("get")
        assert "may have taken effect" in await http.failed("put", body={"name": "a"})


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429, 500])
async def test_other_statuses_are_errors_with_a_piece_of_the_body(status: int) -> None:
    body = "no\x1b[31m such\r\n\titem " + "x" * 5000
    async with serving() as api:
        api.answers = [answer(status, body, "text/plain"), answer(status, b"\0\1", "application/octet-stream")]
        http = Http({"document": BOTH, "base_url": api.url})
        text = await http.failed("put", body={"name": "a"})
        bare = await http.failed("put", body={"name": "b"})
    assert bare == f"The server answered {status}."
    assert text.startswith(f"The server answered {status}: no [31m such item xx")
    assert 2000 < len(text) < 2100


async def test_reads_are_tried_again_and_writes_never() -> None:
    async with serving() as api:
        http = Http({"document": BOTH, "base_url": api.url})
        api.answers = [answer(503), b"", answer(200, '"here"')]
        assert (await http.done("get"))["json"] == "here"
        assert len(api.asked) == 3
        api.answers = [answer(503), b"", answer(307, Location="/other")]
        texts = [await http.failed("put", body={"name": str(number)}) for number in range(3)]
    assert len(api.asked) == 6
    assert [part in text for part, text in zip(("503", "may have taken effect", "307"), texts, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(("auth", "name"), [("bearer", ""), ("basic", ""), ("header", "X-Key"), ("query", "key")])
async def test_a_redirect_to_another_host_carries_no_credentials(auth: str, name: str) -> None:
    async with serving() as api, serving() as other:
        http = Http({"document": BOTH, "base_url": api.url, "auth": auth, "auth_name": name}, SECRET)
        api.answers = [answer(302, Location="/here"), answer(302, Location=f"{other.url}/there")]
        await http.done("get", q="a")
    assert [asked.target.partition("?")[0] for asked in api.asked] == ["/items", "/here"]
    assert [asked.target for asked in other.asked] == ["/there"]
    assert b"s3cr3t" not in other.asked[0].raw
    assert "authorization" not in other.asked[0].headers


async def test_no_cookie_is_kept() -> None:
    async with serving() as api:
        http = Http({"document": BOTH, "base_url": api.url})
        api.answers = [answer(200, **{"Set-Cookie": "sid=1; Path=/"})]
        await http.done("get", q="a")
        await http.done("get", q="b")
    assert [asked.headers.get("cookie") for asked in api.asked] == [None, None]


async def test_a_private_address_is_refused_by_default(settings: LazySettings) -> None:
    settings.ALLOW_PRIVATE_TOOLS = False
    fetch.fetcher.cache_clear()
    async with serving() as api:
        for base in (api.url, api.url.replace("127.0.0.1", "localhost"), "http://169.254.169.254"):
            text = await Http({"document": BOTH, "base_url": base}).failed("put", body={"name": "a"})
            assert text == "The host has no address on the public internet that may be reached."
    assert api.asked == []


async def test_a_server_that_is_away_and_one_that_is_slow(unused_tcp_port: int) -> None:
    away = Http({"document": BOTH, "base_url": f"http://127.0.0.1:{unused_tcp_port}"})
    assert "connection to the server failed" in await away.failed("put", body={"name": "a"})
    async with serving() as api:
        api.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]
        slow = Http({"document": BOTH, "base_url": api.url, "timeout": 1})
        assert "failed" in await slow.failed("put", body={"name": "a"})
