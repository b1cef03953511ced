"""What an OpenAPI document may be: every fault is told at once, and none costs much time or memory."""

import json
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from core.validation import config_faults, parse_config
from tests.conftest import Actor
from tests.toolsets.http_api import Http, document, parameter
from toolsets.kinds.http.plan import KEPT, _kept, plan_of
from toolsets.kinds.http.toolset import HttpConfig, HttpToolset

BASE = "https://api.example.com"
CASE = {"operationId": "look", "parameters": [parameter("q", "query")]}
SECONDS = 3.0


def faults(text: str, **config: Any) -> list[tuple[str, str]]:
    found = config_faults(HttpConfig, {"document": text, "base_url": BASE, **config})
    assert all("Value error" not in fault["message"] for fault in found)
    return [(fault["path"], fault["code"]) for fault in found]


def schema_of(schema: Any, **more: Any) -> dict[str, Any]:
    """What the model is shown for one parameter."""
    raw = {"operationId": "look", "parameters": [parameter("q", "query", schema)]}
    (tool,) = Http({"document": document(("get", "/v", raw), **more), "base_url": BASE}).tools
    found: dict[str, Any] = tool.parameters()["properties"]["q"]
    return found


def test_every_fault_is_told_at_once() -> None:
    remote = {"operationId": "remote", "parameters": [parameter("q", "query", {"$ref": "https://evil.example/a.json"})]}
    lost = {"operationId": "lost", "parameters": [{"$ref": "#/components/parameters/none"}]}
    twice = {"operationId": "twice"}
    upload = {"operationId": "upload", "requestBody": {"required": True, "content": {"multipart/form-data": {}}}}
    text = document(
        *(("get", f"/{each['operationId']}", each) for each in (remote, lost, twice, upload)), ("post", "/t", twice)
    )
    chosen = ["remote", "lost", "twice", "upload", "missing"]
    assert faults(text, base_url="", operations=chosen, auth="header") == [
        ("config.auth_name", "missing"),
        ("config.base_url", "no_server"),
        ("config.document", "duplicate_operation"),
        ("config.operations.4", "unknown_operation"),
        ("config.document", "invalid_document"),
        ("config.document", "invalid_document"),
        ("config.operations.3", "unusable_operation"),
    ]


def test_no_field_hides_the_faults_of_others() -> None:
    wrong = {"auth": "header", "timeout": 0, "operations": ["missing", 5], "max_answer_kb": "x"}
    assert sorted(faults(document(("get", "/a", {})), **wrong)) == [
        ("config.auth_name", "missing"),
        ("config.max_answer_kb", "int_type"),
        ("config.operations.0", "unknown_operation"),
        ("config.operations.1", "string_type"),
        ("config.timeout", "greater_than_equal"),
    ]
    found = config_faults(HttpConfig, {"document": 5, "auth": ["x"], "auth_name": "X-Key", "base_url": "ftp://a"})
    assert sorted((fault["path"], fault["code"]) for fault in found) == [
        ("config.auth", "literal_error"),
        ("config.base_url", "invalid_url"),
        ("config.document", "string_type"),
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{nope", "no JSON that can be read"),
        ("a: [", "cannot be read as YAML in line"),
        ("just text", "neither a JSON object"),
        ('{"swagger": "2.0", "paths": {}}', "no OpenAPI 3.0 or 3.1"),
        ('{"openapi": "3.1.0"}', "no `paths`"),
        ('{"openapi": "3.1.0", "paths": {}}', "no operation"),
        ('{"openapi": "3.1.0", "paths": {"/a": 5}}', "An object is missing"),
        ("openapi: 3.1.0\npaths: &a {}\nmore: *a", "anchors"),
        ("openapi: 3.1.0\npaths: !!python/object/apply:os.getcwd []", "tags"),
        ("x: " + "[" * 900 + "]" * 900, "nested deeper"),
    ],
)
def test_what_is_no_document_is_explained(text: str, part: str) -> None:
    (fault,) = config_faults(HttpConfig, {"document": text, "base_url": BASE})
    assert fault["path"] == "config.document"
    assert part in fault["message"]


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example", "//a.example", "https://me@a.example", "https://a.example?x=1", "https://a.example/#f", "x"],
)
def test_the_address_must_be_plain(url: str) -> None:
    assert faults(document(("get", "/v", CASE)), base_url=url) == [("config.base_url", "invalid_url")]


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ([{"url": "https://a.example/v1/"}, {"url": "https://b.example"}], "https://a.example/v1"),
        ([{"url": "https://{r}.a.example", "variables": {"r": {"default": "eu"}}}], "https://eu.a.example"),
        ([{"url": "/v1"}], ""),
        ([{"url": "https://{r}.a.example"}], ""),
        ([5], ""),
        ("x", ""),
    ],
)
def test_the_first_server_serves(servers: Any, found: str) -> None:
    assert plan_of(document(("get", "/v", CASE), servers=servers), "", []).server == found
    assert plan_of(document(("get", "/v", CASE), servers=servers), BASE, []).server == BASE


