"""Outbound HTTP: one long-lived aiohttp session per event loop, whose connections obey `core.net`.

Imported on first use: aiohttp costs a quarter of a second that a management command need not pay.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from core import net

CONNECT_TIMEOUT = 10.0  # seconds, TCP and TLS
KEEPALIVE = 30.0
DNS_CACHE = 60


class CheckedResolver(AbstractResolver):
    """Refuses names that lead to a private address. aiohttp connects to exactly what this answers."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        allowed = settings.ALLOW_PRIVATE_PROVIDERS
        found = await net.resolve(host, port, allow_private=allowed, family=family)
        return [
            ResolveResult(
                hostname=host, host=info[4][0], port=port, family=info[0], proto=info[2], flags=socket.AI_NUMERICHOST
            )
            for info in found
        ]

    async def close(self) -> None:
        """Nothing is held open."""


def checked_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address, checked once more: aiohttp asks no resolver about what looks like an address."""
    family, kind, protocol, _, address = info
    net.check_text(address[0], allow_private=settings.ALLOW_PRIVATE_PROVIDERS)
    return socket.socket(family, kind, protocol)


Key = tuple[asyncio.AbstractEventLoop, bool]
_sessions: dict[Key, tuple[aiohttp.ClientSession, AsyncGenerator[aiohttp.ClientSession, None]]] = {}


async def session(*, own: bool = False) -> aiohttp.ClientSession:
    """The running loop's session. It has no total timeout, follows no proxy of the environment and keeps no cookie.

    `own`: to a server that this process itself started on loopback. The address policy is for what tenants choose.
    """
    key = asyncio.get_running_loop(), own
    held = _sessions.get(key)
    if held is None:
        lifetime = _lifetime(key)
        held = _sessions[key] = (await anext(lifetime), lifetime)
    return held[0]


async def close_session() -> None:
    """Close the running loop's sessions early; the next call of `session` opens another."""
    for own in (False, True):
        held = _sessions.get((asyncio.get_running_loop(), own))
        if held is not None:
            await held[1].aclose()


async def _lifetime(key: Key) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Suspended until the loop ends: a loop closes its unfinished generators, and this one then closes the session."""
    _, own = key
    client = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=None if own else CheckedResolver(),
            socket_factory=None if own else checked_socket,
            limit=0,
            keepalive_timeout=KEEPALIVE,
            ttl_dns_cache=DNS_CACHE,
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "agentsite"},
        trust_env=False,
    )
    try:
        yield client
    finally:
        _sessions.pop(key, None)
        await client.close()
