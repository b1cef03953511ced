import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

_PATTERN = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")


def _plain(text: str) -> str:
    text = text.strip().lower().rstrip(".")
    if not _PATTERN.match(text):
        raise ValueError("write a host such as example.com, or *.example.com for all hosts below it")
    return text


HostPattern = Annotated[str, Field(max_length=253), AfterValidator(_plain)]


def matches(host: str, patterns: Iterable[str]) -> bool:
    """Is it one of the patterns' hosts? *.example.com are the hosts below example.com and not that one itself."""
    host = host.lower().rstrip(".")
    return any(host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern for pattern in patterns)
