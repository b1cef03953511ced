"""How many tokens something takes, for when no provider counts them: before a call, and of an answer cut short."""

from typing import Any

import msgspec

from llm.wire import Delta, Usage
from usage.prices import Tokens

BYTES_ASKED = 2  # of a token: so few that a reservation by it is rarely too small
BYTES_ANSWERED = 3
BYTES_LIKELY = 4
PER_MESSAGE = 8
MOST = 100_000_000  # tokens of one call, whatever a provider claims
# Tokens of what is attached, at least; and so many characters of its data for one more.
_ATTACHMENTS = {
    "image_url": (2500, 4096),
    "input_audio": (2500, 256),
    "audio": (2500, 256),
    "video_url": (20_000, 64),
    "file": (20_000, 4),
}


def asked_at_most(messages: list[dict[str, Any]], params: dict[str, Any]) -> int:
    """Tokens that a request hardly exceeds."""
    size = sum(_size(message) for message in messages)
    size += sum(len(msgspec.json.encode(params[name])) for name in ("tools", "response_format") if params.get(name))
    return size // BYTES_ASKED + PER_MESSAGE * len(messages) + sum(map(_attached, messages))


def asked_likely(messages: list[dict[str, Any]]) -> int:
    said = sum(-(-_size(message) // BYTES_LIKELY) + PER_MESSAGE // 2 for message in messages)
    return said + sum(map(_attached, messages))


def _size(message: dict[str, Any]) -> int:
    """Bytes of what a message says; what is attached counts by piece, not by size."""
    content = message.get("content")
    if isinstance(content, list):
        content = [part for part in content if part.get("type") not in _ATTACHMENTS]
    said = len(content) if isinstance(content, str) and content.isascii() else len(msgspec.json.encode(content))
    calls = message.get("tool_calls")
    return said + (len(msgspec.json.encode(calls)) if calls else 0)


def _attached(message: dict[str, Any]) -> int:
    """Tokens of what is attached, by its kind and size."""
    content, tokens = message.get("content"), 0
    for part in content if isinstance(content, list) else ():
        if part.get("type") in _ATTACHMENTS:
            least, characters = _ATTACHMENTS[part["type"]]
            tokens += max(least, len(msgspec.json.encode(part)) // characters)
    return tokens


class Said:
    """Counts an answer as it comes."""

    __slots__ = ("_bytes", "_pieces")

    def __init__(self) -> None:
        self._bytes = 0
        self._pieces = 0

    def add(self, delta: Delta) -> None:
        self._pieces += 1
        for text in (delta.text, delta.reasoning, delta.refusal):
            if text:
                self._bytes += _bytes(text)
        for call in delta.tool_calls or ():
            self._bytes += _bytes(call.arguments) + len(call.name or "")

    @property
    def anything(self) -> bool:
        return self._bytes > 0

    @property
    def at_most(self) -> int:
        return max(self._pieces, self._bytes // BYTES_ANSWERED)

    @property
    def likely(self) -> int:
        return max(self._pieces, self._bytes // BYTES_LIKELY) if self._bytes else 0


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def counted(usage: Usage) -> Tokens:
    """As a provider counted; each part within the whole, whatever it claims."""
    asked, answered = (min(max(count, 0), MOST) for count in (usage.prompt_tokens, usage.completion_tokens))
    cached = min(_detail(usage.prompt_tokens_details, "cached_tokens"), asked)
    written = min(_detail(usage.prompt_tokens_details, "cache_creation_tokens"), asked - cached)
    reasoning = min(_detail(usage.completion_tokens_details, "reasoning_tokens"), answered)
    return Tokens(asked, answered, cached, written, reasoning)


def _detail(details: dict[str, Any] | None, name: str) -> int:
    value = (details or {}).get(name)
    return max(value, 0) if isinstance(value, int) else 0
