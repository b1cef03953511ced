"""The platform's site: all tenants, for superusers, on the `ops` alias; a look at a tenant's rows is audited there."""

from functools import update_wrapper
from typing import Any, ClassVar, cast

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from agentsite.admin.chargeback import chargeback
from agentsite.admin.login import LoginForm
from agentsite.admin.refusals import refusal
from audit.admin import ActionFilter
from audit.models import AuditEvent
from core import audit
from core.admin.diff import changes
from core.admin.lists import NOT_LATELY, PER_PAGE, CappedPaginator, SinceFilter
from core.admin.parts import (
    ModelAdmin,
    MultipleChoicesDropdownFilter,
    ShowFacets,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSite,
    display,
)
from core.tenant import tenant_context
from runs.admin import STATUS_LABELS, duration
from runs.models import Run
from tenants.models import Tenant
from tenants.principal import Principal
from tenants.services import MAX_TENANT_RUNS, tenant_update

OPS = "ops"
REFUSED = "The platform's pages are for superusers; you are signed in as somebody else."


class PlatformSite(UnfoldAdminSite):
    settings_name = "UNFOLD_PLATFORM"
    index_title = "Platform"
    index_template = "operators/platform.html"
    login_form = LoginForm

    def has_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Who is signed in and no superuser is told so: a login form would not help them."""
        guarded = super().admin_view(view, cacheable)

        def guard(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.user.is_authenticated and not self.has_permission(request):
                return refusal(request, 403, REFUSED)
            return cast(HttpResponse, guarded(request, *args, **kwargs))

        return update_wrapper(guard, guarded)

    def extra_urls(self) -> list[Any]:
        return [path("charge-back/", self.admin_view(self.chargeback), name="chargeback")]

    def chargeback(self, request: HttpRequest) -> HttpResponseBase:
        def look(tenant: Tenant) -> None:
            record_look(request, tenant, tenant, "view_charge_back")

        return chargeback(request, self.each_context(request), look)


def staff_principal(request: HttpRequest, tenant: Tenant) -> Principal:
    """Platform staff as the actor in a tenant's audit trail."""
    label = f"platform: {request.user.get_username()}"
    return Principal(tenant.id, tenant.slug, "user", request.user.pk, label, "owner")


def record_look(request: HttpRequest, tenant: Tenant, target: Any, what: str) -> None:
    with tenant_context(tenant.id):
        audit.record(actor=staff_principal(request, tenant), action=f"platform.{what}", target=target)


