"""The templates that this server has: found on first use, from `kinds/`, entry points and `settings.TEMPLATE_DIRS`."""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from django.conf import settings

from core.plugins import Candidate, Fault, entry_point_group, fault_of, folders, load_classes, subpackages
from templates_app.base import AgentTemplate, has_slug
from templates_app.exceptions import TemplateInvalid, TemplateNotFound
from templates_app.versions import parse_version

logger = logging.getLogger(__name__)
ENTRY_POINT_GROUP = "agentsite.templates"


@dataclass(frozen=True)
class Deprecated:
    """A version that still works, and why no agent should use it any more."""

    version: str
    reason: str


@dataclass(frozen=True)
class TemplateHealth:
    """One slug: its usable versions, highest first, and what keeps others of its name from being used."""

    slug: str
    versions: list[str]
    problems: list[Fault] = field(default_factory=list)
    deprecated: list[Deprecated] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Found:
    templates: dict[str, dict[str, AgentTemplate]]
    faults: list[Fault]


class TemplateRegistry:
    """Immutable after discovery; `reload` swaps in what a new discovery finds, and runs keep the template they have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: _Found | None = None

    def reload(self) -> None:
        """Discover anew."""
        with self._lock:
            self._found = discover()

    def _current(self) -> _Found:
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = discover()
        return self._found

    def get(self, slug: str, version: str | None = None) -> AgentTemplate:
        """The template, by default its highest version (a pre-release only when there is nothing else)."""
        versions = self._current().templates.get(slug)
        if not versions:
            raise TemplateNotFound(f"No template with the slug '{slug}' is in use.", param="template")
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            raise TemplateNotFound(
                f"The template '{slug}' has no version '{version}'; it has {', '.join(versions)}.",
                code="template_version_not_found",
                param="template_version",
            )
        return versions[version]

    def versions(self, slug: str) -> list[AgentTemplate]:
        """Highest first; empty when none is in use."""
        return list(self._current().templates.get(slug, {}).values())

    def health(self) -> list[TemplateHealth]:
        """Every known slug in order, those that failed to load included."""
        found = self._current()
        slugs = sorted({*found.templates, *(fault.name for fault in found.faults)})
        return [_health(found, slug) for slug in slugs]


def _health(found: _Found, slug: str) -> TemplateHealth:
    versions = found.templates.get(slug, {})
    return TemplateHealth(
        slug,
        list(versions),
        [fault for fault in found.faults if fault.name == slug],
        [Deprecated(version, template.deprecated) for version, template in versions.items() if template.deprecated],
    )


def candidates() -> Iterator[Candidate]:
    return chain(
        subpackages("templates_app.kinds"),
        entry_point_group(ENTRY_POINT_GROUP),
        *(folders(Path(directory)) for directory in settings.TEMPLATE_DIRS),
    )


def discover() -> _Found:
    classes, faults = load_classes(candidates(), AgentTemplate)  # type: ignore[type-abstract]
    templates: dict[str, dict[str, AgentTemplate]] = {}
    for candidate, cls in classes:
        try:
            _add(templates, cls)
        except Exception as error:  # foreign code runs here: whatever it raises is its own fault
            logger.warning("The template %s cannot be used", candidate.source, exc_info=True)
            faults.append(_named(candidate, cls, error))
    return _Found({slug: _sorted(versions) for slug, versions in templates.items()}, faults)


def _add(templates: dict[str, dict[str, AgentTemplate]], cls: type[AgentTemplate]) -> None:
    cls.check_class()
    versions = templates.setdefault(cls.slug, {})
    if cls.version in versions:
        raise TemplateInvalid(f"Version {cls.version} of '{cls.slug}' exists already.")
    versions[cls.version] = cls()


def _named(candidate: Candidate, cls: type[AgentTemplate], error: Exception) -> Fault:
    """The fault under the template's own slug if it has one, else under the name of where it was found."""
    fault = fault_of(candidate, error)
    return replace(fault, name=cls.slug) if has_slug(cls) else fault


def _sorted(versions: dict[str, AgentTemplate]) -> dict[str, AgentTemplate]:
    order: Iterable[str] = sorted(versions, key=parse_version, reverse=True)
    return {version: versions[version] for version in order}


registry = TemplateRegistry()
