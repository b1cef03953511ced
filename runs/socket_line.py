"""The line to a socket's client, which may break while several tasks still send."""

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]


class Line:
    """ASGI's `receive` and `send`, where what is sent after the end is lost: `websocket.disconnect` tells of the end.

    Servers raise OSError for a client that has gone, and others for what is sent after a close or a disconnect.
    """

    def __init__(self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._ended = self._ended or message["type"] == "websocket.disconnect"
        return message

    async def send(self, message: Message) -> None:
        if self._ended:
            return
        self._ended = message["type"] == "websocket.close"
        try:
            await self._send(message)
        except OSError:
            self._ended = True
