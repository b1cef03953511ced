"""Further keys of providers, reached from the provider's page."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict

from core.admin.parts import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    display,
)
from core.ids import parse_uuid
from llm.models import Provider, ProviderKey
from llm.providers import provider_kind
from llm.providers.base import LIMITS
from llm.selectors.providers import provider_list
from llm.services.keys import MAX_LABEL, key_create, key_delete, key_update
from tenants.admin_base import ServiceAdmin, ServiceForm, actor_of
from tenants.admin_schema import select


def limit_field(name: str, label: str) -> forms.IntegerField:
    return forms.IntegerField(
        required=False,
        min_value=1,
        max_value=LIMITS[name],
        label=label,
        help_text="Empty where no limit is known.",
        widget=UnfoldAdminIntegerFieldWidget(),
    )


class ProviderKeyForm(ServiceForm):
    provider = forms.ChoiceField(**select(()))
    label = forms.CharField(
        max_length=MAX_LABEL, widget=UnfoldAdminTextInputWidget(), help_text="Shown in reasons and records."
    )
    api_key = forms.CharField(
        label="API key",
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
    )
    rpm = limit_field("rpm", "Requests a minute")
    tpm = limit_field("tpm", "Tokens a minute")
    concurrent = limit_field("concurrent", "Calls at once")
    enabled = forms.BooleanField(required=False, initial=True, widget=UnfoldBooleanSwitchWidget())

    def __init__(self, *args: Any, chosen: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        provider: Any = self.fields["provider"]
        provider.choices = [(str(row.id), row.slug) for row in self._providers()]
        provider.initial = chosen
        if key := self.instance:
            names = ("label", *LIMITS, "enabled")
            self.initial = {"provider": str(key.provider_id), **{name: getattr(key, name) for name in names}}
            provider.disabled = True
            self.fields["api_key"].required = False
            last = f", ends in …{key.secret_last4}" if key.secret_last4 else ""
            self.fields["api_key"].widget.attrs["placeholder"] = f"stored{last}; type to replace"

    def _providers(self) -> list[Provider]:
        """Those whose kind takes keys."""
        rows = provider_list(actor=self.actor)
        return [row for row in rows if (kind := provider_kind(row.kind)) is None or kind.api_key != "none"]

    def save(self) -> ProviderKey:
        found = dict(self.cleaned_data)
        provider = found.pop("provider")
        if self.instance:
            return key_update(actor=self.actor, provider=provider, ref=str(self.instance.id), changes=found)
        return key_create(actor=self.actor, provider=provider, **found)


class ProviderKeyAdmin(ServiceAdmin):
    perm = "provider"
    heading, noun = "Provider keys", "provider key"
    service_form = ProviderKeyForm
    list_display = ("title", "state", "secret_hint", "limits", "updated_at")
    list_select_related = ("provider",)
    search_fields = ("label__startswith", "provider__slug__startswith")
    search_help_text = "The beginning of a label or of a provider's slug"
    sortable_by = ()

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "provider__id__exact" or super().lookup_allowed(lookup, value, request)

    def build_form(self, request: HttpRequest, obj: Any) -> ProviderKeyForm:
        data = request.POST if request.method == "POST" else None
        return ProviderKeyForm(data, actor=actor_of(request), instance=obj, chosen=_asked_provider(request))

    def after_save(self, request: HttpRequest, form: Any, saved: ProviderKey, add: bool) -> HttpResponse:
        response = super().after_save(request, form, saved, add)
        if "_continue" in request.POST or "_addanother" in request.POST:
            return response
        return HttpResponseRedirect(f"{self.url('changelist')}?provider__id__exact={saved.provider_id}")

    @display(description="Key", header=True)
    def title(self, key: ProviderKey) -> list[str]:
        return [key.label, key.provider.slug]

    @display(description="State", label={"enabled": "success", "disabled": "default"})
    def state(self, key: ProviderKey) -> str:
        return "enabled" if key.enabled else "disabled"

    @display(description="API key")
    def secret_hint(self, key: ProviderKey) -> str:
        return f"…{key.secret_last4}" if key.secret_last4 else "stored"

    @display(description="Limits")
    def limits(self, key: ProviderKey) -> str:
        known = ((key.rpm, "requests/min"), (key.tpm, "tokens/min"), (key.concurrent, "at once"))
        return ", ".join(f"{limit:,} {unit}" for limit, unit in known if limit is not None) or "—"

    def delete_through(self, request: HttpRequest, obj: ProviderKey) -> None:
        key_delete(actor=actor_of(request), provider=str(obj.provider_id), ref=str(obj.id))


def _asked_provider(request: HttpRequest) -> str:
    """Of the address, or of the filtered list that one comes from."""
    found = parse_uuid(request.GET.get("provider", ""))
    if found is None:
        filters = QueryDict(request.GET.get("_changelist_filters", ""))
        found = parse_uuid(filters.get("provider__id__exact", ""))
    return str(found or "")
