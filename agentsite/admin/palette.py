"""What the command palette finds: five of a kind, by the beginning of a name or by a full id."""

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from agents.models import Agent
from core.admin.parts import SearchResult
from core.ids import parse_uuid
from llm.models import Provider, Route
from runs.models import Run
from runs.selectors import confine_runs
from sessions_app.models import ChatSession
from sessions_app.selectors.participants import confine
from tenants.admin_base import actor_of, may
from tenants.models import Membership
from tenants.principal import Principal
from toolsets.models import Toolset
from usage.models import Budget

EACH = 5
Found = Iterable[tuple[Any, str]]


def search(request: HttpRequest, term: str) -> list[SearchResult]:
    """`term` comes in lower case; ids of clients keep theirs, so the request is read."""
    text = request.GET.get("s", term).strip()
    results: list[SearchResult] = []
    for permission, label, icon, page, find in _KINDS:
        if text and may(request, permission):
            for row, title in find(actor_of(request), text):
                link = reverse(f"admin:{page}_change", args=[row.pk])
                results.append(SearchResult(title=title, description=label, link=link, icon=icon))
    return results


def _first(rows: QuerySet[Any], *conditions: Q) -> list[Any]:
    wanted = Q()
    for condition in conditions:
        wanted |= condition
    return list(rows.filter(wanted)[:EACH]) if wanted else []


def _agents(actor: Principal, text: str) -> Found:
    rows = Agent.objects.filter(tenant_id=actor.tenant_id).select_related("version")
    found = _first(rows, Q(slug__startswith=text.lower()), Q(version__name__istartswith=text))
    return [(agent, f"{agent.version.name if agent.version else agent.slug} ({agent.slug})") for agent in found]


def _providers(actor: Principal, text: str) -> Found:
    found = _first(Provider.objects.filter(tenant_id=actor.tenant_id), Q(slug__startswith=text.lower()))
    return [(provider, provider.slug) for provider in found]


def _routes(actor: Principal, text: str) -> Found:
    rows = Route.objects.filter(tenant_id=actor.tenant_id)
    found = _first(rows, Q(slug__startswith=text.lower()), Q(name__istartswith=text))
    return [(route, f"{route.name} ({route.slug})" if route.name else route.slug) for route in found]


def _toolsets(actor: Principal, text: str) -> Found:
    rows = Toolset.objects.filter(tenant_id=actor.tenant_id).defer("learned")
    found = _first(rows, Q(slug__startswith=text.lower()), Q(name__istartswith=text))
    return [(toolset, f"{toolset.name} ({toolset.slug})") for toolset in found]


def _sessions(actor: Principal, text: str) -> Found:
    conditions = [Q(external_id=text), Q(end_user=text)]
    if (id_ := parse_uuid(text)) is not None:
        conditions.append(Q(id=id_))
    rows = confine(ChatSession.objects.filter(tenant_id=actor.tenant_id), actor=actor, session="id")
    found = _first(rows, *conditions)
    return [(session, str(session)) for session in found]


def _runs(actor: Principal, text: str) -> Found:
    id_ = parse_uuid(text)
    rows = confine_runs(Run.objects.filter(tenant_id=actor.tenant_id), actor=actor)
    found = _first(rows, *([Q(id=id_)] if id_ else []))
    return [(run, f"Run {run.id}") for run in found]


def _members(actor: Principal, text: str) -> Found:
    rows = Membership.objects.filter(tenant_id=actor.tenant_id).select_related("user")
    found = _first(rows, Q(user__username__startswith=text), Q(user__email__startswith=text))
    return [(member, member.user.username) for member in found]


def _budgets(actor: Principal, text: str) -> Found:
    found = _first(Budget.objects.filter(tenant_id=actor.tenant_id), Q(slug__startswith=text.lower()))
    return [(budget, budget.slug) for budget in found]


_KINDS: tuple[tuple[str, str, str, str, Callable[[Principal, str], Found]], ...] = (
    ("agent.view", "Agent", "smart_toy", "agents_agent", _agents),
    ("session.view", "Session", "forum", "sessions_app_chatsession", _sessions),
    ("run.view", "Run", "play_circle", "runs_run", _runs),
    ("provider.view", "Provider", "dns", "llm_provider", _providers),
    ("route.view", "Route", "alt_route", "llm_route", _routes),
    ("toolset.view", "Toolset", "construction", "toolsets_toolset", _toolsets),
    ("budget.view", "Budget", "savings", "usage_budget", _budgets),
    ("member.view", "Member", "person", "tenants_membership", _members),
)
