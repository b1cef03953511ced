"""What a fetch does with the answers of a real server, which stands on loopback: ALLOW_PRIVATE_TOOLS is on."""

import asyncio
import datetime
import gzip
import ipaddress
import socket
import ssl
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.fetch import Answer, Fetcher, FetchFailed, Limits, Request, Turns
from core.net import AddressRefused

BOMB = 200_000_000  # bytes that a small answer would grow to


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True
    settings.TOOL_RATE_PER_HOST = 1000


def packed(encoding: str) -> bytes:
    shape = {"gzip": 31, "deflate": 15, "raw-deflate": -15}[encoding]
    packer = zlib.compressobj(9, zlib.DEFLATED, shape)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(BOMB // 1_000_000)) + packer.flush()


class Site:
    """Each path behaves in a way of its own; `seen` are the requests."""

    def __init__(self) -> None:
        self.seen: list[web.BaseRequest] = []
        self.at_once = self.most_at_once = 0
        self.counts: Counter[str] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        self.counts[request.path] += 1
        name, _, rest = request.path.strip("/").partition("/")
        return await getattr(self, f"_{name}")(request, rest)

    async def _page(self, request: web.BaseRequest, _: str) -> web.Response:
        return web.Response(text="a page", content_type=request.query.get("type", "text/html"))

    async def _hops(self, request: web.BaseRequest, left: str) -> web.Response:
        where = f"/hops/{int(left) - 1}" if int(left) else "/page"
        return web.Response(status=int(request.query.get("status", 302)), headers={"Location": where})

    async def _to(self, request: web.BaseRequest, _: str) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["url"]})

    async def _status(self, request: web.BaseRequest, status: str) -> web.Response:
        return web.Response(status=int(status), text="no", headers=dict(request.query))

    async def _recovers(self, request: web.BaseRequest, _: str) -> web.Response:
        return web.Response(status=503 if self.counts[request.path] < 3 else 200, text="well")

    async def _drops(self, request: web.BaseRequest, _: str) -> web.Response:
        if self.counts[request.path] < 3 and request.transport:
            request.transport.close()
        return web.Response(text="well")

    async def _endless(self, request: web.BaseRequest, pause: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" if pause else b"x" * 65536)
            await asyncio.sleep(float(pause or 0))

    async def _silent(self, request: web.BaseRequest, _: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": "10"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async def _declares(self, request: web.BaseRequest, length: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": length})
        await response.prepare(request)
        await response.write(b"x")
        return response

    async def _packed(self, request: web.BaseRequest, encoding: str) -> web.Response:
        header = encoding.removeprefix("raw-").removeprefix("broken-")
        body = b"no gzip" if encoding.startswith("broken-") else packed(encoding)
        return web.Response(body=body, headers={"Content-Encoding": header, "Content-Type": "text/plain"})

    async def _small(self, request: web.BaseRequest, encoding: str) -> web.Response:
        body = gzip.compress(b"small") if encoding == "gzip" else b"small"
        return web.Response(body=body, headers={"Content-Encoding": encoding, "Content-Type": "text/plain"})

    async def _waits(self, request: web.BaseRequest, seconds: str) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(float(seconds))
        self.at_once -= 1
        return web.Response(text="late")

    async def _cookie(self, request: web.BaseRequest, _: str) -> web.Response:
        response = web.Response(status=302, headers={"Location": "/page"})
        response.set_cookie("a", "b")
        return response


@asynccontextmanager
async def site() -> AsyncIterator[tuple[Site, str]]:
    held = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", held.handle)
    async with TestServer(app) as server:
        yield held, str(server.make_url("")).rstrip("/")


async def get(url: str, source: Fetcher | None = None, **limits: Any) -> Answer:
    return await (source or Fetcher()).fetch(Request(url), Limits(**limits))


async def fault(url: str, source: Fetcher | None = None, **limits: Any) -> FetchFailed:
    with pytest.raises(FetchFailed) as raised:
        await get(url, source, **limits)
    return raised.value


async def test_a_page() -> None:
    async with site() as (seen, base):
        answer = await get(f"{base}/page?a=1#part")
        assert (answer.url, answer.status, answer.body) == (f"{base}/page?a=1#part", 200, b"a page")
        assert (answer.content_type, answer.charset) == ("text/html", "utf-8")
        assert (await get(f"{base}/status/404")).status == 404
        assert seen.seen[0].headers["User-Agent"] == "agentsite"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_up_to_the_limit(status: int) -> None:
    async with site() as (seen, base):
        answer = await get(f"{base}/hops/4?status={status}")
        assert (answer.url, answer.body) == (f"{base}/page", b"a page")
        assert len(seen.seen) == 6
        assert (await fault(f"{base}/hops/5")).code == "too_many_redirects"
        assert len(seen.seen) == 12
        assert (await fault(f"{base}/hops/0", redirects=0)).code == "too_many_redirects"


