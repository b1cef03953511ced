"""What runs ask persons about calls of tools: a list, and a page on which to decide."""

from typing import Any

import orjson
from asgiref.sync import async_to_sync
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from core.admin.lists import SinceFilter
from core.admin.parts import (
    AdminForm,
    MultipleChoicesDropdownFilter,
    UnfoldAdminTextareaWidget,
    display,
)
from core.errors import ApplicationError
from runs import runner
from runs.models import ToolApproval
from runs.selectors import confine_runs
from runs.services.approvals import MAX_ARGUMENTS, MAX_COMMENT, Decision
from tenants.admin_base import EventAdmin, actor_of, may
from tenants.permissions import RANK

STATUS_LABELS = {
    "pending": "warning",
    "approved": "success",
    "denied": "danger",
    "expired": "danger",
    "withdrawn": "default",
}


class DecisionForm(forms.Form):
    """In areas of text, where Enter sends nothing: nobody shall approve by a slip."""

    arguments = forms.CharField(
        max_length=MAX_ARGUMENTS,
        label="Arguments",
        help_text="As JSON. What you change here is what the tool gets.",
        widget=UnfoldAdminTextareaWidget(attrs={"spellcheck": "false"}),
    )
    comment = forms.CharField(
        required=False,
        max_length=MAX_COMMENT,
        label="Comment",
        help_text="The model is told it when you deny; it is kept in the audit.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )

    def __init__(self, data: Any, approval: ToolApproval) -> None:
        shown = orjson.dumps(orjson.loads(approval.arguments), option=orjson.OPT_INDENT_2).decode()
        super().__init__(data, initial={"arguments": shown})
        self.fields["arguments"].widget.attrs["rows"] = min(20, shown.count("\n") + 2)
        if approval.reason == ToolApproval.Reason.UNKNOWN:
            self.fields["arguments"].disabled = True
            self.fields["arguments"].help_text = "The call may have been made with these already."

    def clean_arguments(self) -> dict[str, Any]:
        try:
            given = orjson.loads(self.cleaned_data["arguments"])
            orjson.dumps(given)  # what nests too deeply can be read and not written
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            given = None
        if not isinstance(given, dict):
            raise forms.ValidationError("The arguments are a JSON object.")
        return given

    def decision(self, approval: ToolApproval, *, approved: bool) -> Decision:
        """Arguments that stay as they were are no edit: the service sees that."""
        arguments = orjson.dumps(self.cleaned_data["arguments"]).decode()
        return Decision(str(approval.id), approved, arguments, self.cleaned_data["comment"])


class ToolApprovalAdmin(EventAdmin):
    perm = "run"
    heading, noun = "Approvals", "approval"
    view_template = "operators/approval.html"
    list_display = ("created_at", "called", "status_label", "agent", "why", "expires_at", "decided")
    list_display_links = ("created_at",)
    list_filter = (SinceFilter, ("status", MultipleChoicesDropdownFilter))
    search_fields = ("tool__exact",)
    search_ids = ("id", "run_id")
    search_help_text = "A tool's name, an approval's or run's full id"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("run")
        return confine_runs(rows, actor=actor_of(request), run="run__")

    @display(description="Tool", header=True)
    def called(self, approval: ToolApproval) -> list[str]:
        return [approval.tool, approval.toolset]

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, approval: ToolApproval) -> tuple[str, str]:
        return approval.status, approval.status.capitalize()

    @display(description="Why")
    def why(self, approval: ToolApproval) -> str:
        return approval.reason

    @display(description="Decided by")
    def decided(self, approval: ToolApproval) -> str:
        return approval.decided_by_label or "—"

    def view_context(self, request: HttpRequest, obj: ToolApproval) -> dict[str, Any]:
        form = DecisionForm(request.POST if request.method == "POST" else None, obj)
        open_ = obj.status == ToolApproval.Status.PENDING and not obj.run.is_finished
        return {
            "title": "Approval",
            "approval": obj,
            "form": form,
            "fieldsets": AdminForm(form, [(None, {"fields": list(form.fields)})], {}, model_admin=self),
            "status_variant": STATUS_LABELS[obj.status],
            "decides": open_ and may(request, "tool.approve") and RANK[actor_of(request).role] >= RANK[obj.role],
            "open": open_,
        }

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        shown = super().change_view(request, object_id, form_url, extra_context)
        context = getattr(shown, "context_data", None)
        if request.method == "POST" and context is not None and self._decided(request, context):
            return HttpResponseRedirect(self.url("change", object_id))
        return shown

    def _decided(self, request: HttpRequest, context: dict[str, Any]) -> bool:
        form, approval = context["form"], context["approval"]
        said = request.POST.get("decision")
        if not form.is_valid() or said not in ("approve", "deny"):
            return False
        decision = form.decision(approval, approved=said == "approve")
        try:
            work = async_to_sync(runner.resume)
            work(actor=actor_of(request), ref=str(approval.run_id), decisions=[decision])
        except ApplicationError as error:
            messages.error(request, error.message)
            return error.status == 409  # shown as it was decided meanwhile
        messages.success(
            request, "Approved: the run goes on." if decision.approved else "Denied: the model is told so."
        )
        return True
