"""Clients that go away at any byte of what they ask or hear, by raw sockets, with and without a reset."""

import base64
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from tests.outside.site import Server

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST, and drops what was not read
PATIENCE = 1.0  # seconds of silence after which a client goes as well
SESSIONS = 5  # that some sockets share


def request(server: Server, method: str, path: str, body: object = None, *more: str) -> bytes:
    data = b"" if body is None else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(server.base_url).netloc}"]
    lines += [f"Authorization: Bearer {server.site.key('acme')}", *more]
    lines += [] if body is None else ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode() + data


def connected(server: Server) -> socket.socket:
    parts = urlsplit(server.base_url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def script(*steps: Any) -> list[dict[str, Any]]:
    return [{"id": "m", "role": "user", "content": "#script " + orjson.dumps(steps).decode()}]


def run_input(thread: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    rest: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    return {"threadId": thread, "runId": "r", "messages": messages, **rest}


def text_frame(value: object) -> bytes:
    """Of a socket's client, under a mask that changes nothing."""
    data = orjson.dumps(value)
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return b"\x81" + length + bytes(4) + data


class Leaver:
    """`dice` decides what is asked, how much of it is sent, how much of the answer is read, and how it ends."""

    def __init__(self, server: Server, dice: random.Random) -> None:
        self.server = server
        self._dice = dice
        self._messages = script({"repeat": "word", "times": 8, "delay_ms": dice.choice((1, 5, 50))})

    def go(self, kind: str) -> None:
        parts = KINDS[kind](self)
        with connected(self.server) as client:
            client.settimeout(PATIENCE)
            with suppress(TimeoutError, ConnectionError):  # nothing more comes
                self._talk(client, parts)
            if self._dice.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _talk(self, client: socket.socket, parts: list[bytes]) -> None:
        """One in four sends only a part of its last request, or frame."""
        *first, last = parts
        for part in first:
            client.sendall(part)
            read(client, until=b"\r\n\r\n")
        half = self._dice.random() < 0.25
        client.sendall(last[: self._dice.randrange(len(last))] if half else last)
        if not half:
            read(client, self._dice.choice((0, self._dice.randrange(400), self._dice.randrange(3000))))

    def chat(self, model: str, stream: bool) -> list[bytes]:
        body = {"model": model, "messages": self._messages, "stream": stream}
        return [request(self.server, "POST", "/v1/chat/completions", body)]

    def ag_ui(self) -> list[bytes]:
        body = run_input(str(uuid4()), self._messages)
        return [request(self.server, "POST", "/v1/agents/scripted/ag-ui", body)]

    def mcp(self) -> list[bytes]:
        params = {"name": "scripted", "arguments": {"message": self._messages[0]["content"]}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, "_meta": {"progressToken": 1}}}
        return [request(self.server, "POST", "/mcp", body)]

    def socket(self) -> list[bytes]:
        """Some share a session, where one's runs are told to all and wait for each other."""
        name = f"shared-{self._dice.randrange(SESSIONS)}" if self._dice.random() < 0.3 else str(uuid4())
        asked = {"type": "run", "agent": "scripted", "input": run_input(name, self._messages)}
        return [self._handshake(name), text_frame({"type": "ping"}) + text_frame(asked)]

    def _handshake(self, name: str) -> bytes:
        key = base64.b64encode(self._dice.randbytes(16)).decode()
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        more = (*upgrade, f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Protocol: agui.v1")
        return request(self.server, "GET", f"/ws/v1/sessions/{name}", None, *more)

    def events(self) -> list[bytes]:
        """Of a run whose first client has left."""
        with connected(self.server) as client:
            client.sendall(self.ag_ui()[0])
            head = read(client, until=b"\r\n\r\n").lower()
        run_id = head.partition(b"x-run-id: ")[2].split(b"\r\n")[0].decode()
        return [request(self.server, "GET", f"/v1/runs/{run_id}/events", None, "Accept: text/event-stream")]


def read(client: socket.socket, wanted: int = 1_000_000, until: bytes | None = None) -> bytes:
    """So many bytes, or up to some text, or what there is."""
    got = b""
    while len(got) < wanted and not (until and until in got):
        piece = client.recv(min(wanted - len(got), 256))
        if not piece:
            break
        got += piece
    return got


KINDS: dict[str, Callable[[Leaver], list[bytes]]] = {
    "model, streamed": lambda leaver: leaver.chat("scripted/default", True),
    "model": lambda leaver: leaver.chat("scripted/default", False),
    "agent, streamed": lambda leaver: leaver.chat("scripted", True),
    "agent": lambda leaver: leaver.chat("scripted", False),
    "AG-UI": Leaver.ag_ui,
    "MCP": Leaver.mcp,
    "events": Leaver.events,
    "socket": Leaver.socket,
}
