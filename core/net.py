"""Where the server may connect to when a tenant chose the address: never its own network unless the platform allows it.

A name is resolved once and the connection goes to the addresses that were checked (`core.http`), so that a name which
changes between check and connect gains nothing.
"""

import asyncio
import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from core.errors import InvalidRequest

Address = IPv4Address | IPv6Address
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

MAX_URL = 500
# Instance metadata services: credentials of the machine itself, refused even where private addresses are allowed.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
# Ranges that Python's tables call global and that lead, or may lead, into the server's own network.
_NOT_PUBLIC = tuple(
    IPv6Network(text)
    for text in (
        "::/96",  # IPv4-compatible, RFC 4291
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
        "64:ff9b:1::/48",  # local NAT64, RFC 8215
        "fec0::/10",  # site-local, RFC 3879
    )
)
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")


class AddressRefused(InvalidRequest):
    """The address is none that a tenant may make the server connect to."""

    code = "address_refused"


@lru_cache(maxsize=1024)
def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """Refuse what is no plain http(s) URL or names a refused address literally; names are checked when they resolve."""
    parts = _split(url)
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressRefused("The URL must not hold a user name, a query or a fragment.")
    host = parts.hostname or ""
    address = _literal(host)
    if address is not None:
        check_address(address, allow_private=allow_private)
    elif not _HOST_NAME.match(host):  # a client may read "①②⑦.0.0.1" as an address
        raise AddressRefused("Write the host's name in ASCII; an international one begins with xn--.")
    return parts


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL or not url.isprintable() or any(character in url for character in " \\"):
        raise AddressRefused(f"The URL must be at most {MAX_URL} printable characters without blanks or backslashes.")
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
        raise AddressRefused("The address is a metadata service, which is never reachable from here.")
    if not allow_private and not all(_is_public(form) for form in forms):
        message = "The address is not on the public internet; ALLOW_PRIVATE_PROVIDERS on the server allows it."
        raise AddressRefused(message)


async def resolve(host: str, port: int, *, allow_private: bool, family: int = 0) -> list[AddressInfo]:
    """The addresses of a host, as `getaddrinfo` gives them; raises AddressRefused if one of them is not allowed."""
    loop = asyncio.get_running_loop()
    found: list[AddressInfo] = await loop.getaddrinfo(  # type: ignore[assignment]
        host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
    )
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
    if isinstance(address, IPv6Address) and any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _embedded(address: Address) -> list[IPv4Address]:
    if isinstance(address, IPv4Address):
        return []
    forms = [address.ipv4_mapped, address.sixtofour]
    if address.teredo:
        forms += address.teredo
    if address in _NAT64:
        forms.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return [form for form in forms if form is not None]
