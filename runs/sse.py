"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from collections.abc import AsyncIterator

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


class EventStreamResponse(StreamingHttpResponse):
    def __init__(self, frames: AsyncIterator[bytes], headers: dict[str, str] | None = None) -> None:
        super().__init__(frames, content_type="text/event-stream")
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"
        for name, value in (headers or {}).items():
            self.headers[name] = value
