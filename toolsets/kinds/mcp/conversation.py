"""A client's side of MCP over streamable HTTP (specification 2025-11-25). Nothing that the server says is trusted."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import orjson

from core.net import AddressRefused
from toolsets.kinds.mcp.faults import BadAnswer, Lost, NoSession, ServerError, ServerRefused
from toolsets.kinds.mcp.sse import events

if TYPE_CHECKING:
    from core.fetch import Streamed

LATEST = "2025-11-25"
VERSIONS = frozenset({LATEST, "2025-06-18", "2025-03-26", "2024-11-05"})
CLIENT = {"name": "agentsite", "version": "1"}
MAX_RESUMES = 50  # of one answer; the time of the whole call bounds it as well
MAX_ASKED = 20  # requests of the server during one of ours
MAX_MESSAGES = 10_000  # that come with one answer
MAX_REDIRECTS = 3
MAX_ID = 200  # characters of what the server's messages and events are called
RETRY, LONGEST_RETRY = 1.0, 30.0  # seconds before a stream is taken up again, unless the server says otherwise
ASIDE_SECONDS = 5.0  # for messages whose answer nobody waits for
NO_METHOD = -32601
_SESSION_ID = re.compile(r"[!-~]{1,1000}")

_aside: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, and how it is asked: `headers` are credentials, `most` the bytes of one answer.

    `seconds` is how long it may be silent.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Session:
    """What was agreed upon. Servers without state give no `id`."""

    id: str
    version: str
    capabilities: Mapping[str, Any]


@dataclass(slots=True)
class _Reading:
    """How far one answer has come: the last event's id and the wait before the stream is taken up again."""

    number: int
    last_id: str = ""
    retry: float = RETRY
    asked: int = 0
    messages: int = 0


