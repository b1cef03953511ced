"""A connection to a PostgreSQL that a tenant named: to a checked address, with no parameter but ours.

It is opened in a thread of its own: libpq derives SCRAM keys inside its connect, in as many rounds as the other server
asks for, and no loop may stand still for that. What comes after is asynchronous.
"""

import asyncio
import os
import socket
import ssl
import struct
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from psycopg import pq

from core import net
from toolsets.exceptions import ToolError

CONNECT_TIMEOUT = 10  # seconds, of name, TCP, TLS and login together
MAX_ADDRESSES = 3  # of one name, that are tried in turn
MAX_REASON = 300  # characters
MAX_RECEIVED = 64_000_000  # bytes of one connection; capped answers are far below
WATCH_SECONDS = 0.05
NO_FILE = f"{os.devnull}/none"  # libpq takes an empty name for its default in the home folder
Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Login:
    host: str
    port: int
    database: str
    user: str
    sslmode: str
    password: str = field(repr=False)
    ca_certificate: str = ""  # PEM; empty: the public authorities that this machine knows

    @property
    def place(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"


class Slot:
    """One of a toolset's connections in this process, for as long as one of its holders has not let go."""

    _taken: Counter[tuple[UUID, str]] = Counter()
    _lock = threading.Lock()

    def __init__(self, tenant_id: UUID, toolset: str) -> None:
        self._key = tenant_id, toolset
        self._holders = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises ToolError when the toolset has no connection left."""
        most = settings.DATABASE_TOOL_CONNECTIONS
        if self._taken[self._key] >= most:
            raise ToolError(
                f"This toolset has {most} connections open already: try again when a query has ended. "
                "DATABASE_TOOL_CONNECTIONS on the server raises the limit."
            )
        with self.held():
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, holders: int) -> None:
        with self._lock:
            before, self._holders = self._holders, self._holders + holders
            self._taken[self._key] += bool(self._holders) - bool(before)
            if not self._taken[self._key]:
                del self._taken[self._key]


@asynccontextmanager
async def connected(login: Login, slot: Slot) -> AsyncIterator[Connection]:
    """An open connection in autocommit mode, closed at the end. Raises ToolError, which never tells the password."""
    with slot.taken(), _authorities(login) as file:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                parameters = _parameters(login, await _addresses(login), file)
                connection = await _opened(parameters, slot)
        except (TimeoutError, psycopg.errors.ConnectionTimeout):
            raise _refused(login, f"no answer within {CONNECT_TIMEOUT} s") from None
        except psycopg.Error as error:
            raise _refused(login, str(error)) from None
        watch = asyncio.create_task(_watched(connection.fileno()))
        try:
            yield connection
        finally:
            watch.cancel()
            await connection.close()


async def _addresses(login: Login) -> list[str]:
    try:
        found = await net.resolve(login.host, login.port, allow_private=settings.ALLOW_PRIVATE_TOOLS)
    except net.AddressRefused:
        raise ToolError(
            f"{login.host} is not on the public internet, so it may not be connected to. ALLOW_PRIVATE_TOOLS on the "
            "server allows private addresses, though never those of metadata services."
        ) from None
    except (OSError, UnicodeError):
        raise _refused(login, "the host is unknown") from None
    return list(dict.fromkeys(info[4][0] for info in found))[:MAX_ADDRESSES]


async def _opened(parameters: dict[str, str], slot: Slot) -> Connection:
    """The thread outlives a caller who does not wait for it: it keeps its slot, and its connection is dropped."""
    future: Future[Connection] = Future()
    threading.Thread(target=_open, args=(future, parameters, slot), name="database-login", daemon=True).start()
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        future.add_done_callback(_drop)
        raise


def _open(future: Future[Connection], parameters: dict[str, str], slot: Slot) -> None:
    try:
        with slot.held():
            connection = asyncio.run(_connect(parameters))
    except BaseException as error:  # handed to who waits for it
        future.set_exception(error)
    else:
        future.set_result(connection)


async def _connect(parameters: dict[str, str]) -> Connection:
    return await psycopg.AsyncConnection.connect(**parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]


def _drop(future: Future[Connection]) -> None:
    if not future.exception():
        future.result().pgconn.finish()


async def _watched(descriptor: int) -> None:
    """Hang up on a server that sends far more than was asked for: libpq keeps a message until it is whole."""
    if sys.platform != "linux":
        return
    with socket.socket(fileno=os.dup(descriptor)) as tcp:
        while _received(tcp) < MAX_RECEIVED:  # noqa: ASYNC110 nothing tells when that changes
            await asyncio.sleep(WATCH_SECONDS)
        with suppress(OSError):
            tcp.shutdown(socket.SHUT_RDWR)


def _received(tcp: socket.socket) -> int:
    """Bytes: tcpi_bytes_received of Linux's struct tcp_info."""
    info = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    received: int = struct.unpack_from("Q", info, 128)[0]
    return received


@contextmanager
def _authorities(login: Login) -> Iterator[str]:
    """The file of certificates that libpq checks the server's against, now and when it cancels a query."""
    if login.sslmode != "verify-full":
        yield NO_FILE
    elif login.ca_certificate:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(login.ca_certificate)
            file.flush()
            yield file.name
    elif public := ssl.get_default_verify_paths().cafile:
        yield public
    else:
        raise ToolError("The server knows no public certificate authorities: give the toolset a `ca_certificate`.")


def _parameters(login: Login, addresses: list[str], authorities: str) -> dict[str, str]:
    """Every parameter that libpq has, since it takes what is missing from the environment or a service file."""
    ours = {
        "host": ",".join([login.host] * len(addresses)),  # for TLS only
        "hostaddr": ",".join(addresses),
        "port": str(login.port),
        "dbname": login.database,
        "user": login.user,
        "password": login.password,
        "passfile": NO_FILE,
        "connect_timeout": str(CONNECT_TIMEOUT),
        "application_name": "agentsite",
        "client_encoding": "UTF8",
        "sslmode": login.sslmode,
        "sslrootcert": authorities,
        "sslcrl": NO_FILE,
        "sslcertmode": "disable",  # never this server's own certificate
        "require_auth": "scram-sha-256,md5,password,none",  # never this server's own Kerberos ticket
        "gssencmode": "disable",
        "min_protocol_version": "3.0",
        "max_protocol_version": "3.0",
        "keepalives": "1",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }
    known = {option.keyword.decode(): (option.compiled or b"").decode() for option in pq.Conninfo.get_defaults()}
    unset = ("service", "scram_client_key", "scram_server_key")  # an empty one is an error
    return {name: ours.get(name, value) for name, value in known.items() if name not in unset}


def _refused(login: Login, error: str) -> ToolError:
    """libpq's reason without addresses and names of files, and without the password that a server may echo."""
    reason = error.strip().rpartition(" failed: ")[2] or error
    reason = reason.partition("\n")[0].replace(login.password, "[password]")[:MAX_REASON].rstrip(".")
    hint = "; sslmode `disable` connects without" if "server does not support SSL" in reason else ""
    return ToolError(f"Cannot connect to {login.place}: {reason}{hint}.")
