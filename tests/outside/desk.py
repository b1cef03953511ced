"""A small API on loopback that agents' tools call: it keeps the orders that it gets, and answers when it is let."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.toolsets.http_api import document

PAGE = "<html><head><title>Mills</title></head><body><h1>Tide mills</h1><p>They grind.</p></body></html>"
BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
        }
    },
}
DOCUMENT = document(
    ("post", "/orders", {"operationId": "createOrder", "requestBody": BODY, "responses": {"201": {"description": ""}}})
)


class Desk:
    """`orders` are the items as they came; `before` is called with each, in a thread of its own, before its answer."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.came = threading.Condition()
        self.before: Callable[[str], Any] = lambda item: None
        self.url = ""

    def take(self, item: str) -> dict[str, Any]:
        with self.came:
            self.orders.append(item)
            number = len(self.orders)
            self.came.notify_all()
        self.before(item)
        return {"number": number, "item": item}

    def until(self, count: int, seconds: float = 30) -> None:
        """Returns once it has got so many orders."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.orders) >= count, seconds), self.orders


@contextmanager
def open_desk() -> Iterator[Desk]:
    desk = Desk()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            desk.before(self.path)
            found = self.path == "/page"
            self._answer(200 if found else 404, "text/html", PAGE.encode() if found else b"")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(201, "application/json", json.dumps(desk.take(body["item"])).encode())

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                """Who asked was killed."""

        def log_message(self, format: str, *args: Any) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    desk.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield desk
    finally:
        server.shutdown()
        server.server_close()