async def test_a_redirect_to_a_refused_url_is_not_followed() -> None:
    async with site() as (seen, base):
        for url in ("ftp://127.0.0.1/", base.replace("://", "://user@"), "http://169.254.169.254/", "http://[::1"):
            with pytest.raises((AddressRefused, FetchFailed)):
                await Fetcher().fetch(Request(f"{base}/to?url={url}"))
        assert len(seen.seen) == 4


async def test_each_url_is_admitted_anew() -> None:
    async def admit(target: Any) -> None:
        paths.append(target.path)
        if target.path == "/hops/0":
            raise LookupError

    paths: list[str] = []
    async with site() as (seen, base):
        with pytest.raises(LookupError):
            await Fetcher().fetch(Request(f"{base}/hops/1"), admit=admit)
        assert paths == ["/hops/1", "/hops/0"]
        assert len(seen.seen) == 1


async def test_secrets_stay_with_their_host() -> None:
    secret = {"Authorization": "Bearer s", "Cookie": "a=b", "X-Api-Key": "k", "Accept-Language": "de"}
    async with site() as (seen, base), site() as (other, there):
        await Fetcher().fetch(Request(f"{base}/hops/0", headers=secret))
        assert all(request.headers[name] == value for request in seen.seen for name, value in secret.items())
        await Fetcher().fetch(Request(f"{base}/to?url={there}/page", headers=secret))
        given = other.seen[0].headers
        assert given["Accept-Language"] == "de"
        assert not {"Authorization", "Cookie", "X-Api-Key"} & set(given)


async def test_no_cookie_is_kept() -> None:
    async with site() as (seen, base):
        assert (await get(f"{base}/cookie")).body == b"a page"
        await get(f"{base}/page")
        assert not any("Cookie" in request.headers for request in seen.seen)


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with site() as (_, base):
        assert (await get(f"{base}/page")).body == b"a page"


async def test_other_methods_are_neither_redirected_nor_repeated() -> None:
    async with site() as (seen, base):
        for path, status in (("hops/0", 302), ("recovers", 503)):
            answer = await Fetcher().fetch(Request(f"{base}/{path}", "POST", body=b"x"))
            assert answer.status == status
        assert [request.method for request in seen.seen] == ["POST", "POST"]


async def test_a_body_larger_than_the_limit_is_not_read_on() -> None:
    async with site() as (_, base):
        assert (await get(f"{base}/page", max_bytes=6)).body == b"a page"
        for path in ("page", "endless/", "declares/10000000000000"):
            failed = await fault(f"{base}/{path}", max_bytes=5)
            assert (failed.code, failed.message) == ("too_large", "The answer is larger than 5 bytes.")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw-deflate"])
