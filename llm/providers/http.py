"""A provider at an HTTP address: one request, its answer as events, and every fault as ours.

All kinds that speak HTTP go through here, so that the address policy, the deadlines and the end of a cancelled call are
the same for each. Imported when the first such provider is opened: aiohttp takes a quarter of a second.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import orjson
from django.conf import settings

from core.http import CONNECT_TIMEOUT, session
from core.net import AddressRefused, check_url
from llm.exceptions import BadAnswer, ProviderError, ProviderRejected, ProviderTimeout, StreamTruncated
from llm.providers.base import ProviderConnection
from llm.providers.faults import Fault, read_fault, to_error
from llm.sse import Event, SSEParser
from llm.wire import ChatRequest, Delta

logger = logging.getLogger(__name__)

LAST_WORD_SECONDS = 2.0  # how long after the finish reason to wait for the token counts
DRAIN_SECONDS = 0.05  # how long to wait for the end of a body that said it is done; only one read to its end is reused
MAX_ERROR_BODY = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
LIST_TIMEOUT = 20.0
CUT = "The provider's answer broke off before its end."
_VERSION = re.compile(r"v\d+[a-z0-9]*\Z")


class ErrorEvent(Exception):
    """A provider reports a failure within its answer; `body` holds its own words."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body


class Reader(Protocol):
    """Turns the events of one answer into deltas."""

    finished: bool  # the finish reason was read
    done: bool  # nothing can follow
    to_the_end: bool  # more can follow the finish reason: only the end of the body is the answer's

    def event(self, name: bytes, data: bytes) -> Delta | None:
        """Raises ErrorEvent, or one of `llm.exceptions`; None for an event that says nothing."""

    def end(self) -> Delta | None:
        """What is left to say after the last event; asked when the answer was finished or done."""


