"""Publishable keys: which pages may show a widget, of which agent, and the tag for them to copy."""

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from agents.selectors import agent_list
from core.admin.parts import (
    ActionVariant,
    BaseDialogForm,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    action,
    display,
)
from sessions_app.services.widgets import (
    MAX_PER_MINUTE,
    publishable_key_create,
    publishable_key_revoke,
    publishable_key_update,
)
from tenants.admin_base import ServiceAdmin, ServiceForm, actor_of, run_dialog
from tenants.models import PublishableKey

FIELDS = ("name", "agent", "origins", "visitors_per_minute", "messages_per_minute")


def snippet_of(key: PublishableKey) -> str:
    """The HTML that a page needs to show the widget."""
    module = f"{settings.BASE_URL}{settings.STATIC_URL}chat/agent-chat.js"
    return f'<script type="module" src="{module}"></script>\n<agent-chat key="{key.token}"></agent-chat>'


def _per_minute(label: str, initial: int, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        min_value=1,
        max_value=MAX_PER_MINUTE,
        initial=initial,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=help_text,
    )


class PublishableKeyForm(ServiceForm):
    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget(), help_text="Where it will be used.")
    agent = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget(), help_text="The one agent that visitors talk with; it must be active."
    )
    origins = forms.CharField(
        max_length=4500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="The pages that may show the widget, such as https://shop.example: one on each line.",
    )
    visitors_per_minute = _per_minute("New visitors a minute", 30, "From one address.")
    messages_per_minute = _per_minute("Messages a minute", 20, "Of one visitor.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        slugs = list(agent_list(actor=self.actor).order_by("slug").values_list("slug", flat=True))
        if key := self.instance:
            self.initial = {name: getattr(key, name) for name in FIELDS} | {"origins": "\n".join(key.origins)}
            slugs += [] if key.agent in slugs else [key.agent]
        agent: Any = self.fields["agent"]
        agent.choices = [(slug, slug) for slug in slugs]

    def clean_origins(self) -> list[str]:
        return str(self.cleaned_data["origins"]).replace(",", " ").split()

    def save(self) -> PublishableKey:
        if self.instance is None:
            return publishable_key_create(actor=self.actor, **self.cleaned_data)
        return publishable_key_update(actor=self.actor, ref=str(self.instance.id), changes=self.cleaned_data)


class PublishableKeyAdmin(ServiceAdmin):
    perm = "api_key"
    heading, noun = "Widgets", "publishable key"
    empty_hint = "A publishable key puts a chat with one agent on the pages of another site."
    service_form = PublishableKeyForm
    change_form_outer_after_template = "operators/publishable_key.html"
    list_display = ("title", "agent", "pages", "state", "created_by", "created_at")
    search_fields = ("name__startswith", "token__exact")
    search_help_text = "The beginning of a name, or a whole key"
    sortable_by = ()
    actions_detail = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.revoked_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_add_permission(request)

    @display(description="Key", header=True)
    def title(self, key: PublishableKey) -> list[str]:
        return [key.name, key.token]

    @display(description="Pages")
    def pages(self, key: PublishableKey) -> str:
        return ", ".join(key.origins)

    @display(description="State", label={"active": "success", "revoked": "danger"})
    def state(self, key: PublishableKey) -> str:
        return "revoked" if key.revoked_at else "active"

    def form_context(self, request: HttpRequest, form: ServiceForm, obj: PublishableKey | None) -> dict[str, Any]:
        return {"key": obj, "snippet": snippet_of(obj) if obj else ""}

    def after_save(self, request: HttpRequest, form: ServiceForm, saved: Any, add: bool) -> HttpResponse:
        answer = super().after_save(request, form, saved, add)
        if add and "_addanother" not in request.POST:
            answer["Location"] = self.url("change", saved.pk)  # where the tag to copy is
        return answer

    @action(
        description="Revoke",
        icon="block",
        variant=ActionVariant.DANGER,
        permissions=["revoke"],
        dialog={
            "title": "Revoke this key?",
            "description": "It and all its visitors are refused within five seconds, for good.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            return f"The key “{publishable_key_revoke(actor=actor_of(request), ref=object_id)}” was revoked."

        return run_dialog(request, self.url("change", object_id), work)
