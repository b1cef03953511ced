"""The tools that read. Every answer is bounded, and what they read stays unread."""

import re
import socket
from collections.abc import Callable
from datetime import date
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any, TypeVar

from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.email import imap
from toolsets.kinds.email.arguments import ReadAttachment, ReadMail, SearchMail
from toolsets.kinds.email.config import EmailConfig, ImapServer
from toolsets.kinds.email.connection import converse, secret
from toolsets.kinds.email.html import html_to_text
from toolsets.kinds.email.imap import Imap
from toolsets.kinds.email.message import MESSAGE_ID
from toolsets.kinds.email.response import Value, number, raw
from toolsets.kinds.email.structure import Part, Structure, structure_of
from toolsets.kinds.email.text import MAX_HEADER, clean, decoded, header_text, without_transfer_encoding

T = TypeVar("T")
KB = 1024
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
STATE = "FLAGS RFC822.SIZE INTERNALDATE"
LISTED = "BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)]<0.8192>"
SHOWN = "BODY.PEEK[HEADER.FIELDS (FROM TO CC REPLY-TO SUBJECT DATE MESSAGE-ID)]<0.32768>"
THREAD = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID REFERENCES)]<0.32768>"
MAX_ADDRESSES = 50
MAX_REFERENCES = 20
MAX_COMMENTS = 20  # brackets in an address header; the library's parser calls itself for each
_FOLD = re.compile(rb"\r?\n[ \t]+")
_READABLE = re.compile(r"text/.+|application/(json|xml|yaml|x-yaml|toml|csv|javascript|x-sh|sql|.+\+(json|xml))")


class Reader:
    """Reads the folder that a toolset's config names."""

    def __init__(self, config: EmailConfig, server: ImapServer) -> None:
        self._config = config
        self._server = server

    async def search(self, arguments: SearchMail, context: ToolCallContext) -> dict[str, Any]:
        limit = min(arguments.limit, self._config.max_messages)
        keys, texts = _criteria(arguments)

        def work(client: Imap) -> dict[str, Any]:
            uids = imap.search(client, keys, texts, limit + 1)
            listed = imap.fetch(client, uids[:limit], f"{STATE} {LISTED}") if uids else {}
            mails = [_listed(uid, message) for uid, message in listed.items()]
            return {"mails": mails, "more": self._hint() if len(uids) > limit else None}

        return await self._in_folder(context, work)

    def _hint(self) -> str:
        most = self._config.max_messages
        return f"There are more: narrow the search, or raise `limit` (at most {most}, `max_messages` of the toolset)."

    async def read(self, arguments: ReadMail, context: ToolCallContext) -> dict[str, Any]:
        def work(client: Imap) -> dict[str, Any]:
            message = _fetched(client, arguments.uid, f"{STATE} BODYSTRUCTURE {SHOWN}")
            structure = structure_of(message.get(b"BODYSTRUCTURE"))
            text, notes = self._text(client, arguments.uid, structure)
            attachments = [_attachment(index, part) for index, part in enumerate(structure.attachments, 1)]
            told = {**_state(arguments.uid, message), **_headers(message), **_page(text, arguments)}
            return {**told, "attachments": attachments, "notes": notes}

        return await self._in_folder(context, work)

    async def read_attachment(self, arguments: ReadAttachment, context: ToolCallContext) -> dict[str, Any]:
        def work(client: Imap) -> dict[str, Any]:
            message = _fetched(client, arguments.uid, "BODYSTRUCTURE")
            part = _chosen(structure_of(message.get(b"BODYSTRUCTURE")).attachments, arguments.index)
            text, notes = self._parts_text(client, arguments.uid, part, self._config.max_text_kb * KB)
            return {**_attachment(arguments.index, part), **_page(text, arguments), "notes": notes}

        return await self._in_folder(context, work)

    async def thread(self, uid: int, context: ToolCallContext) -> list[str]:
        """The Message-IDs that an answer to a mail refers to, oldest first, that mail's own last."""

        def work(client: Imap) -> list[str]:
            fields = _fields(_fetched(client, uid, THREAD))
            own = MESSAGE_ID.fullmatch(_ascii(fields.get("message-id", b"")).strip())
            if not own:
                raise ToolError(f"The mail {uid} has no usable Message-ID. Send without reply_to_uid.")
            before = MESSAGE_ID.findall(_ascii(fields.get("references", b"")))[-MAX_REFERENCES:]
            return [*(one for one in before if one != own[0]), own[0]]

        return await self._in_folder(context, work)

    async def _in_folder(self, context: ToolCallContext, work: Callable[[Imap], T]) -> T:
        password = secret(context.secrets, "imap_password")

        def opened(connection: socket.socket) -> T:
            with imap.opened(connection, self._server, password) as client:
                return work(client)

        return await converse(self._server, opened, self._config.timeout)

    def _text(self, client: Imap, uid: int, structure: Structure) -> tuple[str, list[str]]:
        """The mail's text, of each place the first part that says something."""
        texts: list[str] = []
        notes = ["The mail has more parts than are told."] if structure.is_cut else []
        left = self._config.max_text_kb * KB
        for choices in structure.texts:
            for part in choices:
                text, about = self._parts_text(client, uid, part, left)
                left -= min(part.size, left)
                notes += about
                if text.strip():
                    texts.append(text.strip())
                    break
        return "\n\n".join(texts), list(dict.fromkeys(notes))

    def _parts_text(self, client: Imap, uid: int, part: Part, limit: int) -> tuple[str, list[str]]:
        data = without_transfer_encoding(imap.section(client, uid, part.section, limit), part.encoding)
        text = decoded(data, part.charset)
        text = html_to_text(text) if part.type == "text/html" else clean(text)
        kb = self._config.max_text_kb
        return text, [f"Only the first {kb} KB were read (`max_text_kb` of the toolset)."] if part.size > limit else []


