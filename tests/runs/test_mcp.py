"""Agents as MCP tools at `/mcp`: the protocol, who may see and call what, and whatever a client may get wrong."""

import asyncio
from typing import Any

import orjson
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import LazySettings
from jsonschema import Draft202012Validator

from agents.models import Agent
from agents.services import agent_create
from agentsite.keyed import KeyedRequests
from core.tenant import tenant_context
from runs.mcp.messages import MAX_BATCH, VERSIONS
from runs.mcp.tools import tool_page
from runs.models import Run
from sessions_app.models import Message
from tenants.models import Tenant
from tests.agentsite.test_keyed import answer, unreachable
from tests.conftest import Actor, make_actor
from tests.runs.test_paying import Cap
from tests.runs.test_paying import cap as cap
from tests.runs.test_paying import priced as priced

pytestmark = pytest.mark.django_db
BOTH = "application/json, text/event-stream"


def rpc(method: str, id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def call(message: str, name: str = "helper", id: Any = 1, **more: Any) -> dict[str, Any]:
    return rpc("tools/call", id, name=name, arguments={"message": message}, **more)


def script(*steps: Any) -> str:
    return "#script " + orjson.dumps(list(steps)).decode()


async def post(actor: Actor, body: Any, accept: str = BOTH, method: str = "POST", **headers: str) -> Any:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    given = {**actor.headers, "Accept": accept, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return await actor.ahttp.generic(method, "/mcp", data, "application/json", headers=given)


async def told(response: Any) -> list[dict[str, Any]]:
    """The messages of an answer, which is JSON or a stream."""
    assert response.status_code == 200, response.content
    if not response.streaming:
        return [orjson.loads(response.content)]
    assert response["Content-Type"] == "text/event-stream"
    body = b"".join([part async for part in response.streaming_content]).decode()
    frames = [frame for frame in body.split("\n\n") if frame and not frame.startswith(":")]
    return [orjson.loads(frame.removeprefix("data: ")) for frame in frames]


async def ask(actor: Actor, body: Any, **headers: str) -> Any:
    """The result of a request."""
    (message,) = await told(await post(actor, body, **headers))
    assert (message["jsonrpc"], message["id"]) == ("2.0", body["id"])
    return message["result"]


@sync_to_async
def make_agent(who: Actor, slug: str, status: str = "active", **fields: Any) -> Agent:
    given = {"name": slug.title(), "template": "conversation", "model": "scripted/default", **fields}
    with tenant_context(who.tenant.id):
        return agent_create(actor=who.principal, slug=slug, status=status, **given)


async def test_initialize_agrees_on_a_version(owner: Actor) -> None:
    for asked, agreed in [(version, version) for version in VERSIONS] + [("1999-01-01", VERSIONS[0])]:
        found = await ask(owner, rpc("initialize", protocolVersion=asked, capabilities={}, clientInfo={}))
        assert found["protocolVersion"] == agreed
        assert found["capabilities"] == {"tools": {"listChanged": False}}
        assert found["serverInfo"]["name"] == "agentsite"
    assert await ask(owner, rpc("ping", "p")) == {}


async def test_each_active_agent_is_a_tool(owner: Actor, viewer: Actor, scripted: str) -> None:
    await make_agent(owner, "draft", status="draft")
    await make_agent(owner, "poet", metadata={"description": "Writes verse."})
    found = await ask(viewer, rpc("tools/list"))
    assert [(tool["name"], tool["title"], tool["description"]) for tool in found["tools"]] == [
        ("helper", "Helper", "Helper"),
        ("poet", "Poet", "Poet. Writes verse."),
    ]
    assert "nextCursor" not in found
    helper, poet = found["tools"]
    assert (helper["annotations"]["destructiveHint"], poet["annotations"]["destructiveHint"]) == (True, False)
    for schema in (helper["inputSchema"], helper["outputSchema"]):
        Draft202012Validator.check_schema(schema)
    assert helper["inputSchema"]["required"] == ["message"]


async def test_the_list_comes_in_pages(owner: Actor, scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.mcp.tools.PAGE", 2)
    for slug in ("a", "b", "c"):
        await make_agent(owner, slug)
    first = await ask(owner, rpc("tools/list"))
    second = await ask(owner, rpc("tools/list", cursor=first["nextCursor"]))
    assert [tool["name"] for tool in first["tools"] + second["tools"]] == ["a", "b", "c", "helper"]
    assert "nextCursor" not in second
    (wrong,) = await told(await post(owner, rpc("tools/list", cursor="No such")))
    assert wrong["error"]["code"] == -32602


def test_a_page_is_one_query(owner: Actor, scripted: str, django_assert_num_queries: Any, in_acme: Tenant) -> None:
    async_to_sync(make_agent)(owner, "poet")
    with django_assert_num_queries(1):
        assert len(tool_page(actor=owner.principal, cursor=None)["tools"]) == 2


async def test_a_call_is_a_run(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    found = await ask(owner, call("hello there"))
    run = await Run.objects.aget()
    structured = {"answer": "You said: hello there", "session_id": str(run.session_id), "run_id": str(run.id)}
    assert found == {
        "content": [{"type": "text", "text": "You said: hello there"}],
        "structuredContent": structured,
        "isError": False,
    }
    assert (run.status, run.source, run.actor_id) == ("succeeded", "mcp", owner.principal.id)
    listed = (await ask(owner, rpc("tools/list")))["tools"][0]
    Draft202012Validator(listed["outputSchema"]).validate(structured)


async def test_a_session_goes_on(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    arguments = {"message": "one", "session_id": "mine"}
    first = await ask(owner, rpc("tools/call", name="helper", arguments=arguments))
    assert first["structuredContent"]["session_id"] == "mine"
    await ask(owner, rpc("tools/call", name="helper", arguments={**arguments, "message": "two"}))
    said = [message.content async for message in Message.objects.order_by("seq")]
    assert said == ["one", "You said: one", "two", "You said: two"]


async def test_progress_is_told_to_who_asked_for_it(owner: Actor, scripted: str) -> None:
    steps = script({"tool": "current_time", "args": {}}, {"repeat": "word", "times": 15, "delay_ms": 120})
    *progress, last = await told(await post(owner, call(steps, _meta={"progressToken": "p"})))
    assert {message["method"] for message in progress} == {"notifications/progress"}
    given = [message["params"] for message in progress]
    assert {params["progressToken"] for params in given} == {"p"}
    assert given[0]["message"] == "Calling current_time"
    assert len(given) >= 3
    values = [params["progress"] for params in given]
    assert values == sorted(set(values))
    assert "".join(params["message"] for params in given[1:]) in last["result"]["structuredContent"]["answer"]
    assert len(await told(await post(owner, call(steps)))) == 1


async def test_who_accepts_json_alone_gets_json(owner: Actor, scripted: str) -> None:
    response = await post(owner, call("hello", _meta={"progressToken": 1}), accept="application/json")
    assert response["Content-Type"] == "application/json"
    assert orjson.loads(response.content)["result"]["isError"] is False
    assert (await post(owner, call("hello"), accept="text/html")).status_code == 406


async def test_a_long_silence_has_heartbeats(owner: Actor, scripted: str, settings: LazySettings) -> None:
    settings.HEARTBEAT_SECONDS = 0.05
    response = await post(owner, call(script({"say": "late", "delay_ms": 500})))
    body = b"".join([part async for part in response.streaming_content])
    assert body.startswith(b": keep-alive\n\n")
    assert b'"late"' in body


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "message: Field required"),
        ({"message": ""}, "message: "),
        ({"message": 5, "extra": 1, "session_id": "a\nb"}, "message: Input should be a valid string; session_id: "),
    ],
)
async def test_wrong_arguments_are_a_result_that_a_model_can_read(
    owner: Actor, scripted: str, arguments: Any, text: str
) -> None:
    found = await ask(owner, rpc("tools/call", name="helper", arguments=arguments))
    assert found["isError"] is True
    assert found["content"][0]["text"].startswith(text)
    if "extra" in arguments:
        assert "extra: Extra inputs are not permitted" in found["content"][0]["text"]


async def test_a_run_that_fails_is_a_result(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    found = await ask(owner, call(script({"fail": "cut"})))
    run = await Run.objects.aget()
    assert found["isError"] is True
    assert f"(code: {run.error_code})" in found["content"][0]["text"]
    assert found["_meta"]["error"]["code"] == run.error_code
    assert found["_meta"]["run_id"] == str(run.id)


async def test_a_limit_is_a_result(owner: Actor, scripted: str, settings: LazySettings) -> None:
    settings.MAX_CONCURRENT_RUNS = 0
    found = await ask(owner, call("hello"))
    text = found["content"][0]["text"]
    assert (found["isError"], text.endswith("(code: too_many_runs) Try again in 1 s.")) == (True, True)


async def test_a_budget_is_a_result(owner: Actor, cap: Cap) -> None:
    await cap(1)
    found = await ask(owner, call("hello, this costs more than a dollar"))
    assert (found["isError"], found["_meta"]["error"]["code"]) == (True, "budget_exceeded")
    assert "(code: budget_exceeded)" in found["content"][0]["text"]


async def test_unknown_tools(owner: Actor, stranger: Actor, scripted: str, in_acme: Tenant) -> None:
    """Models, drafts, paused agents, ids and other tenants' agents are no tools."""
    draft = await make_agent(owner, "draft", status="draft")
    await make_agent(owner, "paused", status="paused")
    names = ["nobody", "scripted/default", "draft", "paused", str(draft.id), "", "a\0b".replace("\0", "\x01")]
    for who, name in [*((owner, name) for name in names), (stranger, "helper")]:
        (found,) = await told(await post(who, call("hello", name=name)))
        assert found["error"]["code"] == -32602, name
        assert found["error"]["data"]["code"] == "unknown_tool"
    assert await Run.objects.acount() == 0


async def test_a_repeated_call_is_made_once(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await ask(owner, call("hello"), Idempotency_Key="k")
    assert await ask(owner, call("hello", id=2), Idempotency_Key="k") == first
    other = await ask(owner, call("other"), Idempotency_Key="k")
    assert (other["isError"], other["_meta"]["error"]["code"]) == (True, "idempotency_key_reused")
    assert await Run.objects.acount() == 1


async def test_roles_and_scopes(acme: Tenant, viewer: Actor, scripted: str, in_acme: Tenant) -> None:
    chat = await sync_to_async(make_actor)(acme, "member", scopes=["chat"])
    read = await sync_to_async(make_actor)(acme, "member", scopes=["read"])
    for who in (viewer, chat, read):
        assert [tool["name"] for tool in (await ask(who, rpc("tools/list")))["tools"]] == ["helper"]
    assert (await ask(chat, call("hello")))["isError"] is False
    for who, code in ((viewer, "role_too_low"), (read, "scope_missing")):
        found = await ask(who, call("hello"))
        assert (found["isError"], found["_meta"]["error"]["code"]) == (True, code)
    assert await Run.objects.acount() == 1


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer ask_x_y"}, {"Authorization": "Basic eDp5"}])
async def test_without_a_key_nothing_is_answered(owner: Actor, header: dict[str, str]) -> None:
    for method in ("POST", "GET", "DELETE"):
        response = await owner.ahttp.generic(
            method, "/mcp", orjson.dumps(rpc("ping")), "application/json", headers=header
        )
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Bearer"
        assert orjson.loads(response.content)["error"]["type"] == "authentication_error"


async def test_a_signed_in_page_needs_a_key_too(owner: Actor, django_user_model: Any) -> None:
    person = await sync_to_async(django_user_model.objects.create_user)("ann")
    await owner.ahttp.aforce_login(person)
    headers = {"X-Tenant": "acme"}
    response = await owner.ahttp.generic("POST", "/mcp", orjson.dumps(rpc("ping")), "application/json", headers=headers)
    assert response.status_code == 401


async def ping_as(who: Actor, host: str, **headers: str) -> tuple[int, Any]:
    """As the server has it from the network; Django's client names a host of its own."""
    app = KeyedRequests(unreachable)
    status, _, body = await answer(app, who, "POST", "/mcp", orjson.dumps(rpc("ping")), host=host, **headers)
    return status, orjson.loads(body)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("testserver", "http://testserver", 200),
        ("testserver", "https://page.example", 200),
        ("testserver", "http://evil.example", 403),
        ("testserver", "null", 403),
        ("testserver", "http://[", 403),
        ("evil.example", "http://evil.example", 403),
        ("evil.example", None, 403),
        ("127.0.0.1.evil.example:8000", None, 403),
        ("evil.localhost.example", None, 403),
        ("localhost:8000", "http://localhost:8000", 200),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", 200),
        ("[::1]:8000", "http://[::1]:8000", 200),
        ("bad host", None, 400),
    ],
)
async def test_dns_rebinding(owner: Actor, settings: LazySettings, host: str, origin: str | None, status: int) -> None:
    """With ALLOWED_HOSTS `*`, too, a name that somebody else made lead here is refused."""
    settings.ALLOWED_HOSTS = ["*", "testserver"]
    settings.SOCKET_ORIGINS = ["https://page.example"]
    found, body = await ping_as(owner, host, **({"origin": origin} if origin else {}))
    assert (found, "error" in body) == (status, status != 200), body


async def test_a_host_that_is_not_allowed(owner: Actor, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["agents.example"]
    assert (await ping_as(owner, "agents.example"))[0] == 200
    for host in ("localhost", "127.0.0.1", "evil.example"):
        status, body = await ping_as(owner, host)
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "body",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "method": "no/such"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m"}},
        [{"jsonrpc": "2.0", "method": "notifications/initialized"}, {"jsonrpc": "2.0", "id": 1, "result": {}}],
    ],
)
async def test_what_needs_no_answer_gets_none(owner: Actor, body: Any) -> None:
    response = await post(owner, body)
    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b"{", -32700),
        (b"", -32600),
        (b'"text"', -32600),
        (b"null", -32600),
        (b"[" * 70 + b"]" * 70, -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": "\\u0000"}}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping\\ud800"}', -32700),
        ({"id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "m" * 1000}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}, -32600),
        *[({**rpc("ping"), "id": id}, -32600) for id in (None, 1.5, True, [1], {}, 2**64 - 1, "x" * 1000)],
        ([], -32600),
        ([rpc("ping")] * (MAX_BATCH + 1), -32600),
    ],
)
async def test_what_is_no_message_is_refused(owner: Actor, body: Any, number: int) -> None:
    response = await post(owner, body)
    assert response.status_code == 400
    found = orjson.loads(response.content)
    assert (found["jsonrpc"], found["id"], found["error"]["code"]) == ("2.0", None, number)
    assert found["error"]["data"]["request_id"]


