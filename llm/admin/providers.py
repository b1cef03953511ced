"""Providers of models, with their write-only secret."""

from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from core.admin.parts import (
    BaseDialogForm,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    action,
    display,
)
from core.errors import ProviderFailed
from llm.models import Provider
from llm.providers import provider_kind, provider_kinds
from llm.providers.base import Preset, ProviderKind
from llm.services.providers import (
    ProviderChanges,
    provider_create,
    provider_delete,
    provider_reset,
    provider_test,
    provider_update,
)
from tenants.admin_base import actor_of, may, run_dialog
from tenants.admin_schema import SchemaServiceAdmin, SchemaServiceForm, select

HEALTH_LABELS = {"unknown": "default", "healthy": "success", "failing": "danger"}


PRESET = ":"  # between a kind's slug and its preset's, in what is chosen


def _choices_of(kind: ProviderKind) -> list[tuple[str, str]]:
    presets = [(f"{kind.slug}{PRESET}{preset.slug}", preset.title) for preset in kind.presets]
    return [(kind.slug, kind.title), *presets]


def _chosen(choice: str) -> tuple[ProviderKind | None, Preset | None]:
    slug, _, name = choice.partition(PRESET)
    kind = provider_kind(slug)
    return kind, next((preset for preset in kind.presets if preset.slug == name), None) if kind else None


class ProviderForm(SchemaServiceForm):
    chooser = "kind"
    document = "settings"
    dynamic_fields = ["base_url", "api_key", "remove_api_key"]

    slug = forms.SlugField(
        max_length=63, widget=UnfoldAdminTextInputWidget(), help_text="Its models are addressed as slug/model."
    )
    kind = forms.ChoiceField(**select(()))
    base_url = forms.CharField(
        required=False, max_length=500, label="Base URL", widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "url"})
    )
    api_key = forms.CharField(
        required=False,
        label="API key",
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
    )
    remove_api_key = forms.BooleanField(
        required=False, label="Remove the stored API key", widget=UnfoldBooleanSwitchWidget()
    )

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        if provider := self.instance:
            self.initial = {"slug": provider.slug, "kind": provider.kind, "base_url": provider.base_url}
            self.fields["kind"].help_text = "The kind of a provider cannot change."
        self._fit_kind()

    def choices(self) -> list[tuple[str, str]]:
        provider = self.instance
        if provider is None:
            return [choice for kind in provider_kinds() for choice in _choices_of(kind)]
        kind = provider_kind(provider.kind)
        return [(provider.kind, kind.title if kind else f"{provider.kind} (not installed)")]

    def _fit_kind(self) -> None:
        kind, preset = _chosen(self.chosen)
        stored = self.instance is not None and self.instance.secret is not None
        if kind is None or kind.api_key == "none" or not stored:
            self.fields.pop("remove_api_key")
        if kind is None:
            return
        for name, need in (("base_url", kind.base_url), ("api_key", kind.api_key)):
            if need == "none":
                self.fields.pop(name)
        if "base_url" in self.fields:
            self.fields["base_url"].widget.attrs["placeholder"] = kind.default_base_url
        if preset:
            self.initial["base_url"] = preset.base_url
            self.fields["api_key"].required = preset.api_key == "required"
        if "api_key" in self.fields and stored:
            last = f", ends in …{self.instance.secret_last4}" if self.instance.secret_last4 else ""
            self.fields["api_key"].widget.attrs["placeholder"] = f"stored{last}; type to replace"

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        kind, _ = _chosen(choice)
        return kind.Settings.model_json_schema() if kind else None

    def first_document(self) -> dict[str, Any]:
        _, preset = _chosen(self.chosen)
        return preset.settings if preset else {}

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if found.get("remove_api_key") and found.get("api_key"):
            self.add_error("remove_api_key", "Either replace the key or remove it.")
        return found

    def save(self) -> Provider:
        found = self.cleaned_data
        key = found.get("api_key") or None
        base_url = found.get("base_url") or ""
        if not self.instance:
            return provider_create(
                actor=self.actor,
                slug=found["slug"],
                kind=self.chosen.partition(PRESET)[0],
                base_url=base_url,
                api_key=key,
                settings=self.document_value(),
            )
        changes: ProviderChanges = {"slug": found["slug"], "settings": self.document_value()}
        if "base_url" in self.fields:
            changes["base_url"] = base_url
        if key or found.get("remove_api_key"):
            changes["api_key"] = key
        return provider_update(actor=self.actor, ref=str(self.instance.id), changes=changes)


class ProviderAdmin(SchemaServiceAdmin):
    perm = "provider"
    heading, noun = "Providers", "provider"
    service_form = ProviderForm
    document_title = "Settings"
    list_display = ("slug", "kind_title", "address", "health_label", "secret_hint", "health_checked_at")
    search_fields = ("slug__startswith",)
    search_help_text = "The beginning of a slug"
    sortable_by = ()
    actions_detail = ("test_connection", "ask_again", "models", "keys")

    @display(description="Kind")
    def kind_title(self, provider: Provider) -> str:
        kind = provider_kind(provider.kind)
        return kind.title if kind else f"{provider.kind} (not installed)"

    @display(description="Base URL")
    def address(self, provider: Provider) -> str:
        return provider.base_url or "—"

    @display(description="Health", label=HEALTH_LABELS)
    def health_label(self, provider: Provider) -> tuple[str, str]:
        return provider.health, provider.get_health_display()

    @display(description="API key")
    def secret_hint(self, provider: Provider) -> str:
        if provider.secret is None:
            return "—"
        return f"…{provider.secret_last4}" if provider.secret_last4 else "stored"

    def has_test_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "provider.test")

    @action(
        description="Test connection",
        icon="network_check",
        permissions=["test"],
        dialog={
            "title": "Test the connection",
            "description": "The provider is asked for its models; this may take up to 30 seconds.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Test",
        },
    )
    def test_connection(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            result = async_to_sync(provider_test)(actor=actor_of(request), ref=object_id)
            if not result.healthy:
                raise ProviderFailed(result.message)
            return f"{result.message} ({result.latency_ms:,} ms)"

        return run_dialog(request, self.url("change", object_id), work)

    def has_reset_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "provider.reset")

    @action(
        description="Ask again",
        icon="restart_alt",
        permissions=["reset"],
        dialog={
            "title": "Ask the failing models again",
            "description": "Models that failed are left alone for a while. Calls go through to them again at once.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Ask again",
        },
    )
    def ask_again(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            closed = provider_reset(actor=actor_of(request), ref=object_id)
            return f"Calls go through again to {closed} model{'' if closed == 1 else 's'}."

        return run_dialog(request, self.url("change", object_id), work)

    @action(description="Models", icon="memory", url_path="models", permissions=["view"])
    def models(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The list of all models, narrowed to this provider's."""
        provider = self.get_or_gone(request, object_id)
        if isinstance(provider, HttpResponse):
            return provider
        models = reverse(f"{self.admin_site.name}:llm_providermodel_changelist")
        return HttpResponseRedirect(f"{models}?provider={provider.slug}")

    @action(description="Further keys", icon="key", url_path="keys", permissions=["view"])
    def keys(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(f"{reverse('admin:llm_providerkey_changelist')}?provider__id__exact={object_id}")

    def delete_through(self, request: HttpRequest, obj: Provider) -> None:
        provider_delete(actor=actor_of(request), ref=str(obj.id))
