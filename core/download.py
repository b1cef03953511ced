"""Files that are made while they are sent."""

from collections.abc import AsyncIterator, Iterator

from django.http import StreamingHttpResponse

from core.aio import in_db_thread


class Download(StreamingHttpResponse):
    """An attachment. Each of `pieces`, which are not empty, may read the database; nothing is held between them."""

    def __init__(self, filename: str, content_type: str, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        super().__init__(pieces, content_type=content_type)
        self.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
        self.headers["Cache-Control"] = "no-store"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await in_db_thread(next, self._pieces, b""):
            yield piece
