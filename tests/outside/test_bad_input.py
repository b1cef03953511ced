"""What is wrong is refused with a clear 4xx: nothing is written, nothing of the inside is shown."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.outside.site import Server, Site

JSON = {"Content-Type": "application/json"}
MEGABYTE = 1_048_576
INSIDE = re.compile(r"Traceback|File \"|psycopg|SELECT |INSERT |django|site-packages|asgiref|orjson|pydantic", re.I)
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
AGENT = {"slug": "bad", "name": "Bad", "template": "simple", "model": "scripted/default"}
PROVIDER = {"slug": "bad", "kind": "scripted"}
TOOLSET = {"slug": "bad", "name": "Bad", "kind": "time"}
KEY = {"name": "bad", "role": "viewer"}
MEMBER = {"username": "bad", "role": "viewer"}

WRITES = [
    ("POST", "chat/completions"),
    ("POST", "agents/scripted/ag-ui"),
    ("POST", "agents/scripted/ui-stream"),
    ("POST", "agents"),
    ("PUT", "agents/scripted"),
    ("PATCH", "agents/scripted"),
    ("PATCH", "agents/scripted/status"),
    ("POST", "agents/validate"),
    ("POST", "providers"),
    ("PUT", "providers/scripted"),
    ("PATCH", "providers/scripted"),
    ("POST", "toolsets"),
    ("PATCH", "toolsets/time"),
    ("POST", "sessions"),
    ("POST", "api-keys"),
    ("POST", "members"),
    ("POST", "templates/conversation/validate"),
]


MULTIPART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
OTHER_TYPES = {
    "text/plain": b'{"a": 1}',
    "application/xml": b"<a>1</a>",
    "application/x-www-form-urlencoded": b"a=1",
    "multipart/form-data; boundary=x": MULTIPART,
}


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


UNCLEAN = {
    "cut": (b"{", "invalid_json"),
    "blank": (b" ", "invalid_json"),
    "python": (b"{'a': 1}", "invalid_json"),
    "nan": (b'{"a": NaN}', "invalid_json"),
    "no-utf8": (b'{"a": "\xff"}', "invalid_json"),
    "lone-surrogate": (b'{"a": "\\ud800"}', "invalid_json"),
    "nul": (b'{"a": "\\u0000"}', "invalid_character"),
    "nul-key": (b'{"\\u0000": 1}', "invalid_character"),
    "deep": (nested(100), "too_deep"),
    "deepest": (nested(10_000), None),
    "deep-list": (b"[" * 10_000 + b"]" * 10_000, None),
    "list": (b"[]", None),
    "null": (b"null", None),
    "string": (b'"text"', None),
    "number": (b"7", None),
}


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_written(site: Site) -> Iterator[None]:
    before = site.rows()
    yield
    assert site.rows() == before


def refused(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The error, once the answer is the contract's and shows nothing of the inside."""
    asked = f"{response.request.method} {response.request.url}: {response.text}"
    assert response.status_code == status, asked
    assert response.headers["Content-Type"] == "application/json", asked
    error: dict[str, Any] = response.json()["error"]
    assert error["request_id"] == response.headers["X-Request-Id"], asked
    assert error["message"], asked
    assert error["type"], asked
    assert not INSIDE.search(response.text), asked
    assert code is None or error["code"] == code, asked
    return error


@pytest.mark.parametrize("kind", UNCLEAN)
def test_a_body_that_is_no_clean_object(http: httpx.Client, kind: str) -> None:
    body, code = UNCLEAN[kind]
    for method, path in WRITES:
        refused(http.request(method, path, content=body, headers=JSON), 400, code)


def test_a_number_that_could_not_be_answered_again(http: httpx.Client) -> None:
    large = {"a": [1e30]}
    refused(http.post("sessions", json={"metadata": large}), 400, "large_number")
    refused(http.post("agents", json={**AGENT, "config": large}), 400)
    refused(http.patch("agents/scripted", json={"metadata": large}), 400, "large_number")
    said = {"role": "user", "content": [{"type": "text", "text": "x", **large}]}
    refused(http.post("chat/completions", json={**CHAT, "messages": [said]}), 400)


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_another_content_type(http: httpx.Client, kind: str) -> None:
    for method, path in WRITES:
        response = http.request(method, path, content=OTHER_TYPES[kind], headers={"Content-Type": kind})
        refused(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["chat/completions", "agents/scripted/ag-ui", "agents", "sessions"])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_over_a_megabyte(server: Server, path: str, chunked: bool) -> None:
    body = json.dumps({**CHAT, "filler": "x" * MEGABYTE}).encode()
    parts = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
    with server.client() as http:
        response = http.post(path, content=parts if chunked else body, headers=JSON)
    assert "1048576" in refused(response, 413, "request_too_large")["message"]


UNKNOWN = [
    ("POST", "agents", AGENT),
    ("PATCH", "agents/scripted", {}),
    ("PATCH", "agents/scripted/status", {"status": "active"}),
    ("POST", "providers", PROVIDER),
    ("POST", "toolsets", TOOLSET),
    ("POST", "sessions", {}),
    ("POST", "api-keys", KEY),
    ("POST", "members", MEMBER),
    ("POST", "templates/simple/validate", {"config": {}}),
]


