"""One folder of a mail server, opened so that nothing in it can change (EXAMINE, BODY.PEEK)."""

import base64
import imaplib
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from toolsets.exceptions import ToolError
from toolsets.kinds.email.config import ImapServer
from toolsets.kinds.email.connection import TooMuch, tls
from toolsets.kinds.email.response import Value, messages, number, raw

BUDGET = 16 * 1024 * 1024  # bytes that one call may receive
CHUNK = 128 * 1024  # bytes asked for at a time
WINDOW = 50_000  # messages searched at a time: their uids fit imaplib's longest line


class Imap(imaplib.IMAP4):
    """Speaks over a connected socket, and receives at most BUDGET bytes. `exists`: how many mails are in the folder."""

    exists = 0

    def __init__(self, connection: socket.socket, host: str) -> None:
        self._given = connection
        self._left = BUDGET
        super().__init__(host)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self._given

    def read(self, size: int) -> bytes:
        self._spend(size)
        return super().read(size)

    def readline(self) -> bytes:
        line = super().readline()
        self._spend(len(line))
        return line

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooMuch


@contextmanager
def opened(connection: socket.socket, server: ImapServer, password: str) -> Iterator[Imap]:
    """The server's folder. Raises ToolError when it cannot be opened as the config says."""
    if server.security == "tls":
        connection = tls().wrap_socket(connection, server_hostname=server.host)
    client = Imap(connection, server.host)
    try:
        if server.security == "starttls":
            _encrypt(client, server)
        _sign_in(client, server, password)
        _examine(client, server.folder)
        yield client
    finally:
        with suppress(OSError):  # a failed handshake has closed it already
            client.shutdown()


def _encrypt(client: Imap, server: ImapServer) -> None:
    if "STARTTLS" not in client.capabilities or client.state != "NONAUTH":
        raise ToolError(f"The mail server {server.host} offers no STARTTLS; nothing was sent to it in clear.")
    client.starttls(tls())


def _sign_in(client: Imap, server: ImapServer, password: str) -> None:
    """At most one attempt: several lock accounts."""
    if client.state == "AUTH":  # PREAUTH
        return
    try:
        if "AUTH=PLAIN" in client.capabilities:
            client.authenticate("PLAIN", lambda _: f"\0{server.user}\0{password}".encode())
        elif "LOGINDISABLED" not in client.capabilities and (server.user + password).isascii():
            client.login(_quoted(server.user), password)
        else:
            raise ToolError(f"The mail server {server.host} offers no way to sign in with this user name and password.")
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error:
        raise ToolError(
            f"The mail server {server.host} refused the user name or the password (secret imap_password)."
        ) from None


def _examine(client: Imap, folder: str) -> None:
    status, data = client.select(_quoted(_utf7(folder)), readonly=True)
    exists = number(data[-1])
    if status != "OK" or exists is None:
        raise ToolError(f"The folder '{folder}' could not be opened.")
    client.exists = exists


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _utf7(folder: str) -> str:
    """A folder's name as IMAP writes it (RFC 3501, section 5.1.3)."""
    return re.sub(r"[^\x20-\x7e]+", lambda run: f"&{_base64(run[0])}-", folder.replace("&", "&-"))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-16-be")).decode().rstrip("=").replace("/", ",")


def search(client: Imap, keys: Sequence[str], texts: Sequence[tuple[str, str]], limit: int) -> list[int]:
    """Up to `limit` uids, the newest arrivals first. `texts` are keys with an argument: ("SUBJECT", "offer")."""
    found: list[int] = []
    for last in range(client.exists, 0, -WINDOW):
        window = f"{max(1, last - WINDOW + 1)}:{last}"
        found += sorted(_search_window(client, [window, *keys], texts), reverse=True)
        if len(found) >= limit:
            break
    return found[:limit]


def _search_window(client: Imap, keys: Sequence[str], texts: Sequence[tuple[str, str]]) -> set[int]:
    """imaplib can send one literal in a command, so each text beyond ASCII is a search of its own."""
    plain = [*keys, *(f"{key} {_quoted(text)}" for key, text in texts if text.isascii())]
    others = [(key, text) for key, text in texts if not text.isascii()]
    if not others:
        return _uids(client, plain)
    found = []
    for key, text in others:
        client.literal = text.encode()  # type: ignore[assignment]  # the stubs say str
        found.append(_uids(client, ["CHARSET UTF-8", *plain, key]))
    return set.intersection(*found)


def _uids(client: Imap, arguments: Sequence[str]) -> set[int]:
    status, data = client.uid("SEARCH", *arguments)
    if status != "OK":
        raise ToolError("The mail server refused the search; it may not search for letters beyond ASCII.")
    return {uid for line in data for word in raw(line).split() if (uid := number(word)) is not None}


def fetch(client: Imap, uids: Sequence[int], items: str) -> dict[int, dict[bytes, Value]]:
    """The items of those messages that exist, by uid."""
    status, data = client.uid("FETCH", ",".join(map(str, uids)), f"(UID {items})")
    if status != "OK":
        raise ToolError("The mail server would not show the mail.")
    found = {number(message.get(b"UID")): message for message in messages(data)}
    return {uid: found[uid] for uid in uids if uid in found}


def section(client: Imap, uid: int, name: str, limit: int) -> bytes:
    """The first `limit` bytes of a part, fetched in pieces."""
    pieces: list[bytes] = []
    for start in range(0, limit, CHUNK):
        size = min(CHUNK, limit - start)
        message = fetch(client, [uid], f"BODY.PEEK[{name}]<{start}.{size}>").get(uid, {})
        piece = body(message)[:size]
        pieces.append(piece)
        if len(piece) < size:
            break
    return b"".join(pieces)


def body(message: dict[bytes, Value]) -> bytes:
    """The bytes of the one BODY[…] that was asked for; empty when the server has none."""
    found = [value for name, value in message.items() if name.startswith(b"BODY[")]
    return raw(found[0]) if found else b""
