"""Semantic versions (semver.org 2.0.0)."""

import re

from templates_app.exceptions import TemplateInvalid

MAX_LENGTH = 32
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PART = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_PART}(?:\.{_PART})*))?(?:\+[0-9A-Za-z.-]+)?")
Precedence = tuple[bool, int, int, int, list[tuple[bool, int, str]]]


def parse_version(text: object) -> Precedence:
    """A key that sorts by precedence, all pre-releases below all releases; raises TemplateInvalid."""
    match = _VERSION.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_LENGTH else None
    if match is None:
        raise TemplateInvalid(f"version must be semantic, such as 1.2.0, in at most {MAX_LENGTH} characters.")
    major, minor, patch, pre = match.groups()
    parts = [_identifier(part) for part in pre.split(".")] if pre else []
    return (pre is None, int(major), int(minor), int(patch), parts)


def lowest_of_major(version: str) -> str:
    """The lowest release of the same major version, or the version itself where that is a pre-release below it."""
    first = f"{precedence(version)[0]}.0.0"
    return min(first, version, key=precedence)


def precedence(text: str) -> tuple[int, int, int, bool, list[tuple[bool, int, str]]]:
    """A key that sorts as semver does: a pre-release right below its release. Raises TemplateInvalid."""
    released, major, minor, patch, parts = parse_version(text)
    return (major, minor, patch, released, parts)


def _identifier(part: str) -> tuple[bool, int, str]:
    """Numbers sort by value and below words."""
    return (False, int(part), "") if part.isdecimal() else (True, 0, part)
