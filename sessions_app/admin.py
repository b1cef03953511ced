"""Sessions: who talked with which agent, and what was said."""

import json
from typing import Any
from uuid import UUID

from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html

from core.admin.lists import SinceFilter, whole_number
from core.admin.parts import AutocompleteSelectFilter, MultipleChoicesDropdownFilter, display
from sessions_app.admin_sharing import sharing_context, sharing_post
from sessions_app.models import ChatSession, Message
from sessions_app.selectors.participants import confine
from sessions_app.selectors.sessions import message_list, session_get
from sessions_app.texts import text_of
from tenants.admin_base import EventAdmin, actor_of

MESSAGES_PER_PAGE = 100
EXPORTS = (("json", "JSON"), ("markdown", "Markdown"))


class ChatSessionAdmin(EventAdmin):
    perm = "session"
    heading, noun = "Sessions", "session"
    view_template = "operators/session.html"
    list_display = ("title_shown", "agent_link", "end_user", "message_count", "status_label", "last_message_at")
    list_display_links = ("title_shown",)
    list_select_related = ("agent",)
    list_filter = (SinceFilter, ("status", MultipleChoicesDropdownFilter), ("agent", AutocompleteSelectFilter))
    search_fields = ("external_id__exact", "end_user__exact")
    search_ids = ("id",)
    search_help_text = "A session's full id (ours or the client's), or a user"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).defer("metadata")
        return confine(rows, actor=actor_of(request), session="id")

    @display(description="Session")
    def title_shown(self, session: ChatSession) -> str:
        return str(session)

    @display(description="Agent")
    def agent_link(self, session: ChatSession) -> str:
        if session.agent is None:
            return "—"
        link = reverse("admin:agents_agent_change", args=[session.agent_id])
        return format_html('<a class="text-link" href="{}">{}</a>', link, session.agent.slug)

    @display(description="Messages")
    def message_count(self, session: ChatSession) -> int:
        return session.last_seq

    @display(description="Status", label={"open": "success", "closed": "default", "archived": "warning"})
    def status_label(self, session: ChatSession) -> tuple[str, str]:
        return session.status, session.get_status_display()

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        actor = actor_of(request)
        session = session_get(actor=actor, ref=str(obj.id))
        start = whole_number(request.GET.get("after", ""))
        page = list(message_list(actor=actor, session=session).filter(seq__gt=start)[:MESSAGES_PER_PAGE])
        last = page[-1].seq if page else session.last_seq
        return {
            "title": "Session",
            "session": session,
            "exports": [(reverse("admin:session_file", args=[session.id, form]), word) for form, word in EXPORTS],
            "titled_by": session.get_titled_by_display() if session.title else "",
            "forked_from": _link_of(session.forked_from),
            "said": [_shown(message) for message in page],
            "after": start,
            "before": max(0, start - MESSAGES_PER_PAGE) if start else None,
            "next_after": last if last < session.last_seq else None,
            **sharing_context(request, session),
            "metadata": json.dumps(session.metadata, indent=2, ensure_ascii=False) if session.metadata else "",
        }

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method == "POST":
            self.require(request, "session.view")
            sharing_post(request, unquote(object_id))
            return HttpResponseRedirect(self.url("change", object_id))
        return super().change_view(request, object_id, form_url, extra_context)


def _link_of(session_id: UUID | None) -> str:
    return reverse("admin:sessions_app_chatsession_change", args=[session_id]) if session_id else ""


def _shown(message: Message) -> dict[str, Any]:
    calls = message.tool_calls if isinstance(message.tool_calls, list) else []
    return {"message": message, "text": text_of(message.content), "calls": [_call(call) for call in calls]}


def _call(call: Any) -> dict[str, str]:
    function = call.get("function", {}) if isinstance(call, dict) else {}
    return {"name": str(function.get("name", "")), "arguments": str(function.get("arguments", ""))}
