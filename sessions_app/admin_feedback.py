"""What people think of answers, as operators see it."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from core.admin.lists import SinceFilter
from core.admin.parts import MultipleChoicesDropdownFilter, TextFilter, display
from sessions_app.models import MessageFeedback
from sessions_app.selectors.feedback import feedback_totals
from sessions_app.selectors.participants import confine
from sessions_app.texts import text_of
from tenants.admin_base import EventAdmin, actor_of

RATING_LABELS = {"up": "success", "down": "danger"}
_SHOWN = 120  # characters of an answer, and of a comment


class AgentFilter(TextFilter):
    title = "agent (its slug)"
    parameter_name = "agent"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(message__agent_version__agent__slug=self.value()) if self.value() else queryset


class MessageFeedbackAdmin(EventAdmin):
    perm = "session"
    heading, noun = "Feedback", "feedback"
    view_template = "operators/feedback.html"
    list_display = ("created_at", "rating_label", "comment_shown", "answer", "agent", "given_by")
    list_display_links = ("created_at",)
    list_select_related = ("message__agent_version__agent",)
    list_filter = (SinceFilter, ("rating", MultipleChoicesDropdownFilter), AgentFilter)
    search_fields = ("label__exact",)
    search_ids = ("id", "message_id", "message__session_id")
    search_help_text = "A message's or session's full id, or who gave it"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return confine(super().get_queryset(request), actor=actor_of(request), session="message__session_id")

    @display(description="Rating", label=RATING_LABELS)
    def rating_label(self, feedback: MessageFeedback) -> tuple[str, str]:
        return feedback.rating, feedback.get_rating_display()

    @display(description="Comment")
    def comment_shown(self, feedback: MessageFeedback) -> str:
        return feedback.comment[:_SHOWN] or "—"

    @display(description="Answer")
    def answer(self, feedback: MessageFeedback) -> str:
        text = " ".join(text_of(feedback.message.content).split())[:_SHOWN] or "no words"
        return format_html('<a class="text-link" href="{}">{}</a>', message_url(feedback), text)

    @display(description="Agent")
    def agent(self, feedback: MessageFeedback) -> str:
        version = feedback.message.agent_version
        return f"{version.agent.slug} v{version.number}" if version else "—"

    @display(description="By")
    def given_by(self, feedback: MessageFeedback) -> str:
        return feedback.label

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        version = obj.message.agent_version
        return {
            "title": "Feedback",
            "changed": obj.updated_at - obj.created_at > timedelta(seconds=1),
            "totals": feedback_totals(actor=actor_of(request), agent_id=version.agent_id) if version else None,
            "feedback": obj,
            "variant": RATING_LABELS[obj.rating],
            "text": text_of(obj.message.content),
            "agent": self.agent(obj),
            "message_url": message_url(obj),
        }


def message_url(feedback: MessageFeedback) -> str:
    """The page of its session that begins with the message."""
    message = feedback.message
    page = reverse("admin:sessions_app_chatsession_change", args=[message.session_id])
    return f"{page}?after={message.seq - 1}"