async def test_a_bomb_stops_at_the_limit(encoding: str) -> None:
    async with site() as (_, base):
        Fetcher()
        bomb = packed(encoding)
        tracemalloc.start()
        failed = await fault(f"{base}/packed/{encoding}", max_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert failed.code == "too_large"
    assert len(bomb) < BOMB / 900
    assert peak < 20_000_000, f"{peak:,} bytes"


async def test_encodings() -> None:
    async with site() as (seen, base):
        assert (await get(f"{base}/small/gzip")).body == b"small"
        assert (await get(f"{base}/small/identity")).body == b"small"
        for encoding in ("compress", "gzip,gzip", "x"):
            assert (await fault(f"{base}/small/{encoding}")).code == "wrong_encoding"
        assert (await fault(f"{base}/packed/broken-gzip")).code in ("unreachable", "bad_answer")
        assert "gzip" in seen.seen[0].headers["Accept-Encoding"]


@pytest.mark.parametrize(
    ("kind", "types", "taken"),
    [
        ("text/html", ("text/html",), True),
        ("text/csv", ("text/*",), True),
        ("application/ld+json", ("*+json",), True),
        ("application/json", (), True),
        ("image/png", ("text/*", "application/json"), False),
        ("application/zip", ("*+json",), False),
        ("application/ld+json", ("application/json",), False),
    ],
)
async def test_types(kind: str, types: tuple[str, ...], taken: bool) -> None:
    async with site() as (_, base):
        url = f"{base}/page?type={kind.replace('+', '%2B')}"
        if taken:
            assert (await get(url, types=types)).content_type == kind
        else:
            failed = await fault(url, types=types)
            assert (failed.code, failed.message) == ("wrong_type", f"The answer's type {kind} cannot be read.")


async def test_slow_answers_end_in_time() -> None:
    async with site() as (seen, base):
        began = time.monotonic()
        assert (await fault(f"{base}/endless/0.05", seconds=0.5)).code == "timeout"
        assert (await fault(f"{base}/silent", seconds=0.5)).code == "timeout"
        assert (await fault(f"{base}/silent", silence_seconds=0.1, attempts=1)).code == "unreachable"
        assert (await fault(f"{base}/waits/5", silence_seconds=0.1, attempts=1)).code == "unreachable"
        assert time.monotonic() - began < 3
        assert len(seen.seen) == 4


async def test_a_passing_fault_is_tried_again() -> None:
    async with site() as (seen, base):
        began = time.monotonic()
        assert (await get(f"{base}/recovers/1")).body == b"well"
        assert 0.75 <= time.monotonic() - began < 3  # 0.25 s, then 0.5 s
        assert (await get(f"{base}/drops/1")).body == b"well"
        assert seen.counts == {"/recovers/1": 3, "/drops/1": 3}
        assert (await get(f"{base}/recovers/2", attempts=2)).status == 503
        assert (await fault(f"{base}/drops/2", attempts=2)).code == "unreachable"
        for status in (502, 504):
            assert (await get(f"{base}/status/{status}", attempts=2)).status == status
            assert seen.counts[f"/status/{status}"] == 2
        for status in (400, 404, 429, 500):
            assert (await get(f"{base}/status/{status}")).status == status
            assert seen.counts[f"/status/{status}"] == 1


async def test_a_server_says_when_to_ask_again() -> None:
    async with site() as (seen, base):
        began = time.monotonic()
        await get(f"{base}/status/503?Retry-After=1", attempts=2)
        assert time.monotonic() - began >= 1
        assert (await get(f"{base}/status/503?Retry-After=60")).status == 503
        assert len(seen.seen) == 3


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failed = await fault(f"http://127.0.0.1:{port}/", attempts=2)
    assert (failed.code, failed.message) == ("unreachable", "The connection to the server failed.")


async def test_a_server_that_speaks_something_else() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await fault(f"http://127.0.0.1:{port}/", attempts=1)).code == "bad_answer"
        assert (await fault(f"https://127.0.0.1:{port}/", attempts=1)).code == "certificate"


async def test_requests_at_once_to_a_host_are_limited(settings: Any) -> None:
    settings.TOOL_CALLS_PER_HOST = 3
    source = Fetcher()
    async with site() as (seen, base):
        await asyncio.gather(*(get(f"{base}/waits/0.05", source) for _ in range(10)))
        assert (len(seen.seen), seen.most_at_once) == (10, 3)


async def test_requests_a_second_to_a_host_are_limited(settings: Any) -> None:
    settings.TOOL_RATE_PER_HOST = 20
    source = Fetcher()
    async with site() as (_, base):
        began = time.monotonic()
        await asyncio.gather(*(get(f"{base}/page", source) for _ in range(20)))
        assert time.monotonic() - began < 0.5  # as many as a second may have, at once
        await asyncio.gather(*(get(f"{base}/page", source) for _ in range(10)))
        assert 0.3 < time.monotonic() - began < 1.5


async def test_who_would_wait_too_long_for_a_turn_is_refused() -> None:
    turns = Turns(0.1)
    await turns.wait("a.example")
    with pytest.raises(FetchFailed) as refused:
        for _ in range(3):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await turns.wait("a.example")
    assert refused.value.code == "rate_limited"


def certificate(folder: Path) -> Path:
    """Of localhost and 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now.replace(year=2100))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_certificates_and_a_way_back_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(path)
    held = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", held.handle)
    secure = TestServer(app, scheme="https")
    async with site() as (plain, base):
        await secure.start_server(ssl=served)
        there = str(secure.make_url("")).rstrip("/")
        failed = await fault(f"{there}/page")
        assert (failed.code, len(held.seen)) == ("certificate", 0)
        trusting = ssl.create_default_context(cafile=str(path))
        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
        assert (await get(f"{there}/page")).body == b"a page"
        assert (await fault(f"{there}/to?url={base}/page")).code == "downgrade"
        assert plain.seen == []
        assert (await get(f"{base}/to?url={there}/page")).url == f"{there}/page"
        await secure.close()
