"""Templates: which there are and how they do, and the migration of their agents from version to version."""

from collections.abc import Sequence
from typing import Any

import orjson
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from agents.migrating import agents_migrate
from agents.upgrades import Upgrade
from core.admin.diff import changes
from core.admin.lists import whole_number
from core.errors import ApplicationError
from runs.template_statistics import (
    Figures,
    TemplateFigures,
    all_template_statistics,
    template_statistics,
)
from templates_app.base import AgentTemplate
from templates_app.exceptions import TemplateNotFound
from templates_app.registry import registry
from templates_app.selectors import TemplateInfo, template_info, template_list, template_versions
from templates_app.versions import precedence
from tenants.admin_base import actor_of, may, seen_by

DAYS = (7, 30, 90)
CACHE_SECONDS = 60
AGENTS_SHOWN = 100
TOLD = 5  # refusals that are told one by one
STATUS_LABELS = {"ready": "success", "refused": "danger", "unchanged": "default"}


def _require(request: HttpRequest, *permissions: str) -> None:
    if not all(may(request, permission) for permission in permissions):
        raise PermissionDenied


def _days(request: HttpRequest) -> int:
    days = whole_number(request.GET.get("days", ""))
    return days if days in DAYS else 30


def templates_page(request: HttpRequest, frame: dict[str, Any]) -> HttpResponseBase:
    """`frame` is the site's context."""
    _require(request, "template.view", "run.view")
    actor, days = actor_of(request), _days(request)
    key = seen_by(actor, f"templates:{days}")
    read = cache.get_or_set(key, lambda: all_template_statistics(actor=actor, days=days), CACHE_SECONDS)
    figures: dict[str, TemplateFigures] = read or {}
    infos = template_list(actor=actor)
    gone = sorted(figures.keys() - {info.slug for info in infos})
    rows = [_row(info, figures.get(info.slug)) for info in infos]
    rows += [_row(TemplateInfo(slug, None, [], []), figures[slug]) for slug in gone]
    context = {"title": "Templates", "rows": rows, "days": days, "choices": DAYS}
    return TemplateResponse(request, "operators/templates.html", {**frame, **context})


def _row(info: TemplateInfo, figures: TemplateFigures | None) -> dict[str, Any]:
    template = info.template
    return {
        "slug": info.slug,
        "title": template.title if template else info.slug,
        "versions": info.versions,
        "health": _health(info),
        "deprecated": [f"{each.version} deprecated" for each in registry.versions(info.slug) if each.deprecated],
        **_shown((figures or TemplateFigures()).total),
    }


def _health(info: TemplateInfo) -> tuple[str, str]:
    """A variant of a label, and its text."""
    if info.problems:
        return ("warning", "with problems") if info.versions else ("danger", "unusable")
    return ("success", "healthy") if info.versions else ("danger", "not on this server")


def _shown(figures: Figures) -> dict[str, Any]:
    rate = figures.error_rate
    times = [f"{time / 1000:,.2f} s" if time is not None else "—" for time in (figures.p50, figures.p95)]
    return {
        "agents": f"{figures.agents:,}",
        "has_agents": figures.agents > 0,
        "runs": f"{figures.runs:,}",
        "failed": "—" if rate is None else f"{100 * rate:.1f} %",
        "p50": times[0],
        "p95": times[1],
    }


def template_page(request: HttpRequest, frame: dict[str, Any], slug: str) -> HttpResponseBase:
    """One template: its versions, problems and schema."""
    _require(request, "template.view", "run.view")
    actor, days = actor_of(request), _days(request)
    try:
        figures = template_statistics(actor=actor, slug=slug, days=days)
    except TemplateNotFound:
        raise Http404 from None
    info, templates = _info(request, slug)
    chosen = next((each for each in templates if each.version == request.GET.get("version")), info.template)
    context = {
        "title": info.template.title if info.template else slug,
        "info": info,
        "health": _health(info),
        "capabilities": sorted(info.template.capabilities) if info.template else [],
        "versions": _versions(templates, figures),
        "total": _shown(figures.total),
        "days": days,
        "choices": DAYS,
        "chosen": chosen,
        "schema": _text(chosen.config_schema()) if chosen else "",
    }
    return TemplateResponse(request, "operators/template.html", {**frame, **context})


