"""The templates that this server has: found on first use, from `kinds/`, entry points and `settings.TEMPLATE_DIRS`."""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from django.conf import settings

from core.plugins import (
    Candidate,
    Fault,
    classes_of,
    entry_point_group,
    fault_of,
    folders,
    load_anew,
    load_classes,
    place_of,
    subpackages,
)
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
class _Source:
    """What one candidate gave: templates that may be used, and what is wrong with it."""

    candidate: Candidate
    templates: list[AgentTemplate]
    faults: list[Fault]


@dataclass(frozen=True)
class _Found:
    sources: list[_Source]
    templates: dict[str, dict[str, AgentTemplate]]
    faults: list[Fault]


class TemplateRegistry:
    """Immutable after discovery; `reload` and `refresh` swap in what a new one finds, and runs keep what they have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: _Found | None = None

    def reload(self) -> None:
        """Discover anew."""
        with self._lock:
            self._found = discover()

    def refresh(self, changed: Iterable[Path]) -> None:
        """Load anew what these files (absolute, without links) belong to.

        What fails to load stays as it was, with the reason in its health.

        Templates of which no file was changed stay the same objects. Takes as long as the imports do.
        """
        with self._lock:
            self._found = rediscover(self._found or discover(), list(changed))

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
    return _merged([_loaded(candidate) for candidate in candidates()])


def rediscover(held: _Found, changed: Sequence[Path]) -> _Found:
    known = {(source.candidate.name, source.candidate.source): source for source in held.sources}
    sources = []
    for candidate in candidates():
        old = known.get((candidate.name, candidate.source))
        if old is None:
            sources.append(_loaded(candidate))
        elif touching := _touching(candidate, changed):
            sources.append(_loaded_anew(old, candidate, touching, held))
        else:
            sources.append(old)
    return _merged(sources)


def _touching(candidate: Candidate, changed: Iterable[Path]) -> list[Path]:
    place = place_of(candidate)
    return [path for path in changed if place is not None and path.is_relative_to(place.resolve())]


def _loaded(candidate: Candidate) -> _Source:
    """What of it can be used, whatever else it holds."""
    classes, faults = load_classes([candidate], AgentTemplate)  # type: ignore[type-abstract]
    templates = []
    for _, cls in classes:
        try:
            templates.append(_made(cls))
        except Exception as error:  # foreign code runs here: whatever it raises is its own fault
            logger.warning("The template %s cannot be used", candidate.source, exc_info=True)
            faults.append(_named(candidate, cls, error))
    return _Source(candidate, templates, faults)


def _loaded_anew(old: _Source, candidate: Candidate, changed: list[Path], held: _Found) -> _Source:
    """The whole of it, or what it was before with the reason."""
    others = [template for source in held.sources if source is not old for template in source.templates]
    try:
        templates = load_anew(candidate, changed, partial(_all_made, others))
    except (Exception, SystemExit) as error:  # foreign code runs here: whatever it raises is its own fault
        logger.warning("The changed template %s cannot be used", candidate.source, exc_info=True)
        fault = fault_of(candidate, error)
        slugs = sorted({template.slug for template in old.templates})
        kept = f"{fault.reason} The code from before is in use."
        return _Source(candidate, old.templates, [replace(fault, name=slug, reason=kept) for slug in slugs] or [fault])
    logger.info("The template %s was loaded anew", candidate.source)
    return _Source(candidate, templates, [])


def _all_made(others: Iterable[AgentTemplate], value: object) -> list[AgentTemplate]:
    classes = classes_of(value, AgentTemplate)  # type: ignore[type-abstract]
    if not classes:
        raise TemplateInvalid("It defines no AgentTemplate.")
    made = [_made(cls) for cls in classes]
    taken = {(template.slug, template.version) for template in others}
    for template in made:
        if (template.slug, template.version) in taken:
            raise TemplateInvalid(_exists(template))
        taken.add((template.slug, template.version))
    return made


def _made(cls: type[AgentTemplate]) -> AgentTemplate:
    cls.check_class()
    return cls()


def _merged(sources: list[_Source]) -> _Found:
    """By slug and version, the highest first; of two that are the same, the first one counts."""
    templates: dict[str, dict[str, AgentTemplate]] = {}
    faults = [fault for source in sources for fault in source.faults]
    for source in sources:
        for template in source.templates:
            versions = templates.setdefault(template.slug, {})
            if template.version in versions:
                faults.append(Fault(template.slug, source.candidate.source, _exists(template)))
            else:
                versions[template.version] = template
    return _Found(sources, {slug: _sorted(versions) for slug, versions in templates.items()}, faults)


def _exists(template: AgentTemplate) -> str:
    return f"Version {template.version} of '{template.slug}' exists already."


def _named(candidate: Candidate, cls: type[AgentTemplate], error: Exception) -> Fault:
    """The fault under the template's own slug if it has one, else under the name of where it was found."""
    fault = fault_of(candidate, error)
    return replace(fault, name=cls.slug) if has_slug(cls) else fault


def _sorted(versions: dict[str, AgentTemplate]) -> dict[str, AgentTemplate]:
    order: Iterable[str] = sorted(versions, key=parse_version, reverse=True)
    return {version: versions[version] for version in order}


registry = TemplateRegistry()
