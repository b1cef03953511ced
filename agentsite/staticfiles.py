"""Static files without a web server in front: found as `collectstatic` finds them, served by the application itself."""

import gzip
import hashlib
import mimetypes
import os
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.core.exceptions import SuspiciousFileOperation
from django.utils._os import safe_join

Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Any, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_COMPRESSED = ("text/", "application/javascript", "application/json", "image/svg+xml")
FOREVER = b"public, max-age=31536000, immutable"
ASK_AGAIN = b"public, max-age=0, must-revalidate"


@dataclass(frozen=True, slots=True)
class StaticFile:
    modified: int
    body: bytes
    packed: bytes | None
    content_type: str
    version: str


_files: dict[str, StaticFile] = {}  # as many as there are files, a few megabytes


def find(path: str) -> str | None:
    """What `collectstatic` collected, else the file in the app that it would be collected from."""
    try:
        collected = safe_join(settings.STATIC_ROOT, path)
        if os.path.isfile(collected):
            return str(collected)
        found = finders.find(path)
    except (SuspiciousFileOperation, ValueError):
        return None
    return found if isinstance(found, str) and os.path.isfile(found) else None


def load(path: str) -> StaticFile | None:
    """The file, read again only when it changed."""
    name = find(path)
    if name is None:
        return None
    modified = os.stat(name).st_mtime_ns
    held = _files.get(name)
    if held is None or held.modified != modified:
        held = _files[name] = _read(name, modified)
    return held


def _read(name: str, modified: int) -> StaticFile:
    body = Path(name).read_bytes()
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    content_type = "application/javascript" if content_type == "text/javascript" else content_type
    packed = gzip.compress(body, 6) if content_type.startswith(_COMPRESSED) and len(body) > 500 else None
    return StaticFile(modified, body, packed, content_type, hashlib.sha256(body).hexdigest()[:12])


class VersionedStorage(StaticFilesStorage):
    """`{% static %}` names the content's hash, so that a browser keeps a file for ever and still gets the next one."""

    def url(self, name: str | None) -> str:
        return self._versioned(name) if settings.DEBUG else self._remembered(name)

    @cache  # noqa: B019 the storage lives as long as the process
    def _remembered(self, name: str | None) -> str:
        return self._versioned(name)

    def _versioned(self, name: str | None) -> str:
        url: str = super().url(name)
        found = load(name) if name else None
        return f"{url}?v={found.version}" if found else url


class StaticFiles:
    """ASGI middleware: answers GET and HEAD below STATIC_URL, passes everything else on."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        prefix = settings.STATIC_URL
        if scope["type"] != "http" or not scope["path"].startswith(prefix) or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        found = await to_thread(load, scope["path"].removeprefix(prefix))
        if found is None:
            await _answer(send, 404, [(b"content-type", b"text/plain")], b"404 No such file.\n")
        else:
            await _serve(scope, send, found)


async def _serve(scope: dict[str, Any], send: Send, found: StaticFile) -> None:
    given = dict(scope["headers"])
    etag = f'"{found.version}"'.encode()
    asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("v", [""])[0]
    charset = "; charset=utf-8" if found.packed else ""
    headers = [
        (b"content-type", f"{found.content_type}{charset}".encode()),
        (b"etag", etag),
        (b"cache-control", FOREVER if asked == found.version else ASK_AGAIN),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if given.get(b"if-none-match") == etag:
        await _answer(send, 304, headers, b"")
        return
    body = found.body
    if found.packed and b"gzip" in given.get(b"accept-encoding", b""):
        body = found.packed
        headers.append((b"content-encoding", b"gzip"))
    headers.append((b"content-length", str(len(body)).encode()))
    await _answer(send, 200, headers, b"" if scope["method"] == "HEAD" else body)


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
