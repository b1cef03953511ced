"""A client of the socket `agui.v1` that costs little, as it shares the machine with the server that it measures."""

import asyncio
import base64
import secrets
import struct
import zlib
from typing import Any

import orjson

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
FINAL, COMPRESSED = 0x80, 0x40
FLUSH = b"\0\0\xff\xff"  # with which each compressed message is cut off (RFC 7692)
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n"
    "Sec-WebSocket-Protocol: agui.v1\r\n{extensions}\r\n"
)
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


class Socket(asyncio.Protocol):
    """`opened` is done once it is open; `ended` says why it is not any more. Browsers offer compression."""

    def __init__(self, host: str, path: str, key: str, compression: bool = True) -> None:
        nonce, extensions = base64.b64encode(secrets.token_bytes(16)).decode(), DEFLATE if compression else ""
        self._head = UPGRADE.format(path=path, host=host, key=key, nonce=nonce, extensions=extensions).encode()
        self._rest = b""
        self._inflate = zlib.decompressobj(-15)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = ""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"lost: {exc}")

    def heard(self, message: bytes) -> None:
        raise NotImplementedError

    def say(self, message: object) -> None:
        self._send(TEXT, orjson.dumps(message))

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.opened.done():
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self._begin(head)
        self._rest = data[self._frames(data) :]

    def _begin(self, head: bytes) -> None:
        if head.startswith(b"HTTP/1.1 101 "):
            self.opened.set_result(None)
        else:
            self._end(head.split(b"\r\n")[0].decode())

    def _frames(self, data: bytes) -> int:
        """Takes the whole frames at the beginning; where they end."""
        place = 0
        while (body := _body(data, place)) is not None:
            start, end = body
            self._frame(data[place], data[start:end])
            place = end
        return place

    def _frame(self, first: int, body: bytes) -> None:
        kind = first & 0x0F
        if kind == TEXT:
            self.heard(self._inflate.decompress(body + FLUSH) if first & COMPRESSED else body)
        elif kind == CLOSE:
            self._end(f"closed: {body[2:].decode()}")
        elif kind == PING:
            self._send(PONG, body)

    def _send(self, kind: int, body: bytes) -> None:
        """Under a mask that changes nothing."""
        size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
        self._transport.write(bytes([FINAL | kind]) + size + bytes(4) + body)

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(why))


def _body(data: bytes, place: int) -> tuple[int, int] | None:
    """Where the body of the frame at `place` lies; None when it has not come in whole."""
    if len(data) < place + 2:
        return None
    size, start = data[place + 1], place + 2
    if size > 125:
        start += 2 if size == 126 else 8
        size = int.from_bytes(data[place + 2 : start], "big")
    return (start, start + size) if len(data) >= start + size else None


def run_frame(agent: str, thread: str, text: str) -> dict[str, Any]:
    return {"type": "run", "agent": agent, "input": run_input(thread, text)}


def run_input(thread: str, text: str) -> dict[str, Any]:
    """AG-UI's RunAgentInput of one message."""
    messages = [{"id": "m", "role": "user", "content": text}]
    rest: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    return {"threadId": thread, "runId": "r", "messages": messages, **rest}