class PlatformAdmin(ModelAdmin):
    """Read-only, through `ops`: an object from there is never assigned to one of `default`."""

    using = OPS
    heading: ClassVar[str]
    noun: ClassVar[str]
    empty_value_display = "—"
    actions = None
    list_per_page = PER_PAGE
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_filter_submit = True
    list_fullwidth = True
    paginator = CappedPaginator
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._default_manager.using(self.using)
        return rows.order_by(*self.get_ordering(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        raise PermissionDenied

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        raise PermissionDenied

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        raise PermissionDenied

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(db_field, request, using=self.using, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, using=self.using, **kwargs)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(self.admin_site.has_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.admin_site.has_permission(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def log_addition(self, *args: Any) -> None:
        """Audit events take the place of Django's log."""

    log_change = log_deletions = log_addition


class TenantRowAdmin(PlatformAdmin):
    """Rows of tenants: the tenants whose rows are shown find that in their audit trail."""

    ordering = ("-created_at", "-id")
    empty_note = NOT_LATELY
    list_select_related = ("tenant",)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response: Any = super().changelist_view(request, extra_context)
        changelist = getattr(response, "context_data", {}).get("cl")
        shown = {row.tenant_id: row.tenant for row in changelist.result_list} if changelist else {}
        for tenant in shown.values():
            record_look(request, tenant, tenant, f"list_{self.opts.model_name}")
        return response  # type: ignore[no-any-return]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        obj = self.get_object(request, object_id) if self.has_view_permission(request) else None
        if obj is not None:
            record_look(request, obj.tenant, obj, f"view_{self.opts.model_name}")
        return super().change_view(request, object_id, form_url, extra_context)  # type: ignore[no-any-return]


class TenantForm(forms.ModelForm):
    max_concurrent_runs = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_TENANT_RUNS,
        widget=UnfoldAdminIntegerFieldWidget(),
        label="Runs at once",
        help_text=f"Of all its agents together; empty: the platform's default, {settings.TENANT_CONCURRENT_RUNS}.",
    )


class TenantAdmin(PlatformAdmin):
    heading, noun = "Tenants", "tenant"
    form = TenantForm
    list_display = ("name", "slug", "state", "created_at")
    fields = ("name", "slug", "status", "max_concurrent_runs", "created_at")
    readonly_fields = ("slug", "created_at")
    search_fields = ("slug__startswith", "name__istartswith")
    ordering = ("slug",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.admin_site.has_permission(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        actor = staff_principal(request, obj)
        with tenant_context(obj.id):
            tenant_update(actor=actor, changes={name: form.cleaned_data[name] for name in form.changed_data})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        tenant = self.get_object(request, object_id) if self.has_view_permission(request) else None
        if tenant is not None and request.method == "GET":
            record_look(request, tenant, tenant, "view_tenant")
        return super().change_view(request, object_id, form_url, extra_context)  # type: ignore[no-any-return]

    @display(description="Status", label={"active": "success", "suspended": "danger"})
    def state(self, tenant: Tenant) -> tuple[str, str]:
        return tenant.status, tenant.get_status_display()


class PlatformRunAdmin(TenantRowAdmin):
    """States and figures; what was said stays with the tenant."""

    heading, noun = "Runs", "run"
    list_display = ("created_at", "tenant", "status_label", "model", "source", "took", "error_code")
    list_filter = (SinceFilter, ("status", MultipleChoicesDropdownFilter))
    fields = (
        "tenant",
        "status",
        "model",
        "source",
        "started_at",
        "finished_at",
        "first_token",
        "prompt_tokens",
        "completion_tokens",
        "finish_reason",
        "error_code",
        "error_message",
    )
    readonly_fields = ("first_token",)

    @display(description="First token")
    def first_token(self, run: Run) -> str:
        return "—" if run.first_token_ms is None else f"{run.first_token_ms:,} ms"

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, run: Run) -> tuple[str, str]:
        return run.status, run.get_status_display()

    @display(description="Took")
    def took(self, run: Run) -> str:
        return duration(run)


class PlatformAuditAdmin(TenantRowAdmin):
    heading, noun = "Audit", "audit event"
    list_display = ("created_at", "tenant", "actor_label", "action", "object_label", "address")
    list_filter = (SinceFilter, ActionFilter)
    fields = (
        "tenant",
        "created_at",
        "actor_label",
        "actor_kind",
        "action",
        "object_type",
        "object_id",
        "changed",
        "address",
    )
    readonly_fields = ("changed", "address")

    @display(description="IP")
    def address(self, event: AuditEvent) -> str:
        return event.ip or "—"

    @display(description="Changed")
    def changed(self, event: AuditEvent) -> str:
        return ", ".join(change.path for change in changes(event.before, event.after)) or "—"


class JobAdmin(PlatformAdmin):
    """The queue; arguments may hold what a tenant said, so they are not shown."""

    heading, noun = "Jobs", "job"
    list_display = ("id", "task_name", "state", "queue_name", "attempts", "enqueued", "started")
    list_filter = ("status", "queue_name")
    fields = (
        "id",
        "task_name",
        "status",
        "queue_name",
        "priority",
        "attempts",
        "enqueued",
        "scheduled_at",
        "started",
        "lock",
    )
    readonly_fields = ("enqueued", "started")
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        events = ProcrastinateEvent.objects.using(self.using).filter(job_id=OuterRef("pk"))
        times = {
            name: Subquery(events.filter(type=kind).order_by("-id").values("at")[:1])
            for name, kind in (("deferred_at", "deferred"), ("begun_at", "started"))
        }
        jobs: QuerySet[Any] = super().get_queryset(request).annotate(**times)
        return jobs

    @display(description="Enqueued")
    def enqueued(self, job: Any) -> Any:
        return job.deferred_at

    @display(description="Last attempt")
    def started(self, job: Any) -> Any:
        return job.begun_at

    @display(
        description="Status",
        label={"todo": "default", "doing": "info", "succeeded": "success", "failed": "danger", "aborted": "warning"},
    )
    def state(self, job: ProcrastinateJob) -> str:
        return str(job.status)


platform_site = PlatformSite(name="platform")
for model, admin_class in (
    (Tenant, TenantAdmin),
    (Run, PlatformRunAdmin),
    (ProcrastinateJob, JobAdmin),
    (AuditEvent, PlatformAuditAdmin),
):
    platform_site.register(model, admin_class)
