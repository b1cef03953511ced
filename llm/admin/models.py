"""The models of the providers: what is known of each, and what the tenant says otherwise."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from core.admin.parts import (
    DropdownFilter,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    display,
)
from llm.capabilities import capabilities_with
from llm.catalog.matrix import FEATURES, Capabilities
from llm.models import ProviderModel
from llm.selectors.providers import provider_list
from llm.services.models import model_create, model_delete, model_update
from llm.validation.models import MAX_NAME, ModelOverrides
from tenants.admin_base import actor_of
from tenants.admin_schema import SchemaServiceAdmin, SchemaServiceForm, select

FEATURE_LABELS = {
    "tools": "tools",
    "parallel_tools": "parallel",
    "json_schema": "schema",
    "vision": "vision",
    "audio": "audio",
    "documents": "documents",
    "reasoning": "reasoning",
}
ENABLED_LABELS = {"on": "success", "off": "default"}


class ModelForm(SchemaServiceForm):
    chooser = "provider"
    document = "overrides"

    provider = forms.ChoiceField(**select(()))
    name = forms.CharField(
        max_length=MAX_NAME, widget=UnfoldAdminTextInputWidget(), help_text="The provider's own name for it."
    )
    enabled = forms.BooleanField(
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Agents and requests may use it.",
    )

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        if model := self.instance:
            self.fields.pop("name")
            self.initial = {"provider": model.provider.slug, "enabled": model.enabled}

    def choices(self) -> list[tuple[str, str]]:
        if self.instance:
            return [(self.instance.provider.slug, self.instance.provider.slug)]
        return [(provider.slug, provider.slug) for provider in provider_list(actor=self.actor)]

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        """Each field says what counts while it is left empty."""
        schema = ModelOverrides.model_json_schema()
        if self.instance:
            known = capabilities_with(self.instance.provider, self.instance.name, {})
            for name, field in schema["properties"].items():
                field["description"] += f" Known now: {_word(getattr(known, name))}. Leave empty to keep that."
        return schema

    def save(self) -> ProviderModel:
        found, overrides = self.cleaned_data, self.document_value()
        if model := self.instance:
            changes: Any = {"enabled": found["enabled"], "overrides": overrides}
            return model_update(actor=self.actor, ref=model.provider.slug, name=model.name, changes=changes)
        return model_create(
            actor=self.actor, ref=self.chosen, name=found["name"], overrides=overrides, enabled=found["enabled"]
        )


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value is None else f"{value:,f}" if not isinstance(value, int) else f"{value:,}"


class ProviderFilter(DropdownFilter):
    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(provider.slug, provider.slug) for provider in provider_list(actor=actor_of(request))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ProviderModel]) -> QuerySet[ProviderModel]:
        return queryset.filter(provider__slug=self.value()) if self.value() else queryset


class ProviderModelAdmin(SchemaServiceAdmin):
    perm = "provider"
    heading, noun = "Models", "model"
    service_form = ModelForm
    document_title = "What you know better"
    list_display = ("name", "of_provider", "can", "context", "longest", "price", "origin", "switch")
    list_select_related = ("provider",)
    list_filter = (ProviderFilter,)
    search_fields = ("name__icontains",)
    search_help_text = "A part of a name"
    sortable_by = ()

    @display(description="Provider")
    def of_provider(self, model: ProviderModel) -> str:
        return model.provider.slug

    @display(description="Can")
    def can(self, model: ProviderModel) -> str:
        able = _able(model)
        found = [(FEATURE_LABELS[name],) for name in FEATURES if getattr(able, name)]
        badges = format_html_join("", '<span class="badge">{}</span>', found)
        return format_html('<span class="badges">{}</span>', badges) if found else "—"

    @display(description="Context")
    def context(self, model: ProviderModel) -> str:
        return _count(_able(model).context_tokens)

    @display(description="Output")
    def longest(self, model: ProviderModel) -> str:
        return _count(_able(model).output_tokens)

    @display(description="USD per million")
    def price(self, model: ProviderModel) -> str:
        able = _able(model)
        if able.input_price is None or able.output_price is None:
            return "—"
        return f"{able.input_price.normalize():f} in, {able.output_price.normalize():f} out"

    @display(description="From")
    def origin(self, model: ProviderModel) -> str:
        found = "entered" if model.entered else "found"
        return f"{found}, corrected" if model.overrides else found

    @display(description="Use", label=ENABLED_LABELS)
    def switch(self, model: ProviderModel) -> tuple[str, str]:
        return ("on", "On") if model.enabled else ("off", "Off")

    def delete_through(self, request: HttpRequest, obj: ProviderModel) -> None:
        model_delete(actor=actor_of(request), ref=obj.provider.slug, name=obj.name)


def _able(model: ProviderModel) -> Capabilities:
    return capabilities_with(model.provider, model.name, model.overrides)


def _count(tokens: int | None) -> str:
    return "—" if tokens is None else f"{tokens:,}"