class Upstream:
    """`query` belongs to every URL, such as Azure's api-version. `own`: a server that this process started itself."""

    def __init__(
        self, *, slug: str, base_url: str, headers: Mapping[str, str], query: str = "", own: bool = False
    ) -> None:
        """Raises ProviderError when the address policy refuses: it may be stricter than when the row was saved."""
        with _faults_mapped():
            check_url(base_url, allow_private=own or settings.ALLOW_PRIVATE_PROVIDERS)
        self._own = own
        self.base_url = base_url
        self._slug = slug
        self._headers = headers
        self._query = query

    async def stream(
        self, path: str, body: dict[str, Any], request: ChatRequest, reader: Reader
    ) -> AsyncGenerator[Delta, None]:
        """Closing the generator closes the connection. Raises StreamTruncated without a finish reason."""
        silence = max(settings.LLM_FIRST_TOKEN_TIMEOUT, settings.LLM_IDLE_TIMEOUT)
        async with self.answer(path, body, request, silence=silence) as response:
            source = _EventSource(response)
            while not reader.done and (events := await source.next(last=_last_word(reader))) is not None:
                for name, data in events:
                    delta = self.read(reader, name, data, request)
                    if delta is not None:
                        yield delta
                    if reader.done:
                        break
            if not (reader.done or reader.finished):
                raise StreamTruncated(CUT)
            last = reader.end()
            if last is not None:
                yield last
            await _drain(response)

    def read(self, reader: Reader, name: bytes, data: bytes, request: ChatRequest) -> Delta | None:
        try:
            return reader.event(name, data)
        except ErrorEvent as error:
            raise self._reported(read_fault(None, error.body), request) from None

    async def get(self, path: str) -> bytes:
        """The body of a small answer; `path` is below the base URL, or a URL of its own."""
        timeout = aiohttp.ClientTimeout(total=LIST_TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        with _faults_mapped():
            client = await session(own=self._own)
            url = self._url(path)
            async with client.get(url, headers=self._headers, timeout=timeout, allow_redirects=False) as response:
                await self._refuse_failure(response, None)
                return await _read_body(response)

    @asynccontextmanager
    async def answer(
        self, path: str, body: dict[str, Any], request: ChatRequest, *, silence: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """`silence` is how long, in seconds, the provider may say nothing."""
        with _faults_mapped():
            client = await session(own=self._own)
            response = await client.post(
                self._url(path),
                data=_encoded(body),
                headers={**self._headers, "Content-Type": "application/json", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=silence),
                allow_redirects=False,
            )
            try:
                await self._refuse_failure(response, request)
                yield response
            finally:
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()  # drops the connection, so that the provider stops generating

    def _url(self, path: str) -> str:
        url = path if path.startswith("http") else f"{self.base_url}{path}"
        if not self._query:
            return url
        return f"{url}{'&' if '?' in url else '?'}{self._query}"

    async def _refuse_failure(self, response: aiohttp.ClientResponse, request: ChatRequest | None) -> None:
        if response.status != 200:
            body = await _read_body(response, MAX_ERROR_BODY, cut=True)
            raise self._reported(read_fault(response.status, body, response.headers), request)

    def _reported(self, fault: Fault, request: ChatRequest | None) -> Exception:
        logger.warning("Provider %s failed with status %s %s", self._slug, fault.status, fault.safe_code)
        return to_error(fault, request)


def address(connection: ProviderConnection, default: str, *, version: str = "") -> str:
    """The base URL without its last slash. `version` is appended where the address ends with none.

    So both forms in use are right: the provider's own clients take the host alone, OpenAI's take it with /v1.
    """
    base_url = (connection.base_url or default).rstrip("/")
    if not version or _VERSION.match(urlsplit(base_url).path.rpartition("/")[2]):
        return base_url
    return f"{base_url}/{version}"


async def json_body(response: aiohttp.ClientResponse) -> bytes:
    _refuse_pages(response)
    return await _read_body(response)


def _last_word(reader: Reader) -> bool:
    """Only token counts can follow."""
    return reader.finished and not reader.to_the_end


class _EventSource:
    """The events of an answer. A server that cannot stream gives its whole JSON answer as the one event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        _refuse_pages(response)
        self._response = response
        self._parser = SSEParser()
        self._whole = "json" in response.content_type
        self._ended = False

    async def next(self, *, last: bool) -> list[Event] | None:
        """What arrived, which may be no whole event; None after the end. `last`: only token counts can follow."""
        if self._ended:
            return None
        if self._whole:
            self._ended = True
            return [(b"", await json_body(self._response))]
        chunk = await (self._last_word() if last else self._read())
        self._ended = not chunk
        return self._parser.feed(chunk) if chunk else self._parser.close()

    async def _read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise
        except (aiohttp.ClientError, ConnectionError):
            raise StreamTruncated("The connection broke off before the end of the answer.") from None

    async def _last_word(self) -> bytes:
        """The answer is complete: what follows is waited for, not insisted on."""
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                return await self._read()
        except (TimeoutError, StreamTruncated):
            return b""


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        raise ProviderRejected("The request holds a value that JSON cannot express.") from None


def _refuse_pages(response: aiohttp.ClientResponse) -> None:
    if response.content_type in ("text/html", "application/xhtml+xml"):
        message = "The provider's address answers with a web page: check its base_url, which often ends in /v1."
        raise BadAnswer(message, retryable=False)


async def _read_body(response: aiohttp.ClientResponse, limit: int = MAX_BODY, *, cut: bool = False) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            if cut:
                return bytes(body[:limit])
            raise BadAnswer("The provider sent a larger answer than is accepted.", retryable=False)
    return bytes(body)


async def _drain(response: aiohttp.ClientResponse) -> None:
    if response.content.at_eof():
        return
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await response.content.readany()
    except (TimeoutError, aiohttp.ClientError):
        pass  # the connection is closed instead of kept


@contextmanager
def _faults_mapped() -> Iterator[None]:
    """aiohttp's exceptions and the address policy's as ours."""
    try:
        yield
    except AddressRefused as error:
        raise ProviderError(error.message, code=error.code, param="base_url", retryable=False) from None
    except TimeoutError:
        raise ProviderTimeout("The provider did not answer in time.") from None
    except aiohttp.ClientConnectorCertificateError:
        message = "The provider's certificate is not trusted: check its base_url."
        raise ProviderError(message, code="provider_certificate", retryable=False) from None
    except aiohttp.ClientConnectorError:
        message = "No connection to the provider: check its base_url, and that it runs."
        raise ProviderError(message, code="provider_unreachable") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise ProviderError("The provider's base_url is wrong.", code="provider_address", retryable=False) from None
    except aiohttp.ClientPayloadError:
        raise StreamTruncated("The connection broke off before the end of the answer.") from None
    except (aiohttp.ClientError, OSError):
        raise ProviderError("The provider closed the connection.", code="provider_connection_lost") from None
