"""The example page of a widget, served at an origin of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.outside.site import CHECKOUT, Server

EXAMPLE = CHECKOUT / "examples" / "widget"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def pages(folder: Path) -> Iterator[int]:
    """The port at which a folder is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def key(server: Server, *origins: str) -> str:
    with server.client() as http:
        body = {"name": "Shop", "agent": "scripted", "origins": list(origins)}
        made = http.post("publishable-keys", json=body)
    assert made.status_code == 201, made.text
    for origin in origins:
        known(server, origin)
    return str(made.json()["token"])


def known(server: Server, origin: str) -> None:
    """Wait until the server knows of it, which takes API_KEY_CACHE_SECONDS at most."""
    deadline = time.monotonic() + 30
    asked: Any = {"headers": {"Origin": origin}, "trust_env": False}
    while "Access-Control-Allow-Origin" not in httpx.get(f"{server.base_url}/v1/health", **asked).headers:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def write(folder: Path, server: Server, token: str) -> None:
    """The example, made for this server and key."""
    host = server.base_url.removeprefix("http://")
    text = (EXAMPLE / "index.html").read_text().replace("pk_YOUR_KEY", token).replace("127.0.0.1:8000", host)
    (folder / "index.html").write_text(text)
    (folder / "style.css").write_text((EXAMPLE / "style.css").read_text())


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[str]:
    """The address of the example page, which its key allows."""
    with pages(tmp_path) as port:
        origin = f"http://127.0.0.1:{port}"
        write(tmp_path, server, key(server, origin))
        yield f"{origin}/"
