"""Outbound HTTP: one long-lived aiohttp session per event loop, whose connections obey `core.net`.

Imported on first use: aiohttp costs a quarter of a second that a management command need not pay.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from core import net

CONNECT_TIMEOUT = 10.0  # seconds, TCP and TLS
KEEPALIVE = 30.0
DNS_CACHE = 60


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a session may connect to: `setting` names the setting that permits private addresses.

    `kept`: connections and answers of name servers are used again. `per_host`: connections at once, 0 for any number.
    """

    setting: str
    lookup: net.Lookup = net.look_up
    kept: bool = True
    per_host: int = 0

    @property
    def allow_private(self) -> bool:
        return bool(getattr(settings, self.setting))


PROVIDERS = Reach("ALLOW_PRIVATE_PROVIDERS")


class CheckedResolver(AbstractResolver):
    """Refuses names that lead to a private address. aiohttp connects to exactly what this answers."""

    def __init__(self, reach: Reach = PROVIDERS) -> None:
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        reach = self._reach
        found = await net.resolve(host, port, allow_private=reach.allow_private, family=family, lookup=reach.lookup)
        return [
            ResolveResult(
                hostname=host, host=info[4][0], port=port, family=info[0], proto=info[2], flags=socket.AI_NUMERICHOST
            )
            for info in found
        ]

    async def close(self) -> None:
        """Nothing is held open."""


def checked_socket(reach: Reach, info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address, checked once more: aiohttp asks no resolver about what looks like an address."""
    family, kind, protocol, _, address = info
    net.check_text(address[0], allow_private=reach.allow_private)
    return socket.socket(family, kind, protocol)


Key = tuple[asyncio.AbstractEventLoop, Reach | None]
_sessions: dict[Key, tuple[aiohttp.ClientSession, AsyncGenerator[aiohttp.ClientSession, None]]] = {}


async def session(reach: Reach = PROVIDERS, *, own: bool = False) -> aiohttp.ClientSession:
    """The running loop's session. It has no total timeout, follows no proxy of the environment and keeps no cookie.

    `own`: to a server that this process itself started on loopback. The address policy is for what tenants choose.
    """
    key = asyncio.get_running_loop(), None if own else reach
    held = _sessions.get(key)
    if held is None:
        lifetime = _lifetime(key)
        held = _sessions[key] = (await anext(lifetime), lifetime)
    return held[0]


async def close_session() -> None:
    """Close the running loop's sessions early; the next call of `session` opens another."""
    loop = asyncio.get_running_loop()
    for key in [key for key in _sessions if key[0] is loop]:
        await _sessions[key][1].aclose()


async def _lifetime(key: Key) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Suspended until the loop ends: a loop closes its unfinished generators, and this one then closes the session."""
    client = aiohttp.ClientSession(
        connector=_connector(key[1]),
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


def _connector(reach: Reach | None) -> aiohttp.TCPConnector:
    kept = reach is None or reach.kept
    return aiohttp.TCPConnector(
        resolver=None if reach is None else CheckedResolver(reach),
        socket_factory=None if reach is None else partial(checked_socket, reach),
        limit=0,
        limit_per_host=0 if reach is None else reach.per_host,
        use_dns_cache=kept,
        ttl_dns_cache=DNS_CACHE,
        **({"keepalive_timeout": KEEPALIVE} if kept else {"force_close": True}),
    )
