"""Who changed what, when."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from audit.models import AuditEvent
from core.admin.diff import changes
from core.admin.lists import SinceFilter
from core.admin.parts import TextFilter, display
from tenants.admin_base import EventAdmin


def words(name: str) -> str:
    return name.replace("_", " ").replace("api key", "API key")


class ActorFilter(TextFilter):
    title = "actor"
    parameter_name = "actor"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor_label__startswith=self.value()) if self.value() else queryset


class ActionFilter(TextFilter):
    title = "action (its beginning)"
    parameter_name = "action"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(action__startswith=self.value()) if self.value() else queryset


class ObjectFilter(TextFilter):
    title = "object (the beginning of its name)"
    parameter_name = "object"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(object_label__startswith=self.value()) if self.value() else queryset


class AuditEventAdmin(EventAdmin):
    perm = "audit"
    heading, noun = "Audit", "audit event"
    view_template = "operators/audit_event.html"
    list_display = ("created_at", "actor", "action", "target", "address")
    list_display_links = ("created_at",)
    list_filter = (SinceFilter, ActorFilter, ActionFilter, ObjectFilter)
    search_fields = ("object_id__exact", "request_id__exact", "action__startswith")
    search_help_text = "An object's id, a request id, or the beginning of an action"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("before", "after")

    @display(description="Actor", header=True)
    def actor(self, event: AuditEvent) -> list[str]:
        return [event.actor_label, words(event.actor_kind)]

    @display(description="Object", header=True)
    def target(self, event: AuditEvent) -> list[str]:
        return [event.object_label, words(event.object_type)]

    @display(description="Address")
    def address(self, event: AuditEvent) -> str:
        return event.ip or "—"

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return {
            "title": "Audit event",
            "event": obj,
            "object_words": words(obj.object_type),
            "actor_words": words(obj.actor_kind),
            "changes": changes(obj.before, obj.after),
        }
