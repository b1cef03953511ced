"""Reads of the templates, which are the same for every tenant."""

from dataclasses import dataclass

from core.errors import NotFound
from core.plugins import Fault
from templates_app.base import AgentTemplate
from templates_app.exceptions import TemplateNotFound
from templates_app.registry import TemplateHealth, registry
from templates_app.validation import ConfigReport, check_config, deprecation, fault
from tenants.permissions import authorize
from tenants.principal import Principal


@dataclass(frozen=True)
class TemplateInfo:
    """A slug and the template that serves it by default: None when nothing of that name could be loaded."""

    slug: str
    template: AgentTemplate | None
    versions: list[str]
    problems: list[Fault]


def _info(health: TemplateHealth) -> TemplateInfo:
    template = registry.get(health.slug) if health.versions else None
    return TemplateInfo(health.slug, template, health.versions, health.problems)


def template_list(*, actor: Principal, q: str = "") -> list[TemplateInfo]:
    """By slug, the broken ones included; `q` searches slug, title and description."""
    authorize(actor, "template.view")
    return [info for info in map(_info, registry.health()) if q.lower() in _searched(info)]


def _searched(info: TemplateInfo) -> str:
    template = info.template
    return f"{info.slug} {template.title} {template.description}".lower() if template else info.slug


def template_info(*, actor: Principal, slug: str) -> TemplateInfo:
    """Raises TemplateNotFound for a slug that nothing has."""
    for info in template_list(actor=actor):
        if info.slug == slug:
            return info
    raise TemplateNotFound(f"No template with the slug '{slug}'.")


def template_get(*, actor: Principal, slug: str, version: str | None = None) -> AgentTemplate:
    """A usable template; raises TemplateNotFound."""
    authorize(actor, "template.view")
    return registry.get(slug, version)


def template_versions(*, actor: Principal, slug: str) -> list[AgentTemplate]:
    """The usable versions, highest first."""
    template_info(actor=actor, slug=slug)
    return registry.versions(slug)


def template_health(*, actor: Principal, slug: str) -> TemplateHealth:
    info = template_info(actor=actor, slug=slug)
    return next(health for health in registry.health() if health.slug == info.slug)


def config_check(*, actor: Principal, slug: str, version: str | None, config: dict[str, object]) -> ConfigReport:
    """Every fault of a config; an unknown version is one of them. Raises TemplateNotFound for an unknown slug."""
    template_info(actor=actor, slug=slug)
    try:
        template = registry.get(slug, version)
    except NotFound as error:
        return ConfigReport([fault("version", error.code, error.message)])
    report = check_config(template, config)
    report.warnings += deprecation(template, "version")
    return report
