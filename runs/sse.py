"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from django.http import StreamingHttpResponse

HEARTBEAT = b": keep-alive\n\n"


def frame(data: bytes, *, id: int | None = None, event: str | None = None) -> bytes:
    """One event; `data` is a single line."""
    head = b""
    if id is not None:
        head += b"id: %d\n" % id
    if event is not None:
        head += b"event: " + event.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """How long a browser waits before it connects again."""
    return b"retry: %d\n\n" % milliseconds


class EventStreamResponse(StreamingHttpResponse):
    """Closes its frames' generator as soon as the client has gone, instead of when it is collected."""

    def __init__(self, frames: AsyncGenerator[bytes, None], headers: dict[str, str] | None = None) -> None:
        super().__init__(frames, content_type="text/event-stream")
        self._frames = frames
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"
        for name, value in (headers or {}).items():
            self.headers[name] = value

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._frames) as frames:
            async for chunk in frames:
                yield chunk
