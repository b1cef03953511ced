"""The sidebar, the tabs and the words in the frame; every item asks the permission table."""

from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.http import HttpRequest
from django.urls import reverse

from runs.models import Run, ToolApproval
from runs.selectors import confine_runs
from tenants.admin_base import actor_of, may, seen_by
from tenants.principal import Principal

BADGE_SECONDS = 30
BADGE_MOST = 100


def subheader(request: HttpRequest) -> str:
    tenant = getattr(request, "tenant", None)
    return tenant.tenant_name if tenant else ""


def _allowed(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: may(request, permission)


def _item(title: str, icon: str, page: str, permission: str, **more: Any) -> dict[str, Any]:
    link = reverse(f"admin:{page}")
    return {"title": title, "icon": icon, "link": link, "permission": _allowed(permission), **more}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Overview · Build · Operate · Access, and for superusers the way to the platform's site."""
    running, waiting = runs_badge(request), approvals_badge(request)
    badge = {"badge": running, "badge_variant": "info"} if running else {}
    asked = {"badge": waiting, "badge_variant": "warning"} if waiting else {}
    return [
        {"items": [_item("Overview", "monitoring", "index", "run.view")]},
        {
            "title": "Build",
            "items": [
                _item("Agents", "smart_toy", "agents_agent_changelist", "agent.view"),
                _item("Templates", "widgets", "templates", "template.view"),
                _item("Toolsets", "construction", "toolsets_toolset_changelist", "toolset.view"),
                _item("Providers", "dns", "llm_provider_changelist", "provider.view"),
                _item("Routes", "alt_route", "llm_route_changelist", "route.view"),
            ],
        },
        {
            "title": "Operate",
            "items": [
                _item("Runs", "play_circle", "runs_run_changelist", "run.view", **badge),
                _item("Approvals", "how_to_reg", "runs_toolapproval_changelist", "run.view", **asked),
                _item("Tool calls", "build", "toolsets_toolcall_changelist", "run.view"),
                _item("Sessions", "forum", "sessions_app_chatsession_changelist", "session.view"),
                _item("Feedback", "thumbs_up_down", "sessions_app_messagefeedback_changelist", "session.view"),
                _item("Model health", "monitor_heart", "llm_endpointhealth_changelist", "provider.view"),
                _item("Usage", "payments", "usage", "usage.view"),
                _item("Budgets", "savings", "usage_budget_changelist", "budget.view"),
                _item("Prices", "sell", "usage_price_changelist", "price.view"),
            ],
        },
        {
            "title": "Access",
            "items": [
                _item("Members", "group", "tenants_membership_changelist", "member.view"),
                _item("API keys", "key", "tenants_apikey_changelist", "api_key.view"),
                _item("Widgets", "chat", "tenants_publishablekey_changelist", "api_key.view"),
                _item("Audit", "history", "audit_auditevent_changelist", "audit.view"),
            ],
        },
        *([_platform()] if request.user.is_superuser else []),
    ]


def _platform() -> dict[str, Any]:
    return {"title": "Platform", "items": [{"title": "All tenants", "icon": "apartment", "link": "/platform/"}]}


def tabs(request: HttpRequest) -> list[dict[str, Any]]:
    members = [
        ("Members", "tenants.membership", "member.view"),
        ("API keys", "tenants.apikey", "api_key.view"),
        ("Widgets", "tenants.publishablekey", "api_key.view"),
    ]
    providers = [("Providers", "llm.provider", "provider.view"), ("Models", "llm.providermodel", "provider.view")]
    personal = ("Personal credentials", "toolsets.toolsetcredential", "toolset.view")
    toolsets = [("Toolsets", "toolsets.toolset", "toolset.view"), personal]
    return [_tabs(pages) for pages in (members, providers, toolsets) if may(request, pages[0][2])]


def _tabs(pages: list[tuple[str, str, str]]) -> dict[str, Any]:
    items = [
        {
            "title": title,
            "link": _link(f"admin:{model.replace('.', '_')}_changelist"),
            "permission": _allowed(permission),
        }
        for title, model, permission in pages
    ]
    return {"models": [model for _, model, _ in pages], "items": items}


def _link(page: str) -> Callable[[HttpRequest], str]:
    """A callable, so that unfold does not take both tabs' sidebar items for the active one."""
    return lambda request: reverse(page)


def runs_badge(request: HttpRequest) -> str:
    """How many runs are under way, no further than a hundred; empty for none."""
    return _badge(request, "badge:runs", _running)


def approvals_badge(request: HttpRequest) -> str:
    """How many calls of tools wait for a person, no further than a hundred; empty for none."""
    return _badge(request, "badge:approvals", _waiting)


def _badge(request: HttpRequest, key: str, count_of: Callable[[Principal], int]) -> str:
    if not may(request, "run.view"):
        return ""
    actor = actor_of(request)
    count = cache.get_or_set(seen_by(actor, key), lambda: count_of(actor), BADGE_SECONDS)
    return "" if not count else f"{count}" if count < BADGE_MOST else f"{BADGE_MOST}+"


def _running(actor: Principal) -> int:
    under_way = (Run.Status.QUEUED, Run.Status.RUNNING, Run.Status.WAITING)
    rows = Run.objects.filter(tenant_id=actor.tenant_id, status__in=under_way)
    return confine_runs(rows, actor=actor).order_by()[:BADGE_MOST].count()


def _waiting(actor: Principal) -> int:
    asked = ToolApproval.objects.filter(tenant_id=actor.tenant_id, status=ToolApproval.Status.PENDING)
    return confine_runs(asked, actor=actor, run="run__").order_by()[:BADGE_MOST].count()


def platform_sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    pages = [
        ("Tenants", "apartment", "tenants_tenant_changelist", "Rename, suspend and reopen."),
        ("Runs", "play_circle", "runs_run_changelist", "States and figures of every tenant's runs."),
        ("Charge-back", "payments", "chargeback", "What each tenant used in a month, and what it is charged."),
        ("Jobs", "schedule", "procrastinate_procrastinatejob_changelist", "The queue of background work."),
        ("Audit", "history", "audit_auditevent_changelist", "Who did what, in every tenant."),
    ]
    items = [
        {"title": title, "icon": icon, "link": reverse(f"platform:{page}"), "help": text}
        for title, icon, page, text in pages
    ]
    return [{"title": "Platform", "items": items}]