def test_yaml_gives_the_tools_of_json_and_reads_values_as_json_does() -> None:
    raw = {
        "operationId": "look",
        "parameters": [parameter("q", "query", {"enum": ["on", "2020-01-01", "1:30", 7, True]})],
    }
    text = document(("get", "/v", raw))
    written = yaml.safe_dump(json.loads(text), sort_keys=False)
    plain = written.replace("'on'", "on").replace("'2020-01-01'", "2020-01-01").replace("'1:30'", "1:30")
    found = [plan_of(each, BASE, []).operations for each in (text, written, plain)]
    assert found[0][0][0] == found[1][0][0] == found[2][0][0]
    responses = "openapi: 3.0.3\npaths:\n  /v:\n    get:\n      operationId: look\n      responses: {200: {}}"
    assert [each.name for each, _ in plan_of(responses, BASE, []).operations] == ["look"]


def test_names_are_valid_and_unique() -> None:
    raws = [{"operationId": name} for name in ("a.b", "a/b", "x" * 90, "x" * 91, "日本")]
    described = document(*(("get", f"/{number}", raw) for number, raw in enumerate(raws)), ("get", "/pets/{id}", {}))
    names = [tool.name for tool in Http({"document": described, "base_url": BASE}).tools]
    assert names == ["a_b", "a_b_2", "x" * 64, "x" * 60 + "_2", "get_4"]  # and none for the path without a parameter
    chosen = Http({"document": described, "base_url": BASE, "operations": ["a/b", "get_4"]}).tools
    assert [tool.name for tool in chosen] == ["a_b", "get_4"]


def test_schemas_of_3_0_are_read_as_those_of_3_1() -> None:
    assert schema_of({"type": "integer", "minimum": 1, "exclusiveMinimum": True, "nullable": True}) == {
        "type": ["integer", "null"],
        "exclusiveMinimum": 1,
    }
    body = {
        "type": "object",
        "required": ["id", "a"],
        "properties": {"id": {"readOnly": True}, "a": {"type": "string"}},
    }
    assert schema_of(body) == {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}


def test_references_are_put_in_place_and_cycles_end() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/components/schemas/Node"}, "n~/%": {"type": "integer"}},
    }
    found = schema_of(
        {"$ref": "#/components/schemas/Node", "description": "The first."}, components={"schemas": {"Node": node}}
    )
    assert found["description"] == "The first."
    assert "left out" in found["properties"]["next"]["description"]
    assert found["properties"]["n~/%"] == {"type": "integer"}
    escaped = schema_of({"$ref": "#/components/a~1b/c%20d"}, components={"a/b": {"c d": {"type": "null"}}})
    assert escaped == {"type": "null"}


