"""The adapter for OpenAI's chat-completions wire, on aiohttp. Imported when the first such provider is opened."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import msgspec
import orjson
from django.conf import settings

from core.http import CONNECT_TIMEOUT, session
from core.net import AddressRefused, check_url
from llm.decoding import StreamReader, decode_chunk
from llm.exceptions import BadAnswer, ProviderError, ProviderRejected, ProviderTimeout, StreamTruncated
from llm.providers.base import CompletingAdapter, ProviderConnection
from llm.providers.faults import Fault, read_fault, to_error
from llm.sse import Event, SSEParser
from llm.wire import Accumulator, ChatRequest, Completion, Delta

logger = logging.getLogger(__name__)

LAST_WORD_SECONDS = 2.0  # how long after the finish reason to wait for the token counts
DRAIN_SECONDS = 0.05  # how long to wait for the end of a body after [DONE]; only a body read to its end is reused
MAX_ERROR_BODY = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
LIST_TIMEOUT = 20.0
MAX_MODELS = 2000


class ModelEntry(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class ModelList(msgspec.Struct):
    data: list[ModelEntry] | None = None
    models: list[ModelEntry] | None = None


class OpenAIAdapter(CompletingAdapter):
    def __init__(self, *, slug: str, base_url: str, headers: dict[str, str], stream_usage: bool = True) -> None:
        self._slug = slug
        self._base_url = base_url
        self._headers = headers
        self._stream_usage = stream_usage

    @classmethod
    def connect(cls, connection: ProviderConnection, *, default_base_url: str) -> "OpenAIAdapter":
        """Raises ProviderError when the address policy refuses: it may be stricter than when the row was saved."""
        base_url = (connection.base_url or default_base_url).rstrip("/")
        with _faults_mapped():
            check_url(base_url, allow_private=settings.ALLOW_PRIVATE_PROVIDERS)
        headers = {"Authorization": f"Bearer {connection.api_key}"} if connection.api_key else {}
        for name, header in (("organization", "OpenAI-Organization"), ("project", "OpenAI-Project")):
            if connection.settings.get(name):
                headers[header] = connection.settings[name]
        usage = connection.settings.get("stream_usage", True)
        return cls(slug=connection.slug, base_url=base_url, headers=headers, stream_usage=usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        silence = max(settings.LLM_FIRST_TOKEN_TIMEOUT, settings.LLM_IDLE_TIMEOUT)
        async with self._answer(request, stream=True, silence=silence) as response:
            reader, source, done = StreamReader(), _EventSource(response), False
            while not done and (events := await source.next(finished=reader.finished)) is not None:
                for name, data in events:
                    done = done or data == b"[DONE]"
                    delta = None if done else self._delta(reader, name, data, request)
                    if delta is not None:
                        yield delta
            if not (done or reader.finished):
                raise StreamTruncated("The provider's answer broke off before its end.")
            last = reader.end()
            if last is not None:
                yield last
            await _drain(response)

    async def complete(self, request: ChatRequest) -> Completion:
        async with self._answer(request, stream=False, silence=settings.LLM_TOTAL_TIMEOUT) as response:
            answer, reader = Accumulator(), StreamReader()
            delta = self._delta(reader, b"", await _json_body(response), request)
            if delta is not None:
                answer.add(delta)
            if not reader.finished:
                raise StreamTruncated("The provider's answer has no finish reason.")
            return answer.completion()

    async def list_models(self) -> list[str]:
        """Sorted names; raises `llm.exceptions`."""
        timeout = aiohttp.ClientTimeout(total=LIST_TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        with _faults_mapped():
            client = await session()
            url = f"{self._base_url}/models"
            async with client.get(url, headers=self._headers, timeout=timeout, allow_redirects=False) as response:
                await self._refuse_failure(response, None)
                return _model_names(await _read_body(response))

    @asynccontextmanager
    async def _answer(
        self, request: ChatRequest, *, stream: bool, silence: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """`silence` is how long, in seconds, the provider may say nothing."""
        with _faults_mapped():
            client = await session()
            response = await client.post(
                f"{self._base_url}/chat/completions",
                data=self._body(request, stream=stream),
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

    def _body(self, request: ChatRequest, *, stream: bool) -> bytes:
        body = {**request.params, "model": request.model, "messages": request.messages, "stream": stream}
        body.pop("stream_options", None)
        if stream and self._stream_usage:
            body["stream_options"] = {"include_usage": True}
        try:
            return orjson.dumps(body)
        except TypeError:
            raise ProviderRejected("The request holds a value that JSON cannot express.") from None

    def _delta(self, reader: StreamReader, name: bytes, data: bytes, request: ChatRequest) -> Delta | None:
        if name == b"error":
            raise self._reported(read_fault(None, data), request)
        if not data.strip():
            return None
        chunk = decode_chunk(data)
        if chunk.error is not None:
            raise self._reported(read_fault(None, chunk.error), request)
        return reader.read(chunk)

    async def _refuse_failure(self, response: aiohttp.ClientResponse, request: ChatRequest | None) -> None:
        if response.status != 200:
            body = await _read_body(response, MAX_ERROR_BODY, cut=True)
            raise self._reported(read_fault(response.status, body, response.headers), request)

    def _reported(self, fault: Fault, request: ChatRequest | None) -> Exception:
        logger.warning("Provider %s failed with status %s %s", self._slug, fault.status, fault.safe_code)
        return to_error(fault, request)


class _EventSource:
    """The events of an answer. A server that cannot stream gives its whole JSON answer as the one event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        _refuse_pages(response)
        self._response = response
        self._parser = SSEParser()
        self._whole = "json" in response.content_type
        self._ended = False

    async def next(self, *, finished: bool) -> list[Event] | None:
        """What arrived, which may be no whole event; None after the end. `finished`: only token counts can follow."""
        if self._ended:
            return None
        if self._whole:
            self._ended = True
            return [(b"", await _json_body(self._response))]
        chunk = await (self._last_word() if finished else self._read())
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


async def _json_body(response: aiohttp.ClientResponse) -> bytes:
    _refuse_pages(response)
    return await _read_body(response)


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


def _model_names(body: bytes) -> list[str]:
    try:
        answer = msgspec.json.decode(body, type=ModelList, strict=False)
    except msgspec.DecodeError:
        raise BadAnswer("The provider's address does not list models: check its base_url.", retryable=False) from None
    entries = answer.data or answer.models or []
    names = {entry.id or entry.name or "" for entry in entries}
    return sorted(name for name in names if 0 < len(name) <= 200)[:MAX_MODELS]


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
