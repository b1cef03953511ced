"""What a mail consists of, read from the server's BODYSTRUCTURE (RFC 3501, section 7.4.2): no part need be fetched."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from toolsets.kinds.email.response import Value, number, raw
from toolsets.kinds.email.text import clean, decoded, header_text

MAX_PARTS = 200
MAX_DEPTH = 20
MAX_PARAMETERS = 40
MAX_VALUE = 1000  # characters of one parameter
MAX_NAME = 150
_PLACE = re.compile(r"[0-9]{1,3}")
_NOT_IN_NAMES = re.compile(r'[/\\<>:"|?*]')


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of the tree of parts. `section` is IMAP's number of it, `size` its bytes as they travel."""

    section: str
    type: str
    charset: str
    encoding: str
    size: int
    disposition: str
    name: str

    @property
    def is_text(self) -> bool:
        """Shown in the mail itself."""
        return self.type in ("text/plain", "text/html") and self.disposition != "attachment" and not self.name

    @property
    def decoded_size(self) -> int:
        """About: base64 takes four bytes for three, and line breaks."""
        return self.size * 3 // 4 if self.encoding == "base64" else self.size


@dataclass
class Structure:
    """`texts`: for each place of the mail's text, the parts that may stand there, the preferred first."""

    texts: list[list[Part]] = field(default_factory=list)
    attachments: list[Part] = field(default_factory=list)
    is_cut: bool = False


def structure_of(body: Value) -> Structure:
    """Parts beyond MAX_PARTS or MAX_DEPTH are left out. Mails within the mail are attachments."""
    found = Structure()
    if isinstance(body, list):
        _collect(body, found)
    return found


def _collect(body: list[Value], found: Structure) -> None:
    leaves = list(_leaves(body, "", 0, found))
    found.is_cut |= len(leaves) > MAX_PARTS
    choices: dict[str, list[Part]] = {}
    for part, group in leaves[:MAX_PARTS]:
        if part.is_text:
            choices.setdefault(group, []).append(part)
        else:
            found.attachments.append(part)
    found.texts = [sorted(parts, key=lambda part: part.type != "text/plain") for parts in choices.values()]


def _leaves(body: list[Value], section: str, depth: int, found: Structure) -> Iterator[tuple[Part, str]]:
    """Each leaf, and the section of the multipart/alternative around it, else its own."""
    if not (body and isinstance(body[0], list)):
        part = _part(body, section or "1")
        yield part, part.section
        return
    if depth == MAX_DEPTH:
        found.is_cut = True
        return
    children = _only_children(body)
    subtype = _text(body[len(children)] if len(children) < len(body) else None)
    for place, child in enumerate(children, 1):
        for part, group in _leaves(child, f"{section}.{place}".lstrip("."), depth + 1, found):
            yield part, section or "0" if subtype == "alternative" else group


def _only_children(body: list[Value]) -> list[list[Value]]:
    """The lists at the start; those after the subtype are parameters."""
    count = next((index for index, item in enumerate(body) if not isinstance(item, list)), len(body))
    return body[:count]


def _part(body: list[Value], section: str) -> Part:
    body = [*body, *[None] * 12]
    kind = f"{_text(body[0]) or 'application'}/{_text(body[1]) or 'octet-stream'}"
    parameters = _parameters(body[2])
    disposition, more = _disposition(body, kind)
    return Part(
        section=section,
        type=kind,
        charset=parameters.get("charset", ""),
        encoding=_text(body[5]),
        size=number(body[6]) or 0,
        disposition=disposition,
        name=file_name(more.get("filename") or parameters.get("name", "")),
    )


def _disposition(body: list[Value], kind: str) -> tuple[str, dict[str, str]]:
    extension = 9 if kind.startswith("text/") else 11 if kind == "message/rfc822" else 8
    value = body[extension]
    if not (isinstance(value, list) and value):
        return "", {}
    return _text(value[0]), _parameters(value[1] if len(value) > 1 else None)


def _parameters(value: Value) -> dict[str, str]:
    """Decoded by RFC 2231, where a value may come in pieces, and RFC 2047."""
    if not isinstance(value, list):
        return {}
    found: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, item in list(zip(value[::2], value[1::2], strict=False))[:MAX_PARAMETERS]:
        base, star, rest = _text(name).partition("*")
        if star:
            place = rest.rstrip("*")
            piece = _raw(item), rest[-1:] in ("", "*")
            pieces.setdefault(base, {})[int(place) if _PLACE.fullmatch(place) else 0] = piece
        else:
            found.setdefault(base, header_text(_raw(item).encode()))
    return found | {base: _joined([piece for _, piece in sorted(those.items())]) for base, those in pieces.items()}


def _joined(pieces: list[tuple[str, bool]]) -> str:
    """RFC 2231: the first piece begins with charset'language' when it is percent-encoded, as others may be."""
    data = b"".join(unquote_to_bytes(text) if encoded else text.encode() for text, encoded in pieces)
    charset = "utf-8"
    if pieces[0][1] and data.count(b"'") > 1:
        name, _, data = data.split(b"'", 2)
        charset = name.decode("ascii", "replace")
    return " ".join(clean(decoded(data, charset)).split())


def file_name(text: str) -> str:
    """A name to show: no path, one line, not long."""
    return _NOT_IN_NAMES.sub("_", text)[:MAX_NAME].strip(". ")


def _text(value: Value) -> str:
    return _raw(value).lower()


def _raw(value: Value) -> str:
    return raw(value)[:MAX_VALUE].decode("utf-8", "replace")
