"""A URL that a tenant or a model chose, fetched. All tools that read the web go through here.

Imported on first use, as `core.http` is.
"""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin

import aiohttp
from django.conf import settings
from yarl import URL

from core import net
from core.errors import ApplicationError
from core.http import Reach, session
from core.net import AddressInfo, AddressRefused

if TYPE_CHECKING:
    from aiohttp.client import _RequestContextManager

MAX_URL = 4000
NOT_PUBLIC = "The host has no address on the public internet that may be reached."  # says not which is the case
BACKOFF = 0.25  # seconds before the second attempt, doubled before each further one
MAX_PAUSE = 5.0  # seconds; who asks for more by Retry-After is not asked again
MAX_TURN_WAIT = 10.0  # seconds
LOOKUPS = 16
_SAFE = frozenset({"GET", "HEAD"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({502, 503, 504})
_ANYWHERE = frozenset({"accept", "accept-language", "user-agent"})  # headers that no other host may misuse
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})  # aiohttp decodes, or says that it cannot
# Ports of services that are none of the web, in part those that browsers refuse (WHATWG Fetch, "bad port").
CLOSED_PORTS = frozenset(
    [
        *(1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109),
        *(110, 111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161, 162, 179, 389, 427, 445, 465, 512, 513, 514),
        *(515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 623, 636, 873, 989, 990, 992, 993, 995, 1080),
        *(1433, 1434, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 3659, 4045, 4190, 5060),
        *(5061, 5432, 5672, 5900, 5985, 5986, 6000, 6379, 6432, 6443, 6566, *range(6665, 6670), 6679, 6697, 9042, 9092),
        *(10080, 10250, 10255, 11211, 26379, 27017, 27018),
    ]
)


class FetchFailed(ApplicationError):
    """No answer that can be used; the code is one of too_large, wrong_type, wrong_encoding, too_many_redirects,
    downgrade, timeout, certificate, bad_answer, rate_limited, unreachable.
    """

    status, type, code = 502, "fetch_error", "fetch_failed"


