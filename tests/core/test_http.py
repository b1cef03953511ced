"""What every request gets: ids, errors in one form, limits."""

from typing import Any

import psycopg
import pytest
from asgiref.testing import ApplicationCommunicator
from django.db import IntegrityError, OperationalError, ProgrammingError

from agentsite.body_limit import BodyLimit
from agentsite.middleware import client_ip
from tests.conftest import Actor

pytestmark = pytest.mark.django_db


def test_the_request_id_is_the_callers_or_ours(owner: Actor) -> None:
    assert owner.http.get("/v1/health", headers={"X-Request-Id": "abc-1"})["X-Request-Id"] == "abc-1"
    ours = owner.http.get("/v1/health", headers={"X-Request-Id": "a b\n"})["X-Request-Id"]
    assert len(ours) == 36


def test_unknown_paths_and_methods(owner: Actor) -> None:
    missing = owner.get("nosuch")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    wrong = owner.delete("me")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert owner.http.get("/nosuch").status_code == 404


def test_a_body_must_be_clean_json(owner: Actor, settings: Any) -> None:
    def post(body: bytes, kind: str = "application/json") -> tuple[int, str]:
        response = owner.http.generic("POST", "/v1/sessions", body, content_type=kind)
        return response.status_code, response.json()["error"]["code"]

    assert post(b'{"title": ') == (400, "invalid_json")
    assert post(b'{"title": "\\ud800"}') == (400, "invalid_json")
    assert post(b"\xff\xfe") == (400, "invalid_json")
    assert post(b'{"title": "\\u0000"}') == (400, "invalid_character")
    assert post(b'{"metadata": %s}' % (b"[" * 80 + b"]" * 80)) == (400, "too_deep")
    assert post(b"[" * 100_000) == (400, "invalid_json")
    assert post(b"title=x", "application/x-www-form-urlencoded") == (415, "unsupported_media_type")
    settings.MAX_BODY_BYTES = 100
    assert post(b'{"title": "%s"}' % (b"x" * 200)) == (413, "request_too_large")


def _fault_of(kind: type[Exception], cause: Exception | None = None) -> Exception:
    fault = kind("connection to 10.0.0.5 as agentsite failed")
    fault.__cause__ = cause
    return fault


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (_fault_of(RuntimeError), 500, "internal_error"),
        (_fault_of(ProgrammingError), 500, "internal_error"),
        (_fault_of(OperationalError), 503, "database_unavailable"),
        (_fault_of(IntegrityError), 500, "internal_error"),
        (_fault_of(IntegrityError, psycopg.errors.ForeignKeyViolation()), 409, "changed_meanwhile"),
    ],
)
def test_an_unforeseen_error_shows_nothing(
    owner: Actor, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int, code: str
) -> None:
    def fail(**_: Any) -> None:
        raise fault

    monkeypatch.setattr("tenants.selectors.tenant_get", fail)
    response = owner.get("me")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ("Retry-After" in response) == (status == 503)
    assert "10.0.0.5" not in response.content.decode()
    assert response.json()["error"]["request_id"] == response["X-Request-Id"]


@pytest.mark.parametrize(("trusted", "expected"), [(0, "9.9.9.9"), (1, "2.2.2.2"), (2, "1.1.1.1"), (3, "9.9.9.9")])
def test_the_callers_address_behind_proxies(settings: Any, trusted: int, expected: str) -> None:
    settings.TRUSTED_PROXIES = trusted
    assert client_ip("9.9.9.9", "1.1.1.1, 2.2.2.2") == expected


@pytest.mark.parametrize("declared", [True, False])
async def test_an_oversized_body_is_refused_while_it_arrives(settings: Any, declared: bool) -> None:
    settings.MAX_BODY_BYTES = 100
    read: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            read.append(len(message["body"]))
            if not message.get("more_body"):
                return

    headers = [(b"content-length", b"1000")] if declared else []
    client = ApplicationCommunicator(BodyLimit(app), {"type": "http", "headers": headers})
    for _ in range(3):
        await client.send_input({"type": "http.request", "body": b"x" * 60, "more_body": True})
    start = await client.receive_output(timeout=20)
    assert start["status"] == 413
    assert b"request_too_large" in (await client.receive_output(timeout=20))["body"]
    assert sum(read) == (0 if declared else 60)


async def test_a_body_in_chunks_gets_its_length() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append((dict(scope["headers"]).get(b"content-length"), await receive(), await receive()))

    headers = [(b"transfer-encoding", b"chunked")]
    client = ApplicationCommunicator(BodyLimit(app), {"type": "http", "headers": headers})
    for part, more in ((b'{"a":', True), (b" 1}", False)):
        await client.send_input({"type": "http.request", "body": part, "more_body": more})
    await client.send_input({"type": "http.disconnect"})
    await client.wait(timeout=20)
    assert got == [(b"8", {"type": "http.request", "body": b'{"a": 1}'}, {"type": "http.disconnect"})]
