"""The answers of the reading tools, from files of any size: bounded in bytes, lines and time."""

import codecs
import threading
import time
from collections.abc import Iterator
from heapq import nsmallest
from itertools import takewhile
from typing import Any, BinaryIO

from toolsets.exceptions import ToolError
from toolsets.workspace import File

MAX_LINES = 2000
MAX_BYTES = 100_000  # of one answer's lines
HEAD = 8192  # bytes that are looked at to tell a binary file
PIECE = 16_384  # bytes that a regex is applied to at once
MAX_PROGRAM = 10_000  # RE2's instructions: the worst regex then takes some 0.3 s for a piece
MAX_HITS = 200
MAX_SCAN = 100_000_000  # bytes
MAX_SECONDS = 5.0
SHOWN, BEFORE = 300, 100  # bytes of a long line that are shown, and of them before the match
MAX_LISTED = 1000


def lines(file: BinaryIO, start: int, end: int | None, abandoned: threading.Event) -> str:
    """The lines as they are; where an answer ends early, a last line in brackets says how to read on."""
    if end is not None and end < start:
        raise ToolError("The end lies before the start.")
    _check_text(file)
    last = min(end or start + MAX_LINES - 1, start + MAX_LINES - 1)
    taken, room, number = list[str](), MAX_BYTES, 0
    for number, piece in _pieces(file, MAX_BYTES + 1):
        if abandoned.is_set() or number > last:
            break
        if number < start:
            continue
        if taken and len(piece) > room:
            break
        taken.append(text(piece[:MAX_BYTES], whole=len(piece) <= MAX_BYTES))
        room -= len(piece)
        if room < 0:
            return f"{taken[0]}\n{_cut(number)}"
    else:
        return _all(taken, start, number)
    return "".join(taken) + (_more(number) if end is None or number <= end else "")


def _all(taken: list[str], start: int, count: int) -> str:
    """The answer where the file ended."""
    if not taken and (count or start > 1):
        raise ToolError(f"The file has {count} lines.")
    return "".join(taken) or "[The file is empty.]"


def _more(number: int) -> str:
    return f"[More follows: read on with start={number}.]"


def _cut(number: int) -> str:
    return (
        f"[Line {number} is longer than {MAX_BYTES:,} bytes: the rest of it is left out. grep_file finds places in it; "
        f"read on with start={number + 1}.]"
    )


def hits(file: BinaryIO, regex: str, start: int, abandoned: threading.Event) -> str:
    """A line for each hit, with its number; one that is not searched to its end says where to go on."""
    _check_text(file)
    pattern, until, scanned, found = _compiled(regex), time.monotonic() + MAX_SECONDS, 0, list[str]()
    for number, piece in _pieces(file, PIECE):
        if abandoned.is_set() or time.monotonic() > until or scanned > MAX_SCAN or len(found) == MAX_HITS:
            return "\n".join([*found, _stopped(number)])
        if number < start:
            continue
        scanned += len(piece)
        line = piece.rstrip(b"\r\n")
        match = pattern.search(line)
        if match:
            found.append(f"{number}: {_shown(line, match.start())}")
    return "\n".join(found) or "[No line matches.]"


def _stopped(number: int) -> str:
    limits = f"{MAX_HITS} hits, {MAX_SECONDS:g} s and {MAX_SCAN // 1_000_000} MB"
    return f"[Stopped: one call has at most {limits}. Go on with start={number}.]"


def _compiled(regex: str) -> Any:
    import re2  # here: 10 ms and memory that only this tool needs

    options = re2.Options()
    options.never_capture = True  # so that the linear automaton suffices
    options.log_errors = False
    try:
        pattern = re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "unknown"
        raise ToolError(f"RE2, which has no look-around and no backreferences, refuses this regex: {reason}.") from None
    finally:
        re2.purge()  # its cache would keep some megabytes for each of 128 patterns
    if pattern.programsize > MAX_PROGRAM:
        raise ToolError("The regex is too large: use smaller counts in {} and fewer alternatives.")
    return pattern


def _shown(line: bytes, match: int) -> str:
    begin = max(0, match - BEFORE) if len(line) > SHOWN else 0
    shown = line[begin : begin + SHOWN].decode(errors="replace")
    return f"{'…' if begin else ''}{shown}{'…' if begin + SHOWN < len(line) else ''}"


def listed(files: Iterator[File], abandoned: threading.Event) -> dict[str, Any]:
    """The first files by name."""
    wanted = takewhile(lambda _: not abandoned.is_set(), files)
    found = nsmallest(MAX_LISTED + 1, wanted, key=lambda file: file.path)
    answer: dict[str, Any] = {"files": [{"name": file.path, "bytes": file.size} for file in found[:MAX_LISTED]]}
    if len(found) > MAX_LISTED:
        answer["more"] = f"These are the first {MAX_LISTED} files; name a folder to see those in it."
    return answer


def _pieces(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Lines with their end and number; one of more than `size` bytes comes in several pieces."""
    number = 1
    while piece := file.readline(size):
        yield number, piece
        number += piece.endswith(b"\n")


def _check_text(file: BinaryIO) -> None:
    head = file.read(HEAD)
    text(head, whole=len(head) < HEAD)
    file.seek(0)


def text(raw: bytes, *, whole: bool = True) -> str:
    """Raises ToolError for what is no text; if it is not whole, its last character may be cut."""
    try:
        found = codecs.utf_8_decode(raw, "strict", whole)[0]
    except UnicodeDecodeError:
        found = "\0"
    if "\0" in found:
        raise ToolError("The file is binary: only text in UTF-8 can be read and changed.")
    return found