@pytest.mark.parametrize("path", ["sessions", "chat/completions"])
def test_a_body_in_chunks_is_read(http: httpx.Client, path: str) -> None:
    """As streaming clients and proxies send it: without a Content-Length."""
    body = json.dumps({**CHAT, "model": "nobody", "agent": "nobody"} if path != "sessions" else {"agent": "nobody"})
    parts = (body[start : start + 9].encode() for start in range(0, len(body), 9))
    assert "'nobody'" in refused(http.post(path, content=parts, headers=JSON), 404)["message"]


def test_unknown_fields_are_named(http: httpx.Client) -> None:
    for method, path, body in UNKNOWN:
        error = refused(http.request(method, path, json={**body, "nosuch": 1}), 400)
        assert "nosuch" in [detail["path"] for detail in error["details"]], path


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("agents", AGENT, "slug"),
        ("agents", AGENT, "model"),
        ("agents", AGENT, "template"),
        ("providers", PROVIDER, "kind"),
        ("providers", PROVIDER, "slug"),
        ("toolsets", TOOLSET, "kind"),
        ("api-keys", KEY, "role"),
        ("members", MEMBER, "role"),
    ],
)
def test_wrong_types_and_values(http: httpx.Client, path: str, body: Any, field: str) -> None:
    for value in (None, 7, True, [], {}, ["x"], {"a": 1}, "", " ", "x" * 100_000):
        error = refused(http.post(path, json={**body, field: value}), 400)
        assert field in [detail["path"].split(".")[0] for detail in error["details"]], error


FOREIGN = [
    ("GET", "agents/{agent}", None),
    ("PATCH", "agents/{agent}", {"name": "Mine"}),
    ("PATCH", "agents/{agent}/status", {"status": "paused"}),
    ("DELETE", "agents/{agent}", None),
    ("GET", "agents/{agent}/versions", None),
    ("POST", "agents/{agent}/versions/1/restore", None),
    ("GET", "providers/{provider}", None),
    ("PATCH", "providers/{provider}", {"slug": "mine"}),
    ("POST", "providers/{provider}/test", None),
    ("DELETE", "providers/{provider}", None),
    ("GET", "toolsets/{toolset}", None),
    ("DELETE", "toolsets/{toolset}", None),
    ("DELETE", "api-keys/{key}", None),
    ("DELETE", "members/{member}", None),
    ("GET", "sessions/{agent}", None),
    ("GET", "sessions/{agent}/messages", None),
    ("GET", "runs/{agent}", None),
    ("POST", "runs/{agent}/cancel", None),
    ("POST", "chat/completions", {**CHAT, "model": "{agent}"}),
]


@pytest.fixture(scope="module")
def globex(uvicorn: Server) -> dict[str, str]:
    """Ids of another tenant's objects."""
    lists = {"agent": "agents", "provider": "providers", "toolset": "toolsets", "key": "api-keys", "member": "members"}
    with uvicorn.client("globex") as http:
        return {name: http.get(path).json()["data"][0]["id"] for name, path in lists.items()}


def test_what_is_another_tenants_is_missing(http: httpx.Client, globex: dict[str, str]) -> None:
    for method, path, body in FOREIGN:
        content = json.dumps(body).replace("{agent}", globex["agent"]) if body else None
        response = http.request(method, path.format(**globex), content=content, headers=JSON if body else {})
        assert refused(response, 404)["type"] == "not_found_error"


def test_a_wrong_query(http: httpx.Client) -> None:
    limits = [f"agents?limit={limit}" for limit in ("0", "101", "-1", "x", "1e3", "%00", "")]
    cursors = [f"agents?cursor={cursor}" for cursor in ("%00", "x", "AAAA", "%F0%9F%8C%8A")]
    events = ["runs/x/events?after=-1", "runs/x/events?after=x", "runs/x/events?limit=1001"]
    for path in [*limits, *cursors, *events, "agents?status=nosuch"]:
        refused(http.get(path), 400)


def test_a_nul_in_a_query(http: httpx.Client) -> None:
    for path in ("agents?q=", "sessions?q=", "sessions?user_id=", "providers?q=", "toolsets?q=", "providers?kind="):
        refused(http.get(f"{path}%00"), 400)


def test_a_ref_that_nothing_has(http: httpx.Client) -> None:
    for noun in ("agents", "providers", "toolsets", "sessions", "runs", "templates", "api-keys", "members"):
        refused(http.get(f"{noun}/%00"), 400, "invalid_character")
        for ref in ("x" * 5000, "%ff", "..%2f..", "%F0%9F%8C%8A", "0" * 32):
            refused(http.get(f"{noun}/{ref}"), 404)


def test_a_path_and_a_method_that_nothing_has(http: httpx.Client) -> None:
    refused(http.get("nosuch"), 404)
    response = http.delete("chat/completions")
    refused(response, 405)
    assert response.headers["Allow"]


def test_a_wrong_credential(server: Server) -> None:
    for header in ("Basic abc", "Bearer", "Bearer ask_x", "ask_a_b", "Bearer ask_\xe9_b", "Bearer ask_a_" + "x" * 5000):
        headers = {"Authorization": header.encode("latin-1")}
        response = httpx.get(f"{server.api}/me", headers=headers, trust_env=False)  # type: ignore[arg-type]
        refused(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
