"""Requests with a key for async views, which bypass Django's handler: nobody shall see a difference."""

import asyncio
from typing import Any

import orjson
import pytest
from asgiref.testing import ApplicationCommunicator

from agentsite.keyed import KeyedRequests
from runs.models import Run
from tenants.models import Tenant
from tests.conftest import Actor

pytestmark = pytest.mark.django_db
CHAT = "/v1/chat/completions"
VOLATILE = {"x-request-id", "x-run-id", "x-session-id", "content-length"}


async def unreachable(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(scope["path"])


def body_of(model: str, **fields: Any) -> bytes:
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields})


def communicator(app: Any, who: Actor, method: str, path: str, **headers: str) -> ApplicationCommunicator:
    given = {"host": "testserver", "content-type": "application/json", **who.headers, **headers}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
    }
    return ApplicationCommunicator(app, scope)


async def answer(app: Any, who: Actor, method: str, path: str, body: bytes, **headers: str) -> Any:
    """Status, headers and body."""
    asked = communicator(app, who, method, path, **{"content-length": str(len(body)), **headers})
    await asked.send_input({"type": "http.request", "body": body[:5], "more_body": True})
    await asked.send_input({"type": "http.request", "body": body[5:]})
    head, said, more = await asked.receive_output(5), b"", True
    while more:
        message = await asked.receive_output(5)
        said, more = said + message.get("body", b""), message.get("more_body", False)
    await asked.send_input({"type": "http.disconnect"})
    await asked.wait()
    return head["status"], {name.decode().lower(): value.decode() for name, value in head["headers"]}, said


async def by_django(who: Actor, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
    given = {**who.headers, **headers}
    kind = given.pop("content-type", "application/json")
    response = await who.ahttp.generic(method, path, body, kind, headers=given)
    said = b"".join([part async for part in response]) if response.streaming else response.content
    return response.status_code, {name.lower(): value for name, value in response.items()}, said


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", CHAT, body_of("helper"), {}, 200),
        ("POST", CHAT, body_of("helper", stream=True), {}, 200),
        ("POST", CHAT, body_of("scripted/default", stream=True), {}, 200),
        ("POST", CHAT, body_of("nobody"), {}, 404),
        ("POST", CHAT, b"{", {}, 400),
        ("POST", CHAT, body_of("helper"), {"content-type": "text/plain"}, 415),
        ("POST", CHAT, body_of("helper"), {"Authorization": "Bearer ask_a_b"}, 401),
        ("POST", CHAT, body_of("helper"), {"Authorization": "Basic abc"}, 401),
        ("GET", CHAT, b"", {}, 405),
        ("GET", "/v1/runs/01a21cd0-8ff7-71b2-ac3e-4e34699a2d59/events", b"", {}, 404),
    ],
)
async def test_status_headers_and_body_are_those_of_djangos_handler(
    owner: Actor, scripted: str, method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    short = await answer(KeyedRequests(unreachable), owner, method, path, body, **headers)
    whole = await by_django(owner, method, path, body, headers)
    assert short[0] == whole[0] == status
    assert short[1].keys() == whole[1].keys()
    for name in short[1].keys() - VOLATILE:
        assert short[1][name] == whole[1][name], name
    assert len(short[2]) == len(whole[2]) or b"data:" in short[2]  # pieces of a stream are merged as they come


async def test_secure_headers_and_the_redirect_to_https_are_kept(
    owner: Actor, scripted: str, in_acme: Tenant, settings: Any
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    app = KeyedRequests(unreachable)
    status, headers, _ = await answer(app, owner, "POST", CHAT, body_of("helper"))
    assert (status, headers["location"]) == (301, "https://testserver/v1/chat/completions")
    assert headers["x-content-type-options"] == "nosniff"
    assert not await Run.objects.aexists()


async def test_a_host_that_is_not_served_is_refused(owner: Actor, scripted: str, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    status, headers, _ = await answer(
        KeyedRequests(unreachable), owner, "POST", CHAT, body_of("helper"), host="elsewhere.example"
    )
    assert (status, headers["x-content-type-options"]) == (400, "nosniff")


async def test_a_query_that_is_no_utf_8_is_refused(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    asked = communicator(KeyedRequests(unreachable), owner, "POST", CHAT)
    asked.scope["query_string"] = b"a=\xff"
    await asked.send_input({"type": "http.request", "body": body_of("helper")})
    assert (await asked.receive_output(5))["status"] == 400
    await asked.wait()
    assert not await Run.objects.aexists()


async def test_what_needs_django_goes_to_django(owner: Actor, scripted: str) -> None:
    passed: list[str] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])

    for path, headers in (("/v1/me", {}), ("/v1/nosuch", {}), (CHAT, {"without": "a key"}), ("/admin/", {})):
        asked = communicator(KeyedRequests(django), owner, "POST", path, **headers)
        if headers:
            asked.scope["headers"] = [each for each in asked.scope["headers"] if each[0] != b"authorization"]
        await asked.wait()
    assert passed == ["/v1/me", "/v1/nosuch", CHAT, "/admin/"]


async def test_a_client_that_goes_takes_its_run_with_it(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    words = '#script [{"repeat": "word ", "times": 500, "delay_ms": 10}]'
    body = body_of("scripted/default", messages=[{"role": "user", "content": words}])
    asked = communicator(KeyedRequests(unreachable), owner, "POST", CHAT, **{"content-length": str(len(body))})
    await asked.send_input({"type": "http.request", "body": body})
    assert await a_run_is("running")
    await asked.send_input({"type": "http.disconnect"})
    await asked.wait(2)
    assert await a_run_is("cancelled")


async def a_run_is(status: str) -> bool:
    for _ in range(200):
        if await Run.objects.filter(status=status).aexists():
            return True
        await asyncio.sleep(0.01)
    return False