def _info(request: HttpRequest, slug: str) -> tuple[TemplateInfo, list[AgentTemplate]]:
    """With its usable versions; empty for one that only agents or runs still know."""
    try:
        actor = actor_of(request)
        return template_info(actor=actor, slug=slug), template_versions(actor=actor, slug=slug)
    except TemplateNotFound:
        return TemplateInfo(slug, None, [], []), []


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _versions(templates: Sequence[AgentTemplate], figures: TemplateFigures) -> list[dict[str, Any]]:
    """Those in use and those that only agents or runs still know, the highest first."""
    known = {template.version: template for template in templates}
    versions = sorted({*known, *figures.versions}, key=precedence, reverse=True)
    highest = templates[0].version if templates else ""
    return [
        {
            "version": version,
            "template": known.get(version),
            "default": version == highest,
            "below": bool(highest) and precedence(version) < precedence(highest),
            **_shown(figures.versions.get(version, Figures())),
        }
        for version in versions
    ]


def migrate_page(request: HttpRequest, frame: dict[str, Any], slug: str) -> HttpResponseBase:
    """What a migration would change, agent by agent; by POST, of the agents that are named."""
    _require(request, "template.view", "agent.view")
    info, templates = _info(request, slug)
    if not templates:
        raise Http404
    known = [template.version for template in templates]
    given = request.POST if request.method == "POST" else request.GET
    to = given.get("to", "") if given.get("to") in known else known[0]
    asked = {"to": to, "from": given.get("from", ""), "agent": given.get("agent", "")}
    if request.method == "POST":
        return _migrate(request, slug, asked)
    upgrades = agents_migrate(
        actor=actor_of(request),
        template=slug,
        to=to,
        from_version=asked["from"] or None,
        agents=[asked["agent"]] if asked["agent"] else None,
        first=AGENTS_SHOWN,
    )
    context = {
        "title": f"Migrate to {info.template.title if info.template else slug} {to}",
        "info": info,
        "asked": asked,
        "versions": known,
        "rows": [_upgrade_row(upgrade) for upgrade in upgrades],
        "ready": any(upgrade.status == "ready" for upgrade in upgrades),
        "most": AGENTS_SHOWN if len(upgrades) == AGENTS_SHOWN else 0,
        "may_edit": may(request, "agent.edit"),
    }
    return TemplateResponse(request, "operators/template_migrate.html", {**frame, **context})


def _upgrade_row(upgrade: Upgrade) -> dict[str, Any]:
    before, after = {"config": upgrade.before.get("config", {})}, {"config": upgrade.config}
    return {
        "agent": upgrade.agent,
        "name": upgrade.before.get("name", ""),
        "from": upgrade.before.get("template_version", ""),
        "status": upgrade.status,
        "variant": STATUS_LABELS[upgrade.status],
        "changes": changes(before, after) if upgrade.config is not None else [],
        "errors": upgrade.errors,
        "warnings": upgrade.warnings,
    }


def _migrate(request: HttpRequest, slug: str, asked: dict[str, str]) -> HttpResponseBase:
    _require(request, "agent.edit")
    chosen = request.POST.getlist("agents")
    back = HttpResponseRedirect(f"{reverse('admin:template_migrate', args=[slug])}?{urlencode(asked)}")
    if not chosen:
        messages.warning(request, "Choose the agents to migrate.")
        return back
    try:
        done = agents_migrate(actor=actor_of(request), template=slug, to=asked["to"], agents=chosen, dry_run=False)
    except ApplicationError as error:
        messages.error(request, error.message)
        return back
    migrated = [upgrade for upgrade in done if upgrade.status == "migrated"]
    refused = [upgrade for upgrade in done if upgrade.status == "refused"]
    if migrated:
        count = "One agent was" if len(migrated) == 1 else f"{len(migrated)} agents were"
        messages.success(request, f"{count} migrated to {asked['to']}. Each can be restored among its versions.")
    for upgrade in refused[:TOLD]:
        messages.error(request, f"{upgrade.agent}: {upgrade.errors[0]['message']}")
    if len(refused) > TOLD:
        messages.error(request, f"{len(refused) - TOLD} more agents were refused.")
    return back
