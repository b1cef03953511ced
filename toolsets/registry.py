"""The kinds of toolsets that this server has: found on first use, from packages of ours and entry points."""

import logging
from functools import cache
from itertools import chain

from core.plugins import Fault, entry_point_group, fault_of, load_classes, subpackages
from toolsets.base import ToolsetKind
from toolsets.exceptions import ToolsetInvalid

logger = logging.getLogger(__name__)
ENTRY_POINT_GROUP = "agentsite.toolsets"
_packages = ["toolsets.kinds"]


def add_package(package: str) -> None:
    """Kinds of an app above this one: each package right below `package`. Once more changes nothing."""
    if package not in _packages:
        _packages.append(package)
        forget()


@cache
def _discovered() -> tuple[dict[str, ToolsetKind], list[Fault]]:
    candidates = chain(*map(subpackages, _packages), entry_point_group(ENTRY_POINT_GROUP))
    classes, faults = load_classes(candidates, ToolsetKind)  # type: ignore[type-abstract]
    kinds: dict[str, ToolsetKind] = {}
    for candidate, cls in classes:
        try:
            _add(kinds, cls)
        except Exception as error:  # foreign code runs here: whatever it raises is its own fault
            logger.warning("The toolset kind %s cannot be used", candidate.source, exc_info=True)
            faults.append(fault_of(candidate, error))
    return dict(sorted(kinds.items())), faults


def _add(kinds: dict[str, ToolsetKind], cls: type[ToolsetKind]) -> None:
    cls.check_class()
    if cls.slug in kinds:
        raise ToolsetInvalid(f"The kind '{cls.slug}' exists already.")
    kinds[cls.slug] = cls()


def toolset_kinds() -> dict[str, ToolsetKind]:
    """By slug."""
    return _discovered()[0]


def toolset_kind_faults() -> list[Fault]:
    """The kinds that failed to load, and why."""
    return _discovered()[1]


def forget() -> None:
    """Discover anew at the next use."""
    _discovered.cache_clear()
