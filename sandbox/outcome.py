"""What a slot told, read as what it is: text of a stranger."""

import base64
import re
import signal
from dataclasses import dataclass, field
from typing import Any

import orjson

from core.beneath import PathRefused, check_path
from sandbox.exceptions import JobFailed

MAX_VALUE = 4 << 20  # bytes, as JSON
MAX_FILES, MAX_FILES_BYTES = 100, 8 << 20
MAX_MESSAGE = 8000  # characters
OWN_CODES = frozenset({"error", "syntax", "no_entry_point", "memory", "bad_result", "no_result", "output"})
OUT_OF_MEMORY = ("out of memory", "memory allocation", "Cannot allocate memory", "allocation failed", "MemoryError")
LIMITS = "prints at most 1 MiB, tells at most 32 MiB and leaves at most 5000 files and 16 MB in its folder"


# What Deno says of its own flags, which nobody here can set.
_PLAIN = (
    (
        r"(JSR package manifest for \S+ failed to load\. )?A remote specifier was requested: \"[^\"]*\", "
        r"but --no-remote is specified\.?",
        "There is no network, and nothing is imported from an address: pin a package in `dependencies`.",
    ),
    (
        r"npm specifiers were requested; but --no-npm is specified",
        "A package that is pinned in `dependencies` is imported by its plain name, without npm:.",
    ),
    (
        r"(?:Import|Relative import path) \"([^\"]+)\" not [^\n]* in import map from \"[^\"]*\"",
        r"There is no '\1' to import: only packages that are pinned in `dependencies` are there.",
    ),
    (r"Requires net access to [^\n]*, run again with the --allow-net flag", "There is no network."),
    (r", run again with the --allow-[a-z]+ flag", ""),
)


@dataclass(slots=True)
class Ended:
    """How a job ended: `why` is end, exit, output or timeout; `told` the slot's own last word."""

    why: str = ""
    code: int = 0
    ms: int = 0
    told: bytes | None = None
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    timeout: float = 0.0


Parts = tuple[Any, str, str, dict[str, bytes], int]


def outcome_of(ended: Ended) -> Parts:
    """The fields of an Outcome. Raises JobFailed."""
    stdout, stderr = _text(ended.stdout), _text(ended.stderr)
    try:
        value, files = _result(ended)
    except JobFailed as error:
        error.stdout, error.stderr = stdout, stderr
        raise
    return value, stdout, stderr, files, ended.ms


def _text(printed: bytearray) -> str:
    """Without the stack of the runtime's own code, where it broke down."""
    return printed.decode(errors="replace").partition("==== C stack trace")[0]


def _result(ended: Ended) -> tuple[Any, dict[str, bytes]]:
    if ended.why == "timeout":
        raise JobFailed(f"The code did not end within {ended.timeout:g} seconds; the job's timeout.", code="timeout")
    if ended.why == "output":
        raise JobFailed(f"The code was stopped: it {LIMITS}.", code="output")
    if ended.told is None:
        raise _death(ended)
    envelope = _envelope(ended.told)
    if envelope["ok"] is not True:
        raise _failure(envelope)
    if len(orjson.dumps(envelope.get("value"))) > MAX_VALUE:
        raise JobFailed(f"The result has more than {MAX_VALUE >> 20} MiB as JSON; leave a file.", code="bad_result")
    return envelope.get("value"), _files(envelope.get("files", {}))


def _envelope(told: bytes) -> dict[str, Any]:
    try:
        envelope = orjson.loads(told)
        if isinstance(envelope, dict) and "ok" in envelope:
            return envelope
    except ValueError:
        pass
    raise JobFailed("The result is no JSON, or nested too deep, or holds text that is no Unicode.", code="bad_result")


def _failure(envelope: dict[str, Any]) -> JobFailed:
    code, message = envelope.get("code"), envelope.get("message")
    known = code if isinstance(code, str) and code in OWN_CODES else "error"
    text = plain(message[:MAX_MESSAGE]) if isinstance(message, str) and message else "The code failed."
    return JobFailed(text, code=known)


def plain(message: str) -> str:
    """Without Deno's flags."""
    for words, instead in _PLAIN:
        message = re.sub(words, instead, message)
    return message


def _files(files: Any) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    room = MAX_FILES_BYTES
    try:
        for path, content in files.items():
            check_path(path)
            found[path] = base64.b64decode(content, validate=True)
            room -= len(found[path])
            if room < 0 or len(found) > MAX_FILES:
                raise JobFailed(
                    f"The code left more than {MAX_FILES} files or {MAX_FILES_BYTES >> 20} MB.", code="output"
                )
    except PathRefused as refused:
        raise JobFailed(f"The code left a file whose name cannot be kept: {refused.message}", code="output") from None
    except (AttributeError, TypeError, ValueError):
        raise JobFailed("The files of the result cannot be read.", code="bad_result") from None
    return found


def _death(ended: Ended) -> JobFailed:
    """A slot that ended without a word. bubblewrap tells a signal as 128 and its number."""
    number = -ended.code if ended.code < 0 else ended.code - 128
    if any(sign in _text(ended.stderr[-4000:]) for sign in OUT_OF_MEMORY):
        return JobFailed("The code needs more memory than the job's memory_mb.", code="memory")
    if number <= 0:
        return JobFailed(f"The code ended itself (exit code {ended.code}) before it had a result.", code="no_result")
    return JobFailed(f"The code's process was ended by {_signal(number)}.", code="crashed")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
