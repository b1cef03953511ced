"""What changed between two JSON documents, for people: one row per changed path, long text word by word."""

import difflib
import re
from typing import Any, NamedTuple

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from core.differences import MISSING, differences

_WORDS = re.compile(r"\s+|[^\s]+")
_LONG = 40  # characters; a shorter value is shown whole on both sides


class Change(NamedTuple):
    """`before` and `after` are HTML; one of them is empty for what was added or removed."""

    path: str
    before: SafeString
    after: SafeString


def changes(before: Any, after: Any) -> list[Change]:
    """Every path whose value differs, in the order of the documents."""
    return [_change(*difference) for difference in differences(before, after)]


def _change(path: str, before: Any, after: Any) -> Change:
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) > _LONG:
        return Change(path, *_words(before, after))
    return Change(path, _whole(before, "del"), _whole(after, "ins"))


def _whole(value: Any, tag: str) -> SafeString:
    return SafeString("") if value is MISSING else format_html(f"<{tag}>{{}}</{tag}>", text_of(value))


def text_of(value: Any) -> str:
    """A value as an operator would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(text_of, value)) or "nothing"
    if isinstance(value, str):
        return value or "(empty)"
    return str(value)


def _words(before: str, after: str) -> tuple[SafeString, SafeString]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    left, right = [], []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        left.append(_part("".join(old[i:j]), "del", kind != "equal"))
        right.append(_part("".join(new[k:m]), "ins", kind != "equal"))
    return mark_safe("".join(left)), mark_safe("".join(right))  # noqa: S308 every part is escaped


def _part(text: str, tag: str, changed: bool) -> str:
    return f"<{tag}>{escape(text)}</{tag}>" if changed and text else escape(text)
