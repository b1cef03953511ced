"""What a strategy may know of a request. Each is counted when it is asked for, since most strategies ask for few."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any

from core.validation import storable_text
from llm.wire import PART_MEDIA, ChatRequest

MAX_PAIRS, MAX_NAME, MAX_VALUE = 16, 64, 512  # OpenAI's limits of metadata


def text_pairs(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Of what a caller sent, the first MAX_PAIRS pairs of text within the limits; others are left out."""
    kept = (
        (storable_text(name), storable_text(value))
        for name, value in metadata.items()
        if isinstance(value, str) and len(name) <= MAX_NAME and len(value) <= MAX_VALUE
    )
    return dict(islice(kept, MAX_PAIRS))


class Features:
    """Of one request; `sticky` is whom an A/B test assigns, `metadata` what the caller said besides the request."""

    def __init__(
        self,
        request: ChatRequest,
        *,
        sticky: str = "",
        metadata: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> None:
        self.request = request
        self.sticky = sticky
        self.metadata = metadata or {}
        self.now = now or datetime.now(UTC)

    @property
    def messages(self) -> int:
        return len(self.request.messages)

    @cached_property
    def input_tokens(self) -> int:
        """About: four characters of text each. Pictures and sound are not counted."""
        characters = sum(len(text) for message in self.request.messages for text in _texts(message))
        return characters // 4 + 1

    @property
    def max_tokens(self) -> int:
        """What the caller allows the answer; 0 where nothing is said."""
        params = self.request.params
        allowed = params.get("max_completion_tokens") or params.get("max_tokens")
        return allowed if type(allowed) is int and allowed > 0 else 0

    @property
    def tools(self) -> int:
        tools = self.request.params.get("tools")
        return len(tools) if isinstance(tools, list) else 0

    @property
    def response_format(self) -> str:
        """`text`, `json_object` or `json_schema`."""
        asked = self.request.params.get("response_format")
        return str(asked.get("type", "text")) if isinstance(asked, dict) else "text"

    @cached_property
    def _media(self) -> dict[str, int]:
        found = {"images": 0, "audio": 0, "documents": 0}
        for message in self.request.messages:
            for part in _parts(message):
                if (kind := PART_MEDIA.get(str(part.get("type")))) is not None:
                    found[kind] += 1
        return found

    @property
    def images(self) -> int:
        return self._media["images"]

    @property
    def audio(self) -> int:
        return self._media["audio"]

    @property
    def documents(self) -> int:
        return self._media["documents"]

    @property
    def user(self) -> str:
        """The integrator's end user."""
        return str(self.metadata.get("user_id") or "")

    @property
    def agent(self) -> str:
        return str(self.metadata.get("agent") or "")

    @cached_property
    def needs(self) -> frozenset[str]:
        """What a model must be able to take: `tools`, `json_schema`, `images`, `audio`, `documents`."""
        needed = [kind for kind, count in self._media.items() if count]
        needed += ["tools"] if self.tools else []
        needed += ["json_schema"] if self.response_format == "json_schema" else []
        return frozenset(needed)


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _parts(message):
        if isinstance(part.get("text"), str):
            yield part["text"]