@pytest.mark.parametrize(
    "chain",
    [
        {"a": {"$ref": "#/components/schemas/a"}},
        {"a": {"$ref": "#/components/schemas/b"}, "b": {"$ref": "#/components/schemas/a"}},
    ],
)
def test_what_refers_to_itself_only_ends(chain: dict[str, Any]) -> None:
    assert "left out" in schema_of({"$ref": "#/components/schemas/a"}, components={"schemas": chain})["description"]
    raw = {"operationId": "look", "parameters": [{"$ref": "#/components/schemas/a"}]}
    assert faults(document(("get", "/v", raw), components={"schemas": chain})) == [
        ("config.document", "invalid_document")
    ]


@pytest.mark.parametrize("schema", [5, "x", None, ["a"]])
def test_a_schema_that_is_none_is_a_fault(schema: Any) -> None:
    raw = {"operationId": "look", "parameters": [{"name": "q", "in": "query", "schema": schema}]}
    assert faults(document(("get", "/v", raw))) == [("config.document", "invalid_document")]


WRONG = {
    "type": 5,
    "enum": {},
    "required": "a",
    "properties": [],
    "items": "x",
    "anyOf": {},
    "pattern": "(?=a)",
    "minimum": "1",
    "maxLength": -1,
    "uniqueItems": "x",
    "$id": "https://evil.example",
    "$dynamicRef": "#x",
    "if": 1,
}


async def test_keywords_that_are_wrong_are_left_out() -> None:
    assert schema_of(WRONG) == {}


def many(count: int) -> str:
    return document(*(("get", f"/{number}", {}) for number in range(count)))


def doubling(keyword: str, operations: int) -> str:
    """Each schema holds the next one twice."""
    levels = 60
    schemas: dict[str, Any] = {
        f"s{n}": {keyword: [{"$ref": f"#/components/schemas/s{n + 1}"}] * 2} for n in range(levels)
    }
    raw = {"parameters": [parameter("q", "query", {"$ref": "#/components/schemas/s0"})]}
    described = [("get", f"/{number}", raw) for number in range(operations)]
    return document(*described, components={"schemas": {**schemas, f"s{levels}": {"type": "string"}}})


def deep() -> str:
    schema: dict[str, Any] = {}
    for _ in range(80):
        schema = {"type": "array", "items": schema}
    return document(("get", "/v", {"parameters": [parameter("q", "query", schema)]}))


def with_schema(schema: dict[str, Any], times: int = 100) -> str:
    raw = {
        "parameters": [parameter(f"q{number}", "query", {"$ref": "#/components/schemas/s"}) for number in range(100)]
    }
    return document(*(("get", f"/{number}", raw) for number in range(times)), components={"schemas": {"s": schema}})


