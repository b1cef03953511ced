"""The first page: state first, failures second, trends third."""

import json
from typing import Any

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from agentsite.admin import figures
from tenants.admin_base import actor_of, may, seen_by
from tenants.principal import Principal
from usage.admin_parts import dollars_known

CHART_SECONDS = 60
FAILED_ALARM = 5.0  # per cent
_TICKS = {"color": "#7c8698", "maxRotation": 0, "autoSkipPadding": 16, "precision": 0}


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    if not may(request, "run.view"):
        return context
    actor = actor_of(request)
    steps = figures.first_steps(actor.tenant_id)
    if steps:
        return {**context, "steps": [_step(request, step) for step in steps]}
    trends = cache.get_or_set(seen_by(actor, "overview:trends"), lambda: _trends(actor), CHART_SECONDS)
    return {
        **context,
        **cards(request),
        **(trends or {}),
        "failures": figures.last_failures(actor),
        "providers": figures.providers(actor.tenant_id),
    }


def live(request: HttpRequest) -> HttpResponse:
    """The five cards alone, asked for every 15 s."""
    context = cards(request) if may(request, "run.view") else {}
    return render(request, "operators/cards.html", context)


def cards(request: HttpRequest) -> dict[str, Any]:
    """What was spent is shown to those only who may see usage."""
    found = figures.live(actor_of(request))
    first = "" if found.first_token_ms is None else f"{found.first_token_ms:,}"
    words = {"live_first_token": first, "live_runs": f"{found.runs:,}", "live_tokens": f"{found.tokens:,}"}
    if may(request, "usage.view"):
        words["live_cost"] = dollars_known(found, found.cost, digits=2)
        words["live_unknown"] = f"{found.unknown:,}" if found.unknown and found.cost else ""
    return {"live": found, "failed_alarm": found.failed_share > FAILED_ALARM, **words}


def _step(request: HttpRequest, step: figures.Step) -> dict[str, Any]:
    url = reverse(f"admin:{step.page}") if may(request, step.permission) else ""
    return {"title": step.title, "help": step.help, "done": step.done, "url": url}


def _trends(actor: Principal) -> dict[str, Any]:
    hours = figures.hourly(actor)
    labels = [f"{hour.start:%H}:00" for hour in hours]
    completed = {"label": "Completed", "data": [hour.completed for hour in hours], "backgroundColor": "#3b82f6"}
    failed = {"label": "Failed", "data": [hour.failed for hour in hours], "backgroundColor": "#dc2626"}
    tokens = {"label": "Tokens", "data": [hour.tokens for hour in hours], "borderColor": "#3b82f6"}
    line = {**tokens, "backgroundColor": "#3b82f6", "borderWidth": 2, "pointRadius": 0, "tension": 0.3}
    return {
        "hours": hours,
        "runs_chart": json.dumps({"labels": labels, "datasets": [completed, failed]}),
        "runs_options": json.dumps(_options(stacked=True)),
        "tokens_chart": json.dumps({"labels": labels, "datasets": [line]}),
        "tokens_options": json.dumps(_options(stacked=False)),
        "busiest": figures.busiest(actor),
    }


def _options(*, stacked: bool) -> dict[str, Any]:
    y = {"stacked": stacked, "beginAtZero": True, "ticks": _TICKS, "grid": {}, "border": {"display": False}}
    x = {"stacked": stacked, "ticks": _TICKS, "grid": {"display": False}}
    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "index", "intersect": False},
        "scales": {"x": x, "y": y},
        "plugins": {"legend": {"display": stacked, "align": "end", "labels": {"boxWidth": 10, "color": "#7c8698"}}},
    }