def _criteria(arguments: SearchMail) -> tuple[list[str], list[tuple[str, str]]]:
    days = [("SINCE", arguments.since), ("BEFORE", arguments.before)]
    keys = [f"{key} {_day(day)}" for key, day in days if day]
    if arguments.unread is not None:
        keys.append("UNSEEN" if arguments.unread else "SEEN")
    texts = [("TEXT", arguments.text), ("FROM", arguments.sender), ("TO", arguments.to), ("SUBJECT", arguments.subject)]
    return keys or ["ALL"], [(key, text) for key, text in texts if text]


def _day(day: date) -> str:
    return f"{day.day}-{MONTHS[day.month - 1]}-{day.year:04}"


def _fetched(client: Imap, uid: int, items: str) -> dict[bytes, Value]:
    message = imap.fetch(client, [uid], items).get(uid)
    if message is None:
        raise ToolError(f"There is no mail with uid {uid} in the folder. search_mail tells the uids.")
    return message


def _listed(uid: int, message: dict[bytes, Value]) -> dict[str, Any]:
    fields = _fields(message)
    subject = header_text(fields.get("subject", b""))
    return {**_state(uid, message), "from": _addresses(fields.get("from", b"")), "subject": subject}


def _state(uid: int, message: dict[bytes, Value]) -> dict[str, Any]:
    """`date` is when the mail arrived: the server's word, not the sender's."""
    flags = message.get(b"FLAGS") or []
    unread = b"\\seen" not in [flag.lower() for flag in flags if isinstance(flag, bytes)]
    return {
        "uid": uid,
        "date": _moment(_ascii(raw(message.get(b"INTERNALDATE"))).replace("-", " ", 2)),
        "size": number(message.get(b"RFC822.SIZE")),
        "unread": unread,
    }


def _moment(text: str) -> str | None:
    try:
        return parsedate_to_datetime(text).isoformat()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _headers(message: dict[bytes, Value]) -> dict[str, Any]:
    fields = _fields(message)
    people = {
        name.replace("-", "_"): _addresses(fields[name]) for name in ("from", "to", "cc", "reply-to") if name in fields
    }
    texts = {name: header_text(fields.get(header, b"")) for name, header in (("subject", "subject"), ("sent", "date"))}
    return {**people, **texts, "message_id": header_text(fields.get("message-id", b""))}


def _fields(message: dict[bytes, Value]) -> dict[str, bytes]:
    """Each header's raw value by its name in small letters; of several with one name the first."""
    found: dict[str, bytes] = {}
    for line in _FOLD.sub(b" ", imap.body(message)).splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            found.setdefault(_ascii(name).strip().lower(), value.strip())
    return found


def _addresses(value: bytes) -> str:
    """`name <address>, …`. The name is decoded only after the address is known, so that it cannot pose as one."""
    text = value[: MAX_HEADER * 4].decode("utf-8", "replace")
    if text.count("(") > MAX_COMMENTS:
        return _name(text)
    people = [(name, address) for name, address in getaddresses([text]) if name or address]
    more = ["…"] if len(people) > MAX_ADDRESSES else []
    return ", ".join([*(_shown(*person) for person in people[:MAX_ADDRESSES]), *more])


def _shown(name: str, address: str) -> str:
    bare = clean(re.sub(r"[<>\s,]", "", address))
    return f"{_name(name)} <{bare}>" if name else bare


def _name(text: str) -> str:
    return re.sub(r"[<>,;]", " ", header_text(text.encode("utf-8", "replace"))).strip()


def _ascii(value: bytes) -> str:
    return value.decode("ascii", "replace")


def _attachment(index: int, part: Part) -> dict[str, Any]:
    return {"index": index, "name": part.name, "type": part.type, "size": part.decoded_size}


def _chosen(attachments: list[Part], index: int) -> Part:
    if index > len(attachments):
        raise ToolError(f"The mail has {len(attachments)} attachments; there is none with index {index}.")
    part = attachments[index - 1]
    if not _READABLE.fullmatch(part.type):
        raise ToolError(f"The attachment is {part.type}; only text can be read.")
    return part


def _page(text: str, arguments: ReadMail) -> dict[str, Any]:
    end = arguments.start + arguments.max_chars
    page = {"text": text[arguments.start : end], "start": arguments.start, "total_chars": len(text)}
    return {**page, "next_start": end} if end < len(text) else page
