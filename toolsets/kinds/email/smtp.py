"""One mail handed to one server, and never twice: when the answer is lost, the caller is told so."""

import base64
import re
import smtplib
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from toolsets.exceptions import ToolError
from toolsets.kinds.email.config import SmtpServer
from toolsets.kinds.email.connection import TooMuch, converse, tls

BUDGET = 256 * 1024  # bytes that a server may say in one conversation
_ENHANCED = re.compile(rb"\A([245]\.\d{1,3}\.\d{1,3})\b")  # RFC 3463
UNKNOWN = (
    "It is unknown whether the mail was sent: the connection ended after it was handed over and before the server "
    "answered. Do not send it again without asking a person."
)


class _Bounded:
    """What a server says, up to BUDGET bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = BUDGET

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise TooMuch
        return line

    def close(self) -> None:
        self._file.close()


class Smtp(smtplib.SMTP):
    """Speaks over a socket that is connected already, and hears at most BUDGET bytes."""

    def __init__(self, connection: socket.socket, server: SmtpServer) -> None:
        self._given = connection
        domain = server.from_address.rpartition("@")[2]  # given, since smtplib would look its own name up
        try:
            super().__init__(server.host, server.port, local_hostname=domain)
        except BaseException:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._given

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()


@dataclass
class Delivery:
    """`in_doubt`: the mail is on its way and nothing says whether it arrived."""

    server: SmtpServer
    password: str
    recipients: Sequence[str]
    message: bytes
    in_doubt: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    async def deliver(self, timeout: float) -> dict[str, str]:
        """The recipients that the server refused, with its codes. Raises ToolError when nobody gets the mail."""
        try:
            await converse(self.server, self._work, timeout)
        except ToolError:
            if self.in_doubt:
                raise ToolError(UNKNOWN) from None
            raise
        return self.refused

    def _work(self, connection: socket.socket) -> None:
        if self.server.security == "tls":
            connection = tls().wrap_socket(connection, server_hostname=self.server.host)
        client = Smtp(connection, self.server)
        try:
            self._greet(client)
            self._name_recipients(client)
            self._hand_over(client)
        finally:
            client.close()

    def _greet(self, client: Smtp) -> None:
        client.ehlo_or_helo_if_needed()
        if self.server.security == "starttls":
            if not client.has_extn("starttls"):
                raise ToolError(f"The mail server {self.server.host} offers no STARTTLS; nothing was sent in clear.")
            client.starttls(context=tls())
            client.ehlo_or_helo_if_needed()
        if self.server.user:
            self._sign_in(client, self.server.user)

    def _sign_in(self, client: Smtp, user: str) -> None:
        """At most one attempt: several lock accounts."""
        offered = client.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in offered:
            code, _ = client.docmd("AUTH", f"PLAIN {_base64(f'{chr(0)}{user}{chr(0)}{self.password}')}")
        elif "LOGIN" in offered:
            code, _ = client.docmd("AUTH", "LOGIN")
            for answer in (user, self.password):
                code, _ = client.docmd(_base64(answer)) if code == 334 else (code, b"")
        else:
            raise ToolError(
                f"The mail server {self.server.host} offers no sign-in by PLAIN or LOGIN over {self.server.security}."
            )
        if code != 235:
            raise ToolError(
                f"The mail server {self.server.host} refused the user name or the password (secret smtp_password); "
                f"its code: {code}."
            )

    def _name_recipients(self, client: Smtp) -> None:
        size = f" SIZE={len(self.message)}" if client.has_extn("size") else ""
        code, text = client.docmd("MAIL", f"FROM:<{self.server.from_address}>{size}")
        if code != 250:
            raise ToolError(
                f"The mail server refused the sender or the size; its code: {_codes(code, text)}. Not sent."
            )
        for recipient in self.recipients:
            code, text = client.docmd("RCPT", f"TO:<{recipient}>")
            if code not in (250, 251):
                self.refused[recipient] = _codes(code, text)
        if len(self.refused) == len(self.recipients):
            told = ", ".join(f"{recipient} ({codes})" for recipient, codes in self.refused.items())
            raise ToolError(f"The mail server refused every recipient: {told}. Nothing was sent.")

    def _hand_over(self, client: Smtp) -> None:
        """No line of the message begins with a dot, so none need be doubled."""
        code, text = client.docmd("DATA")
        if code != 354:
            raise ToolError(f"The mail server would not take the mail; its code: {_codes(code, text)}. Not sent.")
        self.in_doubt = True
        client.send(self.message + b".\r\n")
        code, text = client.getreply()
        self.in_doubt = code // 100 not in (4, 5)
        if code // 100 != 2:
            raise ToolError(f"The mail server did not accept the mail; its code: {_codes(code, text)}. Not sent.")
        with suppress(smtplib.SMTPException):  # the mail is accepted; the answer to QUIT says nothing more
            client.putcmd("QUIT")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _codes(code: int, text: bytes) -> str:
    """A server's words are not passed on: they may hold anything."""
    enhanced = _ENHANCED.match(text)
    return f"{code} {enhanced[1].decode()}" if enhanced else str(code)