class Unreachable(FetchFailed):
    """The connection failed; another attempt may succeed."""

    code = "unreachable"


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_bytes` are of the body, decompressed. `types` are content types of an answer that succeeds, such as
    text/html, text/* and *+json; without any, each is taken. `seconds` are of all redirects and attempts together.
    """

    max_bytes: int = 10_000_000
    types: tuple[str, ...] = ()
    seconds: float = 30.0
    connect_seconds: float = 10.0
    silence_seconds: float = 15.0
    redirects: int = 5
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Request:
    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """`url` is where it was found in the end."""

    url: str
    status: int
    headers: Mapping[str, str]
    content_type: str
    charset: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer whose body is still to come."""

    status: int
    headers: Mapping[str, str]
    content_type: str
    _response: aiohttp.ClientResponse
    _max_bytes: int

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises FetchFailed."""
        _refuse_encoding(self._response)
        read = 0
        while True:
            with _faults_mapped():
                piece = await self._response.content.readany()
            if not piece:
                return
            read += len(piece)
            if read > self._max_bytes:
                raise _too_large(self._max_bytes)
            yield piece


Admit = Callable[[SplitResult], Awaitable[None]]


async def _everybody(target: SplitResult) -> None:
    """Admits each URL."""


class Fetcher:
    """Fetches for all tenants of this process. `lookup` answers as a name server does."""

    def __init__(self, lookup: net.Lookup | None = None) -> None:
        self._reach = Reach(
            "ALLOW_PRIVATE_TOOLS", lookup or look_up_apart, kept=False, per_host=settings.TOOL_CALLS_PER_HOST
        )
        self._turns = Turns(settings.TOOL_RATE_PER_HOST)

    async def fetch(self, request: Request, limits: Limits | None = None, *, admit: Admit = _everybody) -> Answer:
        """Raises AddressRefused and FetchFailed, whose messages may be shown. A status of 400 and more is an answer.

        `admit` is asked about each URL, those of redirects included, and raises what it likes. Redirects are followed
        for GET and HEAD only, and only these are tried again.
        """
        limits = limits or Limits()
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._followed(request, limits, admit)
        except TimeoutError:
            raise FetchFailed(f"The server did not answer within {limits.seconds:g} s.", code="timeout") from None

    async def _followed(self, request: Request, limits: Limits, admit: Admit) -> Answer:
        for _ in range(limits.redirects + 1):
            target = check_target(request.url, allow_private=self._reach.allow_private)
            await admit(target)
            answer = await self._tried(request, (target.hostname or "").rstrip("."), limits)
            onward = _redirected(request, answer)
            if onward is None:
                return answer
            request = onward
        raise FetchFailed(f"The server redirected more than {limits.redirects} times.", code="too_many_redirects")

    async def _tried(self, request: Request, host: str, limits: Limits) -> Answer:
        left = limits.attempts if request.method in _SAFE else 1
        pause = BACKOFF
        while True:
            left -= 1
            await self._turns.wait(host)
            try:
                answer = await self._once(request, limits)
            except Unreachable:
                if not left:
                    raise
                wanted = 0.0
            else:
                wanted = _retry_after(answer)
                if not left or answer.status not in _PASSING or wanted > MAX_PAUSE:
                    return answer
            await asyncio.sleep(max(pause, wanted) * random.uniform(1.0, 1.5))  # noqa: S311 spreads, guards nothing
            pause *= 2

    @asynccontextmanager
    async def stream(self, request: Request, limits: Limits) -> AsyncIterator[Streamed]:
        """One answer, whose body is read by and by. The caller bounds the time: `limits.seconds` do not count.

        No redirect is followed, nothing is tried again, and the types of `limits` are not looked at. Raises as `fetch`.
        """
        target = check_target(request.url, allow_private=self._reach.allow_private)
        await self._turns.wait((target.hostname or "").rstrip("."))
        with _faults_mapped():
            response = await (await self._asked(request, limits))
        try:
            yield Streamed(response.status, response.headers, response.content_type, response, limits.max_bytes)
        finally:
            response.close()

    async def _asked(self, request: Request, limits: Limits) -> "_RequestContextManager":
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.connect_seconds, sock_read=limits.silence_seconds
        )
        client = await session(self._reach)
        return client.request(
            request.method,
            URL(request.url),
            headers=request.headers,
            data=request.body,
            timeout=timeout,
            allow_redirects=False,
        )

    async def _once(self, request: Request, limits: Limits) -> Answer:
        with _faults_mapped():
            async with await self._asked(request, limits) as response:
                passing = response.status in _PASSING or response.status in _REDIRECTS
                body = b"" if passing else await _body(response, limits)
                return Answer(
                    request.url, response.status, response.headers, response.content_type, response.charset, body
                )


@cache
def fetcher() -> Fetcher:
    """The process's own."""
    return Fetcher()


class Turns:
    """`rate` requests a second to each host, and as many at once after a second of silence."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next: dict[str, float] = {}

    async def wait(self, host: str) -> None:
        now = time.monotonic()
        due = max(self._next.get(host, 0.0), now - max(0.0, 1.0 - 1.0 / self._rate))
        if due - now > MAX_TURN_WAIT:
            message = "Too many requests to this host: try again later. TOOL_RATE_PER_HOST on the server allows more."
            raise FetchFailed(message, code="rate_limited", retry_after=due - now)
        self._next[host] = due + 1.0 / self._rate
        if len(self._next) > 4096:
            self._next = {name: then for name, then in self._next.items() if then > now - 1.0}
        await asyncio.sleep(max(0.0, due - now))


def check_target(url: str, *, allow_private: bool) -> SplitResult:
    """Raises AddressRefused for what is no http(s) URL of a web server; names are checked when they resolve."""
    parts = net.split_url(url, MAX_URL)
    host = parts.hostname or ""
    if parts.username is not None:
        raise AddressRefused("The URL must not hold a user name.")
    if parts.port in CLOSED_PORTS:
        raise AddressRefused(f"Port {parts.port} is not one of a web server.")
    try:
        net.check_host(host, allow_private=allow_private)
    except net.NotPublic:
        raise AddressRefused(NOT_PUBLIC) from None
    if net.is_odd_number(host):
        raise AddressRefused(NOT_PUBLIC)
    if not _read_alike(url, parts):
        raise AddressRefused("The URL could not be read.")
    return parts


def _read_alike(url: str, parts: SplitResult) -> bool:
    """Does the client that connects read the same host and port as the check?"""
    try:
        read = URL(url)
    except ValueError:
        return False
    ours = net.canonical(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)
    return (net.canonical(read.raw_host or ""), read.port) == ours


_lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="tool-lookup")


async def look_up_apart(host: str, port: int, family: int) -> list[AddressInfo]:
    """In threads of its own: a name server that a tenant chose may be slow, and the loop's threads serve everybody."""
    asked = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    return await asyncio.get_running_loop().run_in_executor(_lookups, asked)  # type: ignore[arg-type]


def _redirected(request: Request, answer: Answer) -> Request | None:
    """The request that follows; None where the answer is the last one."""
    location = answer.headers.get("Location")
    if answer.status not in _REDIRECTS or request.method not in _SAFE or not location:
        return None
    try:
        url = urljoin(request.url, location).partition("#")[0]
    except ValueError:
        raise FetchFailed("The server redirected to what is no URL.", code="bad_answer") from None
    if request.url.lower().startswith("https:") and url.lower().startswith("http:"):
        raise FetchFailed("The server redirected from https to http.", code="downgrade")
    headers = request.headers
    if _origin(url) != _origin(request.url):
        headers = {name: value for name, value in headers.items() if name.lower() in _ANYWHERE}
    return replace(request, url=url, headers=headers)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = net.split_url(url, MAX_URL)
    return parts.scheme, parts.hostname, parts.port


def _retry_after(answer: Answer) -> float:
    """Seconds; a date counts as none."""
    value = answer.headers.get("Retry-After", "").strip()
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0.0


async def _body(response: aiohttp.ClientResponse, limits: Limits) -> bytes:
    if response.ok and limits.types and not _matches(response.content_type, limits.types):
        raise FetchFailed(f"The answer's type {response.content_type[:80]} cannot be read.", code="wrong_type")
    _refuse_encoding(response)
    declared = 0 if response.method == "HEAD" else response.content_length or 0
    body = bytearray()
    while declared <= limits.max_bytes and (chunk := await response.content.readany()):
        body += chunk
        declared = max(declared, len(body))
    if declared > limits.max_bytes:
        raise _too_large(limits.max_bytes)
    return bytes(body)


def _refuse_encoding(response: aiohttp.ClientResponse) -> None:
    if response.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
        raise FetchFailed("The answer is encoded in a way that cannot be read.", code="wrong_encoding")


def _too_large(most: int) -> FetchFailed:
    return FetchFailed(f"The answer is larger than {most:,} bytes.", code="too_large")


def _matches(content_type: str, patterns: tuple[str, ...]) -> bool:
    kind, _, name = content_type.partition("/")
    suffix = name.rpartition("+")[2] if "+" in name else ""
    return bool({content_type, f"{kind}/*", f"*+{suffix}"} & set(patterns))


@contextmanager
def _faults_mapped() -> Iterator[None]:
    """aiohttp's exceptions and the address policy's as ours, which say nothing of the server's own network."""
    try:
        yield
    except (net.NotPublic, aiohttp.ClientConnectorDNSError, UnicodeError):
        raise AddressRefused(NOT_PUBLIC) from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
        raise FetchFailed("The server's certificate is not trusted, or it speaks no TLS.", code="certificate") from None
    except TimeoutError:
        raise Unreachable("The server did not answer in time.") from None
    except aiohttp.InvalidURL:
        raise AddressRefused("The URL could not be read.") from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError):
        raise Unreachable("The connection to the server failed.") from None
    except aiohttp.ClientError:
        raise FetchFailed("The server's answer could not be read.", code="bad_answer") from None