@pytest.mark.parametrize("id", [0, -1, 2**63 - 1, "", "a\nb\x1b[31m", "ü🙂"])
async def test_an_answer_has_its_requests_id(owner: Actor, scripted: str, id: Any) -> None:
    assert await ask(owner, rpc("ping", id)) == {}
    assert (await ask(owner, call("hello", id=id)))["isError"] is False


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (rpc("resources/list"), -32601),
        (rpc("__init__"), -32601),
        (rpc("initialize"), -32602),
        (rpc("initialize", protocolVersion=5), -32602),
        (rpc("tools/list", cursor=5), -32602),
        (rpc("tools/call"), -32602),
        (rpc("tools/call", name="helper", arguments=[]), -32602),
        (rpc("tools/call", name="n" * 1000), -32602),
        (call("hello", _meta={"progressToken": 1.5}), -32602),
        (call("hello", _meta={"progressToken": "x" * 1000}), -32602),
        (call("hello", _meta=[]), -32602),
    ],
)
async def test_faults_of_a_request_are_its_answer(owner: Actor, body: Any, number: int) -> None:
    (found,) = await told(await post(owner, body))
    assert (found["id"], found["error"]["code"]) == (1, number)


async def test_a_fault_of_ours_tells_nothing(owner: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**kwargs: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("runs.mcp.methods.tool_page", broken)
    (found,) = await told(await post(owner, rpc("tools/list")))
    assert found["error"]["code"] == -32603
    assert "secret" not in str(found)


async def test_a_batch_is_answered_in_order(owner: Actor, scripted: str) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    batch = [rpc("ping", 1), note, 5, rpc("initialize", 2, protocolVersion="x"), rpc("no", 3), call("hello", id=4)]
    found = await told(await post(owner, batch))
    assert [message["id"] for message in found] == [1, None, 2, 3, 4]
    assert [message.get("error", {}).get("code") for message in found] == [None, -32600, -32600, -32601, None]
    (listed,) = await told(await post(owner, batch, accept="application/json", MCP_Protocol_Version="2025-03-26"))
    assert [message["id"] for message in listed] == [1, None, 2, 3, 4]
    assert (await post(owner, batch, MCP_Protocol_Version="2025-06-18")).status_code == 400


async def test_versions_and_methods(owner: Actor) -> None:
    for version in VERSIONS:
        assert await ask(owner, rpc("ping"), MCP_Protocol_Version=version, Mcp_Session_Id="stolen") == {}
    for version in ("1999-01-01", "", "2025-06-18, 2025-11-25"):
        assert (await post(owner, rpc("ping"), MCP_Protocol_Version=version)).status_code == 400
    for method in ("GET", "DELETE", "PUT", "PATCH", "OPTIONS"):
        response = await post(owner, rpc("ping"), method=method)
        assert (response.status_code, response["Allow"]) == (405, "POST")
    assert (await post(owner, rpc("ping", "x" * 2_000_000))).status_code == 413
    wrong = await owner.ahttp.generic("POST", "/mcp", b"{}", "text/plain", headers=owner.headers)
    assert wrong.status_code == 415


async def test_two_tenants_at_once_see_their_own(owner: Actor, stranger: Actor, scripted: str) -> None:
    await sync_to_async(stranger.post)("providers", {"slug": "scripted", "kind": "scripted"})
    await make_agent(stranger, "helper", name="Theirs")
    await make_agent(stranger, "secret")

    async def names(who: Actor) -> list[tuple[str, str]]:
        return [(tool["name"], tool["title"]) for tool in (await ask(who, rpc("tools/list")))["tools"]]

    found = await asyncio.gather(*(names(who) for _ in range(50) for who in (owner, stranger)))
    assert found[0::2] == [[("helper", "Helper")]] * 50
    assert found[1::2] == [[("helper", "Theirs"), ("secret", "Secret")]] * 50
