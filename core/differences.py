"""Where two JSON documents differ: one path for each value."""

from collections.abc import Iterator
from typing import Any, NamedTuple

MISSING = object()


class Difference(NamedTuple):
    """`before` or `after` is MISSING for what was added or removed."""

    path: str
    before: Any
    after: Any

    def as_json(self) -> dict[str, Any]:
        """Without the side on which there is nothing."""
        sides = {"before": self.before, "after": self.after}
        return {"path": self.path, **{name: value for name, value in sides.items() if value is not MISSING}}


def differences(before: Any, after: Any) -> list[Difference]:
    """In the order of the documents; a list of plain values is one value."""
    old, new = dict(_flatten(before)), dict(_flatten(after))
    paths = [*old, *(path for path in new if path not in old)]
    found = [Difference(path, old.get(path, MISSING), new.get(path, MISSING)) for path in paths]
    return [each for each in found if each.before != each.after]


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):  # an empty one says nothing
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{path}[{index}]")
    elif path:
        yield path, value
