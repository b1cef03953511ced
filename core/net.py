"""Where the server may connect to when a tenant or a model chose the address: never its own network unless the platform
allows it.

A name is resolved once and the connection goes to the addresses that were checked (`core.http`), so that a name which
changes between check and connect gains nothing.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from core.errors import InvalidRequest

Address = IPv4Address | IPv6Address
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
Lookup = Callable[[str, int, int], Awaitable[list[AddressInfo]]]  # of a host, a port and a family, as getaddrinfo

MAX_URL = 500
# Instance metadata services: credentials of the machine itself, refused even where private addresses are allowed.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.169.253",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.42.42",
        "169.254.0.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd00:42::42",
        "fd20:ce::254",
    )
)
# Written out, because Python's tables differ between its versions and call some of these global.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_UNICAST_6 = IPv6Network("2000::/3")  # all that is assigned of the public IPv6 internet
_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation, RFC 9637
    )
)
# Outside of it, and as public as the IPv4 address that they carry.
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
# Their last 32 bits are an IPv4 address.
_CARRIERS = (
    _MAPPED,
    _NAT64,
    IPv6Network("64:ff9b:1::/48"),  # local NAT64, RFC 8215
    IPv6Network("::/96"),  # IPv4-compatible, RFC 4291
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765
)
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z", re.IGNORECASE)


class AddressRefused(InvalidRequest):
    """The address is none that a tenant may make the server connect to."""

    code = "address_refused"


class NotPublic(AddressRefused):
    """It leads, or may lead, into the server's own network."""


@lru_cache(maxsize=1024)
def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """Refuse what is no plain http(s) URL or names a refused address literally; names are checked when they resolve."""
    parts = split_url(url, MAX_URL)
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressRefused("The URL must not hold a user name, a query or a fragment.")
    check_host(parts.hostname or "", allow_private=allow_private)
    return parts


def check_host(host: str, *, allow_private: bool) -> None:
    """Raises AddressRefused for a literal address that is refused, and for what could be read as another name."""
    address = _literal(host)
    if address is not None:
        check_address(address, allow_private=allow_private)
    elif not _HOST_NAME.match(host):  # a client may read "①②⑦.0.0.1" as an address
        raise AddressRefused("Write the host's name in ASCII; an international one begins with xn--.")


def is_odd_number(host: str) -> bool:
    """Is it an address in one of the spellings of old, such as 2130706433, 0x7f.1 or 127.0.0.1. with a dot?"""
    return _literal(host) is None and bool(_NUMBER.match(host.rstrip(".").rpartition(".")[2]))


def canonical(host: str) -> str:
    """The one spelling of a literal address, and other hosts as they are."""
    address = _literal(host)
    return host if address is None else str(address)


def split_url(url: str, limit: int) -> SplitResult:
    if len(url) > limit or not url.isprintable() or any(character in url for character in " \\"):
        raise AddressRefused(f"The URL must be at most {limit} printable characters without blanks or backslashes.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused("The URL could not be read.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise AddressRefused("The URL must begin with http:// or https:// and name a host.")
    return parts


def check_address(address: Address, *, allow_private: bool) -> None:
    """Raises AddressRefused; an IPv6 form that carries an IPv4 address is judged by the address within."""
    forms = (address, *_embedded(address))
    if any(form in METADATA for form in forms):
        raise NotPublic("The address is a metadata service, which is never reachable from here.")
    if not allow_private and not all(_is_public(form) for form in forms):
        message = "The address is not on the public internet; ALLOW_PRIVATE_PROVIDERS on the server allows it."
        raise NotPublic(message)


async def look_up(host: str, port: int, family: int) -> list[AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(  # type: ignore[return-value]
        host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
    )


async def resolve(
    host: str, port: int, *, allow_private: bool, family: int = 0, lookup: Lookup = look_up
) -> list[AddressInfo]:
    """The addresses of a host, as `getaddrinfo` gives them; raises AddressRefused if one of them is not allowed."""
    found = await lookup(host, port, family)
    for info in found:
        check_text(info[4][0], allow_private=allow_private)
    return found


def check_text(text: str, *, allow_private: bool) -> None:
    """`check_address` of an address as sockets write it."""
    check_address(_without_zone(text), allow_private=allow_private)


def _literal(host: str) -> Address | None:
    try:
        return _without_zone(host)
    except ValueError:
        return None


def _without_zone(text: str) -> Address:
    return ip_address(text.partition("%")[0])


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    if address in _MAPPED or address in _NAT64:
        return True  # what it carries is judged beside it
    return address in _UNICAST_6 and address.is_global and not any(address in network for network in _NOT_PUBLIC_6)


def _embedded(address: Address) -> list[IPv4Address]:
    if isinstance(address, IPv4Address):
        return []
    forms = [address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _CARRIERS):
        forms.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return [form for form in forms if form is not None]
