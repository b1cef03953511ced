"""No URL, name or redirect makes the guard connect to this machine's own network: a trap there sees nobody."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from core.errors import ApplicationError
from core.fetch import NOT_PUBLIC, Fetcher, Limits, Request
from core.net import METADATA, AddressRefused
from tests.core.hostile import ADDRESSES, ADDRESSES_4, HOSTS, URLS, Trap, answering, trap

PUBLIC = "3000::1"  # as public as an address can be, and never assigned: nobody is there
QUICK = Limits(seconds=5, connect_seconds=0.3, attempts=2)


@pytest.fixture(scope="module")
def listener() -> Iterator[Trap]:
    with trap() as held:
        yield held


@pytest.fixture
def caught(listener: Trap) -> Iterator[Trap]:
    before = listener.hits
    yield listener
    assert listener.hits == before


def in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def refused(url: str, source: Fetcher | None = None) -> str:
    with pytest.raises(AddressRefused) as fault:
        await (source or Fetcher()).fetch(Request(url), QUICK)
    return fault.value.message


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_literal_address(caught: Trap, scheme: str, address: str) -> None:
    assert await refused(f"{scheme}://{in_url(address)}:{caught.port}/") == NOT_PUBLIC


@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_name_of_such_an_address(caught: Trap, address: str) -> None:
    lookup, asked = answering([address])
    assert await refused(f"http://inner.example:{caught.port}/", Fetcher(lookup)) == NOT_PUBLIC
    assert asked == ["inner.example"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "64:ff9b::127.0.0.1", "2002:7f00:1::"])
async def test_one_such_address_among_public_ones(caught: Trap, address: str) -> None:
    for answer in ([address, PUBLIC, "8.8.8.8"], [PUBLIC, "8.8.8.8", address]):
        assert await refused(f"http://mixed.example:{caught.port}/", Fetcher(answering(answer)[0])) == NOT_PUBLIC


@pytest.mark.parametrize("host", HOSTS)
async def test_another_spelling(caught: Trap, host: str) -> None:
    await refused(f"http://{host}:{caught.port}/")


@pytest.mark.parametrize("url", URLS)
async def test_a_misleading_url(caught: Trap, url: str) -> None:
    lookup, _ = answering(["127.0.0.1"])
    await refused(url.format(port=caught.port), Fetcher(lookup))


ODD = ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "1.1.1.1.1", "134744072", "0x8080808", "8.8.2056"]


@pytest.mark.parametrize("host", ODD)
async def test_no_name_server_is_asked_about_a_number(host: str) -> None:
    lookup, asked = answering([PUBLIC])
    assert await refused(f"http://{host}/", Fetcher(lookup)) == NOT_PUBLIC
    assert asked == []


UNREADABLE = [
    "http://@8.8.8.8/",
    "http://:@example.com/",
    "http://8.8.8.8%40.example.com/",
    "http://8.8.8.8%\u00e9/",
    "http://8.8.8.8%.example.com/",
    "http://1%40[2606:4700::1111]/",
    "http://[2606:4700::1111]x/",
    "http://example.com:80:80/",
]


@pytest.mark.parametrize("url", UNREADABLE)
async def test_what_two_readers_may_read_in_two_ways(url: str) -> None:
    lookup, asked = answering([PUBLIC])
    await refused(url, Fetcher(lookup))
    assert asked == []


async def test_what_is_no_name_and_what_is_private_sound_alike(caught: Trap) -> None:
    messages = {
        await refused(f"http://a.example:{caught.port}/", Fetcher(answering([])[0])),
        await refused(f"http://a.example:{caught.port}/", Fetcher(answering(["127.0.0.1"])[0])),
        await refused(f"http://a.example:{caught.port}/", Fetcher(answering(["169.254.169.254"])[0])),
        await refused(f"http://127.0.0.1:{caught.port}/"),
        await refused(f"http://{'a' * 64}.example:{caught.port}/"),
    }
    assert messages == {NOT_PUBLIC}


async def test_a_name_that_answers_differently_the_second_time(caught: Trap) -> None:
    """The first answer is checked and connected to; the second attempt asks anew and is checked anew."""
    lookup, asked = answering([PUBLIC], ["127.0.0.1"])
    assert await refused(f"http://rebound.example:{caught.port}/", Fetcher(lookup)) == NOT_PUBLIC
    assert len(asked) == 2


async def test_an_attempt_asks_once_and_connects_to_that_answer(caught: Trap) -> None:
    lookup, asked = answering([PUBLIC], ["127.0.0.1"])
    with pytest.raises(ApplicationError) as fault:
        await Fetcher(lookup).fetch(
            Request(f"http://rebound.example:{caught.port}/"), Limits(seconds=5, connect_seconds=0.3, attempts=1)
        )
    assert (fault.value.code, len(asked)) == ("unreachable", 1)


async def test_the_setting_of_providers_opens_nothing(caught: Trap, settings: Any) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    assert await refused(f"http://127.0.0.1:{caught.port}/") == NOT_PUBLIC
    assert await refused(f"http://localhost:{caught.port}/") == NOT_PUBLIC


METADATA_FORMS = [
    *sorted(map(str, METADATA)),
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "2002:a9fe:a9fe::",
]


@pytest.mark.parametrize("address", METADATA_FORMS)
async def test_a_metadata_service_where_private_addresses_are_allowed(
    caught: Trap, address: str, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True
    await refused(f"http://{in_url(address)}:{caught.port}/")
    await refused(f"http://inner.example:{caught.port}/", Fetcher(answering([address])[0]))


TARGETS = [
    *(f"http://{in_url(address)}:{{port}}/" for address in (*ADDRESSES_4, "::1", "::ffff:127.0.0.1", "fec0::1")),
    *(f"http://{in_url(address)}:{{port}}/" for address in ("64:ff9b::127.0.0.1", "2002:7f00:1::", "2001::1")),
    *(
        f"http://{host}:{{port}}/"
        for host in ("2130706433", "0x7f.1", "0177.0.0.1", "localhost", "127.1", "inner.example")
    ),
    "//127.0.0.1:{port}/",
    "//user@127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/",
    "http://[::1:{port}/",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_redirect_to_it(caught: Trap, target: str, settings: Any) -> None:
    async def redirect(request: web.Request) -> web.Response:
        settings.ALLOW_PRIVATE_TOOLS = False  # what follows meets the policy of production
        return web.Response(status=302, headers={"Location": target.format(port=caught.port)})

    app = web.Application()
    app.router.add_get("/", redirect)
    settings.ALLOW_PRIVATE_TOOLS = True
    async with TestServer(app) as server:
        with pytest.raises(ApplicationError) as fault:
            await Fetcher(answering(["127.0.0.1"])[0]).fetch(Request(str(server.make_url("/"))), QUICK)
    assert not settings.ALLOW_PRIVATE_TOOLS
    assert fault.value.code in ("address_refused", "bad_answer")


async def test_the_trap_would_have_noticed(listener: Trap, settings: Any) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True
    before = listener.hits
    for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"):
        answer = await Fetcher().fetch(Request(f"http://{host}:{listener.port}/"), QUICK)
        assert answer.body == b"inner"
    assert listener.hits == before + 4


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://example.com:8443/a/b?c=d&e=%20#f",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::8.8.8.8]/",
        "http://xn--bcher-kva.example/",
        "http://a_b.example.com./",
    ],
)
async def test_a_public_url_reaches_the_network(url: str) -> None:
    """Nobody is at the address, so the fetch fails there and not at the guard."""
    lookup, asked = answering([PUBLIC])
    admitted: list[str] = []

    async def stop(target: Any) -> None:
        admitted.append(target.hostname)
        raise LookupError

    with pytest.raises(LookupError):
        await Fetcher(lookup).fetch(Request(url), QUICK, admit=stop)
    assert admitted
    assert asked == []
