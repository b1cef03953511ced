"""Answers to IMAP's FETCH (RFC 3501, section 7.4.2), as the lists that they are."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from toolsets.exceptions import ToolError

MAX_DEPTH = 100  # brackets within brackets
MAX_DIGITS = 20
_TOKEN = re.compile(
    rb"\s*(?:(?P<bracket>[()])"
    rb'|"(?P<quoted>(?:[^"\\]|\\.)*)"'
    rb"|\{(?P<size>\d{1,9})\}\r\n"
    rb"|(?P<atom>BODY\[[^\]]*\](?:<\d+>)?|[^\s()\"]+))",
    re.DOTALL | re.IGNORECASE,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
Value = Any  # bytes, None for NIL, or a list of values


def raw(value: Value) -> bytes:
    """The bytes of a text or an atom; none of what is neither."""
    return value if isinstance(value, bytes) else b""


def number(value: Value) -> int | None:
    digits = raw(value)
    return int(digits) if digits.isdigit() and len(digits) < MAX_DIGITS else None


def messages(answer: Iterable[Any]) -> Iterator[dict[bytes, Value]]:
    """imaplib's data of a FETCH: each message's attributes by their names in capitals."""
    for line in _lines(answer):
        found = parsed(line)
        attributes = found[1] if len(found) > 1 and isinstance(found[1], list) else []
        pairs = zip(attributes[::2], attributes[1::2], strict=False)
        yield {name.upper(): value for name, value in pairs if isinstance(name, bytes)}


def _lines(answer: Iterable[Any]) -> Iterator[bytes]:
    """imaplib cuts a line at its literals: (text before, literal), …, text after."""
    parts: list[bytes] = []
    for piece in answer:
        if isinstance(piece, tuple):
            parts += [piece[0], b"\r\n", piece[1]]
        elif piece is not None:
            yield b"".join([*parts, piece])
            parts = []


def parsed(line: bytes) -> list[Value]:
    """Raises ToolError for what is nested too deeply or is no answer of IMAP."""
    root: list[Value] = []
    stack = [root]
    at = 0
    while found := _TOKEN.match(line, at):
        at = found.end()
        if found["bracket"] == b"(":
            _open(stack)
        elif found["bracket"]:
            _close(stack)
        elif found["size"]:
            size = int(found["size"])
            stack[-1].append(line[at : at + size])
            at += size
        elif found["quoted"] is not None:
            stack[-1].append(_ESCAPED.sub(rb"\1", found["quoted"]))
        else:
            stack[-1].append(None if found["atom"].upper() == b"NIL" else found["atom"])
    if line[at:].strip() or len(stack) > 1:
        raise ToolError("The mail server's answer could not be read.")
    return root


def _open(stack: list[list[Value]]) -> None:
    if len(stack) > MAX_DEPTH:
        raise ToolError("The mail's parts are nested too deeply to be read.")
    inner: list[Value] = []
    stack[-1].append(inner)
    stack.append(inner)


def _close(stack: list[list[Value]]) -> None:
    if len(stack) == 1:
        raise ToolError("The mail server's answer could not be read.")
    stack.pop()
