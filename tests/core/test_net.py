"""The outbound address policy."""

import asyncio
import socket
from typing import Any

import pytest

from core.http import CheckedResolver, session
from core.net import AddressRefused, check_url, resolve


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://93.184.216.34",
        "https://example.com:8443/a/b",
        "http://[2606:4700::1111]/v1",
    ],
)
def test_public_urls_pass(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com",
        "file:///etc/passwd",
        "//example.com",
        "example.com/v1",
        "http://",
        "http://user:password@example.com",
        "http://example.com:99999",
        "http://example.com:0",
        "http://[::1",
        "http://example.com/a b",
        "http://example.com\\@127.0.0.1",
        "http://example.com/\n",
        "http://example.com/?key=1",
        "http://example.com/#x",
        "http://example.com/" + "a" * 500,
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_what_is_no_plain_url_is_refused(url: str, allow_private: bool) -> None:
    with pytest.raises(AddressRefused):
        check_url(url, allow_private=allow_private)


PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.1.1",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fc00::1]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[2002:7f00:1::]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::10.0.0.1]",
    "[::10.0.0.1]",
    "[::ffff:0:10.0.0.1]",
    "[fec0::1]",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_need_the_platform_s_consent(host: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(f"http://{host}/v1", allow_private=False)
    check_url(f"http://{host}/v1", allow_private=True)


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200"])
def test_metadata_services_are_never_reachable(host: str) -> None:
    with pytest.raises(AddressRefused, match="metadata"):
        check_url(f"http://{host}/latest", allow_private=True)


@pytest.mark.parametrize("host", ["①②⑦.0.0.1", "127。0。0。1", "①⑥⑨.254.169.254", "bücher.example", "%31.example"])
def test_a_name_is_plain_ascii(host: str) -> None:
    with pytest.raises(AddressRefused, match="ASCII"):
        check_url(f"http://{host}/v1", allow_private=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "①②⑦.0.0.1", "[::1]", "[::ffff:7f00:1]"])
async def test_a_literal_address_is_checked_when_it_is_connected_to(host: str, settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    client = await session()
    with pytest.raises(AddressRefused):
        await client.get(f"http://{host}:9/")


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001"])
async def test_names_and_odd_spellings_are_judged_by_what_they_resolve_to(host: str) -> None:
    with pytest.raises(AddressRefused):
        await resolve(host, 80, allow_private=False)
    assert await resolve(host, 80, allow_private=True)


async def test_one_private_address_among_several_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(*_: Any, **__: Any) -> list[Any]:
        tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*tcp, ("93.184.216.34", 80)), (*tcp, ("10.0.0.1", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    with pytest.raises(AddressRefused):
        await resolve("mixed.example", 80, allow_private=False)


async def test_the_resolver_answers_with_the_checked_address(settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    found = await CheckedResolver().resolve("localhost", 80, socket.AF_INET)
    assert [(entry["host"], entry["port"], entry["hostname"]) for entry in found] == [("127.0.0.1", 80, "localhost")]


def test_a_session_ends_with_its_loop() -> None:
    async def use() -> Any:
        return await session()

    first, second = asyncio.run(use()), asyncio.run(use())
    assert first is not second
    assert first.closed
    assert second.closed
