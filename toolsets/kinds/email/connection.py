"""A conversation with a mail server: connected to a checked address, held in a thread, ended by a deadline."""

import asyncio
import imaplib
import smtplib
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

from django.conf import settings

from core import net
from toolsets.exceptions import ToolError
from toolsets.kinds.email.config import ImapServer, SmtpServer
from toolsets.kinds.email.text import single_line

T = TypeVar("T")
# Threads of their own: silent mail servers must not hold those in which the event loop resolves names.
_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="mail")


class TooMuch(Exception):
    """A server sent more than any answer needs."""


@cache
def tls() -> ssl.SSLContext:
    """Verifies certificates and names. Trusts the system's authorities, or those in SSL_CERT_FILE."""
    return ssl.create_default_context()


async def converse(server: ImapServer | SmtpServer, work: Callable[[socket.socket], T], timeout: float) -> T:
    """What `work` returns. Every failure is a ToolError that holds nothing the server said.

    When the time is over or the caller is cancelled the connection is shut down, which ends the thread.
    """
    try:
        async with asyncio.timeout(timeout):
            connection = await _connected(server)
            connection.settimeout(timeout)
            return await _in_thread(connection, work)
    except (OSError, net.AddressRefused, imaplib.IMAP4.error, smtplib.SMTPException, UnicodeError, TooMuch) as error:
        raise ToolError(f"The mail server {server.host} {_fault(error, server, timeout)}") from None


def secret(secrets: Mapping[str, str], name: str) -> str:
    """Raises ToolError for a secret that is not set or cannot be a password."""
    value = secrets.get(name)
    if not value:
        raise ToolError(f"The secret {name} of this toolset is not set. An operator can set it.")
    try:
        return single_line(value)
    except ValueError:
        raise ToolError(f"The secret {name} of this toolset holds a line break or a control character.") from None


async def _connected(server: ImapServer | SmtpServer) -> socket.socket:
    """Connected to the first of the server's addresses that answers."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in await _addresses(server):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, address)
            return connection
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
    raise failure or OSError("no address")


async def _addresses(server: ImapServer | SmtpServer) -> list[net.AddressInfo]:
    return await net.resolve(server.host, server.port, allow_private=settings.ALLOW_PRIVATE_TOOLS)


async def _in_thread(connection: socket.socket, work: Callable[[socket.socket], T]) -> T:
    def run() -> T:
        with connection:
            return work(connection)

    switch = connection.dup()  # TLS takes the socket over, and may be in use; this handle reaches the connection still
    future = _threads.submit(run)
    try:
        return await asyncio.wrap_future(future)
    finally:
        with suppress(OSError):  # it is closed already
            switch.shutdown(socket.SHUT_RDWR)
        switch.close()
        if future.cancel():  # it never began
            connection.close()


def _fault(error: Exception, server: ImapServer | SmtpServer, timeout: float) -> str:
    match error:
        case net.AddressRefused():
            return (
                "has an address that is not on the public internet, where this server may not connect to. "
                "ALLOW_PRIVATE_TOOLS on the server allows private addresses, metadata services excepted."
            )
        case socket.gaierror():
            return "is not known: its name could not be resolved."
        case ssl.SSLCertVerificationError():
            return f"showed a certificate that is not valid for it: {error.verify_message}."
        case ssl.SSLError() if error.reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"):
            return f"does not speak TLS at port {server.port}. Check `port` and `security`."
        case ssl.SSLError():
            return "broke off the encrypted connection."
        case TimeoutError():
            return f"did not finish within {timeout:g} s (`timeout` in the toolset's config)."
        case TooMuch():
            return "sent more than an answer needs; the connection was ended."
        case imaplib.IMAP4.abort() | smtplib.SMTPServerDisconnected() | ConnectionResetError() | BrokenPipeError():
            return "dropped the connection."
        case imaplib.IMAP4.error() | smtplib.SMTPException() | UnicodeError():
            return "answered what could not be understood, or refused the command."
    return f"could not be reached at port {server.port}."
