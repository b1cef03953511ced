"""The bytes of a mail that is sent. They are written here, so that no header can hold what the arguments do not say."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime
from uuid import uuid4

from toolsets.kinds.email.config import SmtpServer
from toolsets.kinds.email.text import plain_text, single_line

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")  # visible ASCII but for the brackets


@dataclass(frozen=True, slots=True)
class Mail:
    """`references` are the Message-IDs of the thread, oldest first; the last one is answered."""

    to: Sequence[str]
    cc: Sequence[str]
    subject: str
    body: str
    references: Sequence[str] = ()


def new_message_id(server: SmtpServer) -> str:
    return f"<{uuid4()}@{server.from_address.rpartition('@')[2]}>"


def message_bytes(mail: Mail, server: SmtpServer, message_id: str) -> bytes:
    """Lines end with CRLF and hold at most 998 bytes, of ASCII only. Raises ValueError for control characters."""
    headers = [
        ("From", _sender(server)),
        ("To", _folded(mail.to, ",")),
        ("Cc", _folded(mail.cc, ",")),
        ("Subject", _unstructured(mail.subject, "Subject")),
        ("Date", format_datetime(datetime.now(UTC))),
        ("Message-ID", message_id),
        ("In-Reply-To", mail.references[-1] if mail.references else ""),
        ("References", _folded(mail.references, "")),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", "base64"),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers if value)
    return head.encode("ascii") + b"\r\n" + _body(mail.body)


def _sender(server: SmtpServer) -> str:
    name = single_line(server.from_name)
    if not name:
        return server.from_address
    shown = name if _ATOMS.fullmatch(name) and "=?" not in name else _encoded(name, "From")
    return f"{shown} <{server.from_address}>"


def _unstructured(text: str, header: str) -> str:
    """As it is when readers take it so; what looks like an encoded word is encoded itself."""
    return text if single_line(text).isascii() and "=?" not in text else _encoded(text, header)


def _encoded(text: str, header: str) -> str:
    return Header(text, "utf-8", maxlinelen=75, header_name=header).encode(linesep="\r\n")


def _folded(items: Sequence[str], separator: str) -> str:
    return f"{separator}\r\n ".join(items)


def _body(text: str) -> bytes:
    lines = plain_text(text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return base64.encodebytes("\r\n".join([*lines, ""]).encode()).replace(b"\n", b"\r\n")
