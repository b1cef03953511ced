"""The two sites: the operators' one, inside a tenant, and the platform's."""

from typing import Any, cast
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path

from agents.admin import AgentAdmin
from agents.models import Agent
from agentsite.admin.login import LoginForm
from agentsite.admin.overview import live
from agentsite.admin.templates import migrate_page, template_page, templates_page
from audit.admin import AuditEventAdmin
from audit.models import AuditEvent
from core.admin.parts import UnfoldAdminSite
from core.errors import InvalidRequest, NotFound
from llm.admin.health import EndpointHealthAdmin
from llm.admin.keys import ProviderKeyAdmin
from llm.admin.models import ProviderModelAdmin
from llm.admin.providers import ProviderAdmin
from llm.admin.routes import RouteAdmin
from llm.models import EndpointHealth, Provider, ProviderKey, ProviderModel, Route
from runs.admin import RunAdmin
from runs.admin_approvals import ToolApprovalAdmin
from runs.models import Run, ToolApproval
from runs.selectors import confine_runs
from sessions_app.admin import ChatSessionAdmin
from sessions_app.admin_feedback import MessageFeedbackAdmin
from sessions_app.admin_widgets import PublishableKeyAdmin
from sessions_app.api.export import session_file
from sessions_app.models import ChatSession, MessageFeedback
from tenants.admin import ApiKeyAdmin, MemberAdmin
from tenants.admin_base import actor_of
from tenants.models import ApiKey, Membership, PublishableKey
from toolsets.admin import ToolsetAdmin
from toolsets.admin_calls import ToolCallAdmin
from toolsets.admin_credentials import ToolsetCredentialAdmin
from toolsets.models import ToolCall, Toolset, ToolsetCredential
from usage.admin import PriceAdmin, UsageRecordAdmin
from usage.admin_budgets import BudgetAdmin
from usage.admin_report import report_page
from usage.admin_subjects import SUBJECTS, Subjects
from usage.models import Budget, Price, UsageRecord

SUBJECTS[Budget.Scope.AGENT] = Subjects("agent", ("slug",), Agent.objects.all)


class OperatorSite(UnfoldAdminSite):
    """Seen at `/t/<tenant>/admin/`; the middleware has set `request.principal`."""

    index_title = "Overview"
    index_template = "operators/overview.html"
    enable_nav_sidebar = True
    login_form = LoginForm

    def has_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and getattr(request, "principal", None) is not None

    def extra_urls(self) -> list[Any]:
        return [
            path("live/", self.admin_view(live), name="live"),
            path("usage-report/", self.admin_view(self.usage), name="usage"),
            path("session/<uuid:ref>/<str:form>/", self.admin_view(self.session_file), name="session_file"),
            path("templates/", self.admin_view(self.templates), name="templates"),
            path("templates/<slug:slug>/", self.admin_view(self.template), name="template"),
            path("templates/<slug:slug>/migrate/", self.admin_view(self.template_migrate), name="template_migrate"),
        ]

    def usage(self, request: HttpRequest) -> HttpResponseBase:
        return report_page(request, self.each_context(request))

    def session_file(self, request: HttpRequest, ref: UUID, form: str) -> HttpResponseBase:
        """The JSON has what was replaced as well."""
        try:
            return session_file(actor=actor_of(request), ref=str(ref), form=form, replaced=form == "json")
        except (NotFound, InvalidRequest):
            raise Http404 from None

    def templates(self, request: HttpRequest) -> HttpResponseBase:
        return templates_page(request, self.each_context(request))

    def template(self, request: HttpRequest, slug: str) -> HttpResponseBase:
        return template_page(request, self.each_context(request), slug)

    def template_migrate(self, request: HttpRequest, slug: str) -> HttpResponseBase:
        return migrate_page(request, self.each_context(request), slug)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        if request.method == "GET" and request.user.is_staff and not request.GET.get("next"):
            return HttpResponseRedirect("/")
        return cast(HttpResponseBase, super().login(request, {"title": "Log in", **(extra_context or {})}))


class SessionToolCallAdmin(ToolCallAdmin):
    """Of the sessions that a person may see, which `toolsets` does not know, and their own trials of tools."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return confine_runs(super().get_queryset(request), actor=actor_of(request))


operator_site = OperatorSite(name="admin")
for model, admin_class in (
    (Agent, AgentAdmin),
    (Toolset, ToolsetAdmin),
    (ToolCall, SessionToolCallAdmin),
    (ToolsetCredential, ToolsetCredentialAdmin),
    (Provider, ProviderAdmin),
    (EndpointHealth, EndpointHealthAdmin),
    (ProviderModel, ProviderModelAdmin),
    (ProviderKey, ProviderKeyAdmin),
    (Route, RouteAdmin),
    (Run, RunAdmin),
    (ToolApproval, ToolApprovalAdmin),
    (ChatSession, ChatSessionAdmin),
    (MessageFeedback, MessageFeedbackAdmin),
    (Membership, MemberAdmin),
    (ApiKey, ApiKeyAdmin),
    (PublishableKey, PublishableKeyAdmin),
    (AuditEvent, AuditEventAdmin),
    (UsageRecord, UsageRecordAdmin),
    (Budget, BudgetAdmin),
    (Price, PriceAdmin),
):
    operator_site.register(model, admin_class)
