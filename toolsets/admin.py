"""Toolsets: what agents may use, configured by the kind's schema."""

from typing import Any

from django import forms
from django.http import HttpRequest

from core.admin.parts import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget, display
from core.validation import config_schema
from tenants.admin_base import actor_of
from tenants.admin_schema import SchemaServiceAdmin, SchemaServiceForm, select
from toolsets.models import Toolset
from toolsets.registry import toolset_kinds
from toolsets.services import toolset_create, toolset_delete, toolset_update


class ToolsetForm(SchemaServiceForm):
    chooser = "kind"
    document = "config"

    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget())
    slug = forms.SlugField(
        max_length=63, widget=UnfoldAdminTextInputWidget(), help_text="What agents are granted it by."
    )
    kind = forms.ChoiceField(**select(()))
    enabled = forms.BooleanField(required=False, initial=True, widget=UnfoldBooleanSwitchWidget())

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        if toolset := self.instance:
            self.initial = {name: getattr(toolset, name) for name in ("name", "slug", "kind", "enabled")}
            self.fields["kind"].help_text = "The kind of a toolset cannot change."
        elif self.chosen in toolset_kinds():
            self.fields["kind"].help_text = toolset_kinds()[self.chosen].description

    def choices(self) -> list[tuple[str, str]]:
        toolset = self.instance
        kinds = toolset_kinds().values()
        found = [(kind.slug, kind.title) for kind in kinds if toolset is None or kind.slug == toolset.kind]
        return found or [(toolset.kind, f"{toolset.kind} (not installed)")] if toolset else found

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        kind = toolset_kinds().get(choice)
        return config_schema(kind.Config) if kind else None

    def save(self) -> Toolset:
        found = {**self.cleaned_data, "config": self.document_value()}
        if not self.instance:
            return toolset_create(actor=self.actor, **found)
        del found["kind"]
        return toolset_update(actor=self.actor, ref=str(self.instance.id), changes=found)


class ToolsetAdmin(SchemaServiceAdmin):
    perm = "toolset"
    heading, noun = "Toolsets", "toolset"
    service_form = ToolsetForm
    list_display = ("title", "kind_title", "state", "updated_at")
    search_fields = ("slug__startswith", "name__istartswith")
    search_help_text = "The beginning of a name or slug"
    sortable_by = ()

    @display(description="Toolset", header=True)
    def title(self, toolset: Toolset) -> list[str]:
        return [toolset.name, toolset.slug]

    @display(description="Kind")
    def kind_title(self, toolset: Toolset) -> str:
        kind = toolset_kinds().get(toolset.kind)
        return kind.title if kind else f"{toolset.kind} (not installed)"

    @display(description="State", label={"enabled": "success", "disabled": "default"})
    def state(self, toolset: Toolset) -> str:
        return "enabled" if toolset.enabled else "disabled"

    def delete_through(self, request: HttpRequest, obj: Toolset) -> None:
        toolset_delete(actor=actor_of(request), ref=str(obj.id))
