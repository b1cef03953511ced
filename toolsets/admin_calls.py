"""The calls of tools, as operators see them."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from core.admin.lists import SinceFilter
from core.admin.parts import MultipleChoicesDropdownFilter, TextFilter, display
from core.words import counted
from tenants.admin_base import EventAdmin, actor_of, may
from toolsets.models import ToolCall

STATUS_LABELS = {"started": "warning", "succeeded": "success", "failed": "danger"}
SHOWN = 80  # characters of arguments, in the list
MOST_CALLS = 100  # of one run, on its page


class ToolFilter(TextFilter):
    title = "tool (its name)"
    parameter_name = "tool"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(tool=self.value()) if self.value() else queryset


class ToolsetFilter(TextFilter):
    title = "toolset (its slug)"
    parameter_name = "toolset"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(toolset=self.value()) if self.value() else queryset


class ToolCallAdmin(EventAdmin):
    perm = "run"
    heading, noun = "Tool calls", "tool call"
    view_template = "operators/tool_call.html"
    list_display = ("created_at", "called", "began_with", "status_label", "risk", "took", "answered", "asked_by", "run")
    list_display_links = ("created_at",)
    list_filter = (SinceFilter, ("status", MultipleChoicesDropdownFilter), ToolFilter, ToolsetFilter)
    search_ids = ("id", "run_id", "session_id")
    search_help_text = "A call's, run's or session's full id"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        start = Left("arguments", SHOWN + 1)
        rows: QuerySet[Any] = super().get_queryset(request)
        rows = rows.annotate(arguments_start=start)
        return rows.defer("arguments", "result")

    @display(description="Tool", header=True)
    def called(self, call: ToolCall) -> list[str]:
        return [call.tool, call.toolset]

    @display(description="Arguments")
    def began_with(self, call: Any) -> str:
        start: str = call.arguments_start
        return f"{start[:SHOWN]}…" if len(start) > SHOWN else start

    @display(description="Run")
    def run(self, call: ToolCall) -> str:
        if call.run_id is None:
            return "—"
        link = reverse("admin:runs_run_change", args=[call.run_id])
        return format_html('<a class="text-link" href="{}">open</a>', link)

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, call: ToolCall) -> tuple[str, str]:
        return call.status, call.get_status_display()

    @display(description="Took")
    def took(self, call: ToolCall) -> str:
        return took(call)

    @display(description="Answered")
    def answered(self, call: ToolCall) -> str:
        return f"{call.size:,} B"

    @display(description="By")
    def asked_by(self, call: ToolCall) -> str:
        return call.actor_label or "an agent"

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        told = {"took": took(obj), "size": counted(obj.size, "byte"), "cut": len(obj.result.encode()) < obj.size}
        return {"title": "Tool call", "call": obj, "status_variant": STATUS_LABELS[obj.status], **told}


def took(call: ToolCall) -> str:
    return "—" if call.ms is None else f"{call.ms:,} ms"


def run_tool_calls(request: HttpRequest, run_id: UUID) -> dict[str, Any]:
    """What operators/run_tool_calls.html shows of a run."""
    if not may(request, "run.view"):
        return {}
    rows = ToolCall.objects.filter(tenant_id=actor_of(request).tenant_id, run_id=run_id)
    found = list(rows.order_by("created_at", "id").defer("result")[: MOST_CALLS + 1])
    told = [
        {"call": call, "variant": STATUS_LABELS[call.status], "took": took(call), "arguments": call.arguments[:200]}
        for call in found[:MOST_CALLS]
    ]
    return {"tool_calls": told, "more_tool_calls": len(found) > MOST_CALLS}
