"""How the models of the providers do, as the breakers found it."""

from typing import Any

from django.db.models import CharField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from core.admin.parts import BaseDialogForm, action, display
from core.errors import NotFound
from llm.models import EndpointHealth, Provider, ProviderKey
from llm.services.providers import provider_reset
from tenants.admin_base import TenantAdmin, actor_of, may, run_dialog

STATE_LABELS = {"closed": "success", "open": "danger", "half_open": "warning"}
MAY_BE_TRIED = "May be tried"  # its time is over, and no call came since


class EndpointHealthAdmin(TenantAdmin):
    """What the breakers found. A row leads to its provider."""

    perm = "provider"
    heading, noun = "Model health", "model"
    ordering = ("-updated_at",)
    list_display = ("endpoint", "state_label", "failures", "last_error_code", "opened_at", "until", "updated_at")
    search_fields = ("provider__startswith", "model__startswith")
    search_help_text = "The beginning of a provider's slug or of a model's name"
    sortable_by = ()
    actions_row = ("ask_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        keys = ProviderKey.objects.filter(tenant_id=OuterRef("tenant_id")).alias(as_text=Cast("id", CharField()))
        label = Subquery(keys.filter(as_text=OuterRef("key")).values("label")[:1])
        rows: QuerySet[Any] = super().get_queryset(request).annotate(key_label=label)
        return rows

    @display(description="Model")
    def endpoint(self, health: EndpointHealth) -> str:
        label = getattr(health, "key_label", None) or "a removed key"
        return f"{health} ({label})" if health.key else str(health)

    @display(description="State", label=STATE_LABELS)
    def state_label(self, health: EndpointHealth) -> tuple[str, str]:
        is_over = health.state_now != health.state
        return health.state_now, MAY_BE_TRIED if is_over else EndpointHealth.State(health.state).label

    def has_reset_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "provider.reset")

    @action(
        description="Ask again",
        icon="restart_alt",
        permissions=["reset"],
        dialog={
            "title": "Ask this model again",
            "description": "A model that failed is left alone for a while. Calls go through to it again at once.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Ask again",
        },
    )
    def ask_again(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            health = self.get_object(request, object_id)
            if health is None:
                raise NotFound("This model is not there any more.")
            wanted = {"model": health.model, "key": health.key or None}
            closed = provider_reset(actor=actor_of(request), ref=health.provider, **wanted)
            return f"Calls go through to {health} again." if closed else f"{health} was not left alone."

        return run_dialog(request, self.url("changelist"), work)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        actor = self.require(request, "provider.view")
        health = self.get_or_gone(request, object_id)
        if isinstance(health, HttpResponse):
            return health
        provider = Provider.objects.filter(tenant_id=actor.tenant_id, slug=health.provider).first()
        name = f"{self.admin_site.name}:llm_provider_"
        return redirect(f"{name}change", provider.id) if provider else redirect(f"{name}changelist")