class Conversation:
    """Requests of one client, also at once; its session is opened by the first, and anew when the server forgot it.

    All raise AddressRefused and FetchFailed of `core.fetch`, and the faults of this package.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._numbers = count(1)

    async def opened(self) -> Session:
        async with self._opening:
            if self._session is None:
                self._session = await self._initialized()
            return self._session

    async def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The result. A request that the server did not take, since its session had ended, is sent once more."""
        for _ in range(2):
            session = None
            try:
                session = await self.opened()
                return await self._asked(session, method, params)
            except NoSession:
                if self._session is session:
                    self._session = None
        raise ServerRefused("The server knows none of the sessions that it opens.")

    async def close(self) -> None:
        """Servers may refuse this, and nobody needs to know."""
        session, self._session = self._session, None
        if session is None or not session.id:
            return
        with suppress(AddressRefused, *_faults(), TimeoutError):
            async with asyncio.timeout(ASIDE_SECONDS), self._sent(session, "DELETE"):
                pass

    async def _initialized(self) -> Session:
        asked = {"protocolVersion": LATEST, "capabilities": {}, "clientInfo": CLIENT}
        session = await self._introduced(asked)
        async with self._posted(session, {"method": "notifications/initialized"}):
            return session

    async def _introduced(self, asked: Mapping[str, Any]) -> Session:
        ids: list[str] = []
        found = await self._answer(None, {"id": next(self._numbers), "method": "initialize", "params": asked}, ids)
        version, capabilities = found.get("protocolVersion"), found.get("capabilities")
        if not (isinstance(version, str) and version in VERSIONS):
            raise ServerRefused(f"The server speaks none of the protocol's versions {', '.join(sorted(VERSIONS))}.")
        id = ids[0] if ids else ""
        if id and not _SESSION_ID.fullmatch(id):
            raise ServerRefused("The server gave a session id that is none.")
        return Session(id, version, capabilities if isinstance(capabilities, dict) else {})

    async def _asked(self, session: Session, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A request that is given up is cancelled at the server too."""
        number = next(self._numbers)
        try:
            return await self._answer(session, {"id": number, "method": method, "params": params})
        except asyncio.CancelledError:
            self._tell_aside(session, {"method": "notifications/cancelled", "params": {"requestId": number}})
            raise

    async def _answer(
        self, session: Session | None, message: Mapping[str, Any], ids: list[str] | None = None
    ) -> dict[str, Any]:
        """The result of a request; the session id that comes with it goes to `ids`."""
        reading = _Reading(message["id"])
        found = await self._read(reading, self._posted(session, message), session, ids)
        for _ in range(MAX_RESUMES):
            if found is not None:
                return _result(found)
            if not (reading.last_id and session):
                raise Lost("The server's answer ended before it was complete.")
            await asyncio.sleep(reading.retry)
            found = await self._taken_up(reading, session)
        raise Lost(f"The server broke its answer off more than {MAX_RESUMES} times.")

    async def _taken_up(self, reading: _Reading, session: Session) -> dict[str, Any] | None:
        """As `_read`. A server that refuses this has the request, and may have done it."""
        try:
            sent = self._sent(session, "GET", headers={"Last-Event-ID": reading.last_id})
            return await self._read(reading, sent, session)
        except (NoSession, ServerRefused):
            raise Lost("The server broke its answer off, and does not let it be taken up again.") from None

    async def _read(
        self, reading: _Reading, sent: Any, session: Session | None, ids: list[str] | None = None
    ) -> dict[str, Any] | None:
        """The message that answers; None where the stream ended before it and may be taken up again."""
        from core.fetch import Unreachable

        try:
            async with sent as stream:
                if ids is not None and (id := stream.headers.get("Mcp-Session-Id")):
                    ids.append(id)
                async for message in _messages(stream, reading):
                    if _answers(message, reading.number):
                        return message
                    await self._react(message, reading, session)
        except Unreachable:
            if not reading.last_id:
                raise
        return None

    async def _react(self, message: dict[str, Any], reading: _Reading, session: Session | None) -> None:
        """Answers requests of the server, which may know only that we are here. What it tells is of no use."""
        reading.messages += 1
        if reading.messages > MAX_MESSAGES:
            raise BadAnswer(f"The server told more than {MAX_MESSAGES:,} other things before its answer.")
        method, id = message.get("method"), message.get("id")
        if not isinstance(method, str) or not _is_id(id):
            return
        reading.asked += 1
        if reading.asked > MAX_ASKED:
            raise BadAnswer(f"The server made more than {MAX_ASKED} requests during one of ours.")
        error = {"code": NO_METHOD, "message": "This client takes no requests but ping."}
        await self._tell(session, {"id": id, "result": {}} if method == "ping" else {"id": id, "error": error})

    def _tell_aside(self, session: Session, message: Mapping[str, Any]) -> None:
        task = asyncio.create_task(self._tell(session, message), name="mcp-aside")
        _aside.add(task)
        task.add_done_callback(_aside.discard)

    async def _tell(self, session: Session | None, message: Mapping[str, Any]) -> None:
        """Whether it arrives changes nothing here."""
        with suppress(AddressRefused, *_faults(), TimeoutError):
            async with asyncio.timeout(ASIDE_SECONDS), self._posted(session, message):
                pass

    def _posted(self, session: Session | None, message: Mapping[str, Any]) -> Any:
        body = orjson.dumps({"jsonrpc": "2.0", **message})
        return self._sent(session, "POST", body, {"Content-Type": "application/json"})

    @asynccontextmanager
    async def _sent(
        self, session: Session | None, method: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["Streamed"]:
        """An answer of a good status. Redirects lead to other paths of the same server at most."""
        from core.fetch import Limits, Request, fetcher

        url, limits = self._place.url, Limits(max_bytes=self._place.most, silence_seconds=self._place.seconds)
        asked = {**(headers or {}), **self._headers(session)}
        for _ in range(MAX_REDIRECTS + 1):
            async with fetcher().stream(Request(url, method, asked, body), limits) as stream:
                onward = _onward(url, stream)
                if not onward:
                    await _check_status(stream, session)
                    yield stream
                    return
            url = onward
        raise ServerRefused(f"The server redirected more than {MAX_REDIRECTS} times.")

    def _headers(self, session: Session | None) -> dict[str, str]:
        found = {"Accept": "application/json, text/event-stream", **dict(self._place.headers)}
        if session:
            found["MCP-Protocol-Version"] = session.version
            found |= {"Mcp-Session-Id": session.id} if session.id else {}
        return found


def _faults() -> tuple[type[Exception], ...]:
    from core.fetch import FetchFailed

    return FetchFailed, ServerRefused, BadAnswer, ServerError, NoSession, Lost


def _onward(url: str, stream: "Streamed") -> str:
    """Where a redirect leads that keeps the method; empty for an answer."""
    if stream.status not in (301, 302, 303, 307, 308):
        return ""
    try:
        onward = urljoin(url, stream.headers.get("Location", ""))
        there, here = urlsplit(onward), urlsplit(url)
    except ValueError:
        raise ServerRefused("The server redirected to what is no URL.") from None
    if stream.status not in (307, 308) or (there.scheme, there.netloc) != (here.scheme, here.netloc):
        raise ServerRefused("The server redirects elsewhere, which is not followed: give its own address as the url.")
    return onward


async def _check_status(stream: "Streamed", session: Session | None) -> None:
    if 200 <= stream.status < 300:
        return
    has_session = session is not None and bool(session.id)
    if stream.status == 404 and has_session:
        raise NoSession
    told = await _told_error(stream)
    # Servers made after examples of the TypeScript SDK answer 400 for a session that they do not know.
    if stream.status == 400 and has_session and "session" in told.lower():
        raise NoSession
    if stream.status in (401, 403):
        raise ServerRefused(f"The server does not take the credentials (status {stream.status}).")
    raise ServerRefused(f"The server answered {stream.status}" + (f": {told}" if told else "."))


async def _told_error(stream: "Streamed") -> str:
    """The message of a JSON-RPC error in the body; of other bodies nothing."""
    try:
        found = orjson.loads(b"".join([piece async for piece in stream.pieces()]))
        return ServerError.of(found["error"]).told
    except (ValueError, TypeError, KeyError):
        return ""


async def _messages(stream: "Streamed", reading: _Reading) -> AsyncIterator[dict[str, Any]]:
    """Those of a JSON body, or of events as they come; a body may hold several."""
    if stream.status in (202, 204):
        return
    if stream.content_type == "text/event-stream":
        async for event in events(stream.pieces()):
            if event.id is not None and len(event.id) <= MAX_ID and event.id.isascii() and event.id.isprintable():
                reading.last_id = event.id
            if event.retry is not None:
                reading.retry = min(event.retry / 1000, LONGEST_RETRY)
            if event.data and event.type == "message":
                for message in _parsed(event.data):
                    yield message
    elif stream.content_type == "application/json":
        for message in _parsed(b"".join([piece async for piece in stream.pieces()])):
            yield message
    else:
        raise BadAnswer("The server answered neither JSON nor events: is there an MCP server at this url?")


def _parsed(text: str | bytes) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(text)
        orjson.dumps(found)  # refuses what is nested deeper than it may be told
    except (ValueError, TypeError):
        raise BadAnswer("The server's answer is no JSON that can be read.") from None
    messages = found if isinstance(found, list) else [found]
    if not all(isinstance(message, dict) for message in messages):
        raise BadAnswer("The server's answer is no JSON-RPC.")
    return messages


def _answers(message: dict[str, Any], number: int) -> bool:
    """Some servers write the number as text."""
    id = message.get("id")
    return "method" not in message and not isinstance(id, bool | float) and id in (number, str(number))


def _is_id(id: Any) -> bool:
    return (isinstance(id, int) and not isinstance(id, bool)) or (isinstance(id, str) and len(id) <= MAX_ID)


def _result(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise ServerError.of(message["error"])
    result = message.get("result")
    if not isinstance(result, dict):
        raise BadAnswer("The server's answer has no result.")
    return result
