"""Runs: what was asked of agents, how it went, and where the time went."""

from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from core.admin.lists import SinceFilter, whole_number
from core.admin.parts import (
    ActionVariant,
    AutocompleteSelectFilter,
    BaseDialogForm,
    MultipleChoicesDropdownFilter,
    action,
    display,
)
from runs import runner
from runs.models import Run, RunEvent
from runs.selectors import approval_list, confine_runs, run_get
from runs.timeline import MOST_SPANS, ROWS_PER_PAGE, rows, spans
from tenants.admin_base import EventAdmin, actor_of, may, run_dialog
from toolsets.admin_calls import run_tool_calls
from usage.admin import run_calls

STATUS_LABELS = {
    "queued": "default",
    "running": "info",
    "waiting": "warning",
    "succeeded": "success",
    "failed": "danger",
    "cancelled": "warning",
    "expired": "danger",
}
MOST_APPROVALS = 20  # of one run, on its page
_SPAN_EVENTS = (
    "TEXT_MESSAGE_START",
    "TEXT_MESSAGE_END",
    "REASONING_START",
    "REASONING_END",
    "TOOL_CALL_START",
    "TOOL_CALL_END",
    "TOOL_CALL_RESULT",
    "STEP_STARTED",
    "STEP_FINISHED",
    "RUN_STARTED",
    "RUN_FINISHED",
    "RUN_ERROR",
)


def duration(run: Run) -> str:
    if not run.started_at or not run.finished_at:
        return "—"
    seconds = (run.finished_at - run.started_at).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


class RunAdmin(EventAdmin):
    perm = "run"
    heading, noun = "Runs", "run"
    view_template = "operators/run.html"
    list_display = ("created_at", "status_label", "agent", "model", "source", "took", "first_token", "tokens")
    list_display_links = ("created_at",)
    list_select_related = ("agent_version__agent",)
    list_filter = (
        SinceFilter,
        ("status", MultipleChoicesDropdownFilter),
        ("agent_version__agent", AutocompleteSelectFilter),
    )
    search_fields = ("end_user__exact",)
    search_ids = ("id", "session_id")
    search_help_text = "A run's or session's full id, or a user"
    actions_detail = ("cancel",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return confine_runs(super().get_queryset(request), actor=actor_of(request))

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, run: Run) -> tuple[str, str]:
        return run.status, run.get_status_display()

    @display(description="Agent")
    def agent(self, run: Run) -> str:
        version = run.agent_version
        if version is None:
            return "—"
        link = reverse("admin:agents_agent_change", args=[version.agent_id])
        return format_html('<a class="text-link" href="{}">{}</a> v{}', link, version.agent.slug, version.number)

    @display(description="Took")
    def took(self, run: Run) -> str:
        return duration(run)

    @display(description="First token")
    def first_token(self, run: Run) -> str:
        return "—" if run.first_token_ms is None else f"{run.first_token_ms:,} ms"

    @display(description="Tokens")
    def tokens(self, run: Run) -> str:
        return f"{run.prompt_tokens + run.completion_tokens}"

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        run = run_get(actor=actor_of(request), ref=str(obj.id))
        events = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day).order_by("seq")
        start = whole_number(request.GET.get("after", ""))
        page = list(events.filter(seq__gt=start)[:ROWS_PER_PAGE])
        marks = events.filter(type__in=_SPAN_EVENTS)[: MOST_SPANS * 2]
        return {
            "title": "Run",
            "run": run,
            "took": duration(run),
            "status_variant": STATUS_LABELS[run.status],
            "spans": spans(run, marks),
            "rows": rows(run, page),
            "after": start,
            "next_after": page[-1].seq if page and page[-1].seq < run.last_seq else None,
            **run_calls(request, run.id),
            **run_tool_calls(request, run.id),
            "approvals": approval_list(actor=actor_of(request), status="pending", run_id=str(run.id))[:MOST_APPROVALS],
            "actions_detail": [] if run.is_finished else self.detail_actions(request, str(run.id)),
        }

    def has_cancel_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "run.cancel")

    @action(
        description="Cancel run",
        icon="cancel",
        variant=ActionVariant.DANGER,
        permissions=["cancel"],
        dialog={
            "title": "Stop this run?",
            "description": "Its model call is closed at once; what was said so far is kept.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Stop the run",
        },
    )
    def cancel(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            run = async_to_sync(runner.stop)(actor=actor_of(request), ref=object_id)
            return "The run was stopped." if run.is_finished else "The run was asked to stop."

        return run_dialog(request, self.url("change", object_id), work)
