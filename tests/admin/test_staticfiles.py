"""Static files served by the application itself."""

import gzip
from typing import Any

import pytest
from django.templatetags.static import static

from agentsite.staticfiles import FOREVER, StaticFiles, load


async def fetch(
    path: str, *, query: str = "", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def passed_on(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"the app"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": named, "query_string": query.encode()}
    await StaticFiles(passed_on)(scope, None, send)
    received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], received, sent[1]["body"]


async def test_a_file_of_an_app_is_found_and_compressed() -> None:
    status, headers, body = await fetch("/static/unfold/js/htmx/htmx.js", accept_encoding="gzip, br")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert headers["content-type"].startswith("application/javascript")
    assert gzip.decompress(body).startswith(b"var htmx")
    assert len(body) == int(headers["content-length"])


async def test_a_versioned_address_is_kept_for_ever_and_another_asked_for_again() -> None:
    path, _, query = static("agentsite/admin.css").partition("?")
    _, headers, _ = await fetch(path, query=query)
    assert headers["cache-control"] == FOREVER.decode()
    for other in ("", "v=0123456789ab"):
        _, headers, _ = await fetch(path, query=other)
        assert "must-revalidate" in headers["cache-control"]
    status, _, body = await fetch(path, if_none_match=headers["etag"])
    assert (status, body) == (304, b"")


async def test_head_has_no_body() -> None:
    status, headers, body = await fetch("/static/agentsite/admin.css", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


@pytest.mark.parametrize(
    "path",
    [
        "../settings/base.py",
        "..%2f..%2fmanage.py",
        "/etc/passwd",
        "",
        "agentsite",
        "agentsite/",
        "nothing.js",
        "a\0b",
        "../" * 9,
    ],
)
async def test_nothing_else_is_served(path: str) -> None:
    status, _, body = await fetch(f"/static/{path}")
    assert (status, body) == (404, b"404 No such file.\n")


async def test_everything_else_is_the_applications() -> None:
    for path, method in (("/v1/health", "GET"), ("/static/agentsite/admin.css", "POST"), ("/statics", "GET")):
        assert (await fetch(path, method=method))[0] == 418


def test_our_alpine_is_served_in_place_of_unfolds() -> None:
    found = load("unfold/js/alpine/alpine.js")
    assert found is not None
    assert b"AsyncFunction" not in found.body
    assert b"new Function" not in found.body
