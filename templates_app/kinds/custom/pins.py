"""Dependencies as they are written: one exact version each."""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings

PYTHON = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)==[0-9][A-Za-z0-9.!+]{0,60}")
NPM = re.compile(
    r"((?:@[a-z0-9][a-z0-9._-]{0,60}/)?[a-z0-9][a-z0-9._-]{0,98})@[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]{1,60})?"
)
HOW = {"python": "name==1.2.3", "javascript": "name@1.2.3", "typescript": "name@1.2.3"}


def name_of(language: str, pin: str) -> str | None:
    """As lists of packages have it; None where the pin is none."""
    found = (PYTHON if language == "python" else NPM).fullmatch(pin)
    if found is None:
        return None
    name: str = found[1]
    return re.sub(r"[-_.]+", "-", name).lower() if language == "python" else name


def faults(language: Any, dependencies: Any) -> Iterator[tuple[int, str, str]]:
    """Place, code and message of each; of what is no text and of an unknown language, others tell."""
    if language not in HOW or not isinstance(dependencies, list):
        return
    seen: set[str] = set()
    for index, pin in enumerate(dependencies):
        if not isinstance(pin, str):
            continue
        name = name_of(language, pin)
        if name is None:
            message = f"Write one exact version, as {HOW[language]}, without ranges, URLs and extras."
            yield index, "bad_pin", message
        elif name in seen:
            yield index, "duplicate", f"The package '{name}' is listed twice."
        else:
            seen.add(name)


def refused(language: Any, dependencies: Any) -> Iterator[tuple[int, str]]:
    """Place and name of each package that this server does not allow."""
    allowed = set(settings.SANDBOX_PACKAGES)
    if language not in HOW or not isinstance(dependencies, list) or "*" in allowed:
        return
    known = {re.sub(r"[-_.]+", "-", name).lower() if language == "python" else name for name in allowed}
    for index, pin in enumerate(dependencies):
        name = name_of(language, pin) if isinstance(pin, str) else None
        if name is not None and name not in known:
            yield index, name