@pytest.mark.parametrize(
    ("made", "codes"),
    [
        (lambda: many(100_000), {"too_many_operations"}),
        (lambda: doubling("anyOf", 1), set()),
        (lambda: doubling("allOf", 100), {"too_large"}),
        (deep, set()),
        (lambda: with_schema({"enum": ["x" * 9] * 100_000}), set()),
        (lambda: with_schema({"properties": {f"p{n}": {} for n in range(50_000)}}), {"too_large", "no_operation"}),
        (lambda: with_schema({"default": ["x" * 1000] * 1500}), {"too_large", "no_operation"}),
        (lambda: with_schema({"pattern": "(a{1000}){1000}" * 30}), set()),
        (lambda: with_schema({"required": ["x"] * 400_000}), set()),
        (
            lambda: document(*[("get", "/" + "é" * n, {"operationId": "same"}) for n in range(1500)]),
            {"duplicate_operation", "too_many_operations"},
        ),
        (lambda: "x: " + "- " * 900_000, {"invalid_document"}),
        (lambda: "a: {" + ",".join(f"k{n}: [1, 2]" for n in range(100_000)) + "}", {"invalid_document"}),
        (lambda: "x: " + "1:" * 900_000 + "1", {"invalid_document"}),
        (lambda: "x: " + "9" * 1_900_000, {"invalid_document"}),
        (lambda: '{"a":' * 300_000, {"invalid_document"}),
        (lambda: document(("get", "/" + "{a}" * 300_000, {})), {"no_operation"}),
        (lambda: document(("get", "/" + "{" * 500_000, {})), {"no_operation"}),
        (lambda: document(("get", "/v", CASE), servers=[{"url": "http://" + "{" * 900_000}]), set()),
        (lambda: document(("get", "/v", {"parameters": [{"$ref": "#" + "/a" * 500_000}]})), {"invalid_document"}),
    ],
)
def test_hostile_documents_are_bounded(made: Callable[[], str], codes: set[str]) -> None:
    text = made()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    plan = plan_of(text, BASE, [])
    took, grown = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{len(text):,} characters: {took:.2f} s, {grown / 1024:.0f} MB, {[fault.code for fault in plan.faults][:3]}")
    assert {fault.code for fault in plan.faults} <= codes
    assert bool(plan.faults) is bool(codes)
    assert took < SECONDS
    assert grown < 300_000  # KB
    assert sum(len(operation.schema) for operation, _ in plan.operations) < 2_000_000


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"allOf": [{"type": "string"}] * 300}}, ["a"] * 20_000),
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 100_000 + "b"),
        ({"items": {"anyOf": [{"type": "string"}] * 300}}, [{"a": "x" * 100_000}] * 50),
        ({"uniqueItems": True}, [[n] for n in range(20_000)]),
        ({"anyOf": [{"enum": [list(range(20))] * 20}] * 20}, list(range(100))),
    ],
)
async def test_hostile_schemas_are_bounded_when_arguments_are_checked(schema: dict[str, Any], value: Any) -> None:
    raw = {"operationId": "put", "requestBody": {"content": {"application/json": {"schema": schema}}}}
    http = Http({"document": document(("post", "/v", raw)), "base_url": "http://127.0.0.1:1"})
    started = time.process_time()
    await http.ask("put", json.dumps({"body": value}))
    assert time.process_time() - started < SECONDS


def test_tools_are_cheap_the_second_time_and_few_plans_are_kept() -> None:
    raw = {"parameters": [parameter("q", "query", {"type": "string", "description": "x" * 500})]}
    text = document(*(("get", f"/{number}", raw) for number in range(100)), info={"description": "x" * 500_000})
    config = {"document": text, "base_url": BASE}
    first = HttpToolset().tools(parse_config(HttpConfig, config))
    started = time.process_time()
    for _ in range(10):
        again = HttpToolset().tools(parse_config(HttpConfig, config))
    assert time.process_time() - started < 0.5
    assert [tool.arguments for tool in again] == [tool.arguments for tool in first]
    for number in range(KEPT + 5):
        plan_of(document(("get", f"/{number}", {})), BASE, [])
    assert len(_kept) == KEPT


def test_a_toolset_over_rest(owner: Actor) -> None:
    body = {
        "slug": "api",
        "name": "API",
        "kind": "http",
        "config": {"document": "{}"},
        "secrets": {"token": "hunter2h"},
    }
    refused = owner.post("toolsets", body)
    assert refused.status_code == 400
    assert refused.json()["error"]["details"][0]["path"] == "config.document"
    body["config"] = {"document": document(("get", "/v", CASE)), "base_url": BASE, "auth": "bearer"}
    assert owner.post("toolsets", body).status_code == 201
    (tool,) = owner.get("toolsets/api/tools").json()["data"]
    assert (tool["name"], tool["risk"], tool["parameters"]["properties"]) == (
        "look",
        "egress",
        {"q": {"type": "string"}},
    )
    moved = owner.patch("toolsets/api", {"config": {**body["config"], "base_url": "https://evil.example"}})
    assert moved.json()["error"]["details"][0]["code"] == "secret_needed"
    assert "hunter2" not in owner.get("toolsets/api").content.decode()
