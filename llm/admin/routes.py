"""Routes: their form by strategy, a preview of where requests go, and how the targets have done."""

import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse

from core.admin.lists import whole_number
from core.admin.parts import (
    AdminForm,
    MultipleChoicesDropdownFilter,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    action,
    display,
)
from core.admin.schema_fields import JSONValueField
from llm.model_input import ModelInput
from llm.models import Route
from llm.routing import STRATEGIES
from llm.routing.cel import known_to_rules
from llm.routing.features import Features
from llm.routing.routed import PREFIX
from llm.selectors.providers import model_names
from llm.selectors.route_report import MAX_DAYS, route_report
from llm.selectors.routes import route_preview, target_spec
from llm.services.routes import route_create, route_delete, route_update
from llm.targets import Leg
from llm.validation.routes import TargetSpec
from llm.wire import ChatRequest
from tenants.admin_base import actor_of
from tenants.admin_schema import SchemaServiceAdmin, SchemaServiceForm, select
from tenants.principal import Principal

ALWAYS = ("model", "enabled")
DAYS = (7, 30, MAX_DAYS)
FIRST_TARGETS: dict[str, list[dict[str, Any]]] = {"ab_test": [{"variant": "A"}, {"variant": "B"}]}


class RouteForm(SchemaServiceForm):
    """The strategy decides which settings there are, and what of each target counts."""

    chooser = "strategy"
    document = "plan"

    slug = forms.SlugField(
        max_length=63, widget=UnfoldAdminTextInputWidget(), help_text=f"Agents and callers use it as {PREFIX}/slug."
    )
    name = forms.CharField(required=False, max_length=120, widget=UnfoldAdminTextInputWidget())
    strategy = forms.ChoiceField(**select(()))
    is_active = forms.BooleanField(
        required=False, initial=True, label="Switched on", widget=UnfoldBooleanSwitchWidget()
    )
    continues = forms.BooleanField(
        required=False,
        label="Continue a broken answer",
        widget=UnfoldBooleanSwitchWidget(),
        help_text="When a target fails after its first token, the next one goes on from there. Both are billed.",
    )

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        if route := self.instance:
            self.initial = {name: getattr(route, name) for name in ("slug", "name", "is_active", "continues")}
            self.initial["strategy"] = self.chosen
        if self.chosen in STRATEGIES:
            self.fields["strategy"].help_text = STRATEGIES[self.chosen].description
        if self.parts:
            self._suggest_models()

    def _suggest_models(self) -> None:
        known = [found.name for found in model_names(self.actor) if found.provider != PREFIX]
        rows = self.parts.lists["targets"] if self.parts else None
        for row in [*rows.rows, rows.blank] if rows else []:
            row.fields["model"].widget = ModelInput()
            row.fields["model"].widget.models = known
            if "rule" in row.fields:
                row.fields["rule"].widget.attrs["rows"] = 2

    def choices(self) -> list[tuple[str, str]]:
        return [(strategy.slug, strategy.title) for strategy in STRATEGIES.values()]

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        strategy = STRATEGIES.get(choice)
        if strategy is None:
            return None
        target = {**TargetSpec.model_json_schema(), "title": "Target", "description": ""}
        shown = [name for name in target["properties"] if name in (*ALWAYS, *strategy.uses)]
        target["properties"] = {name: target["properties"][name] for name in shown}
        settings = {**strategy.Settings.model_json_schema(), "description": ""}
        parts = {"settings": settings} if settings["properties"] else {}
        targets = {"type": "array", "title": "Targets", "items": target, "description": "The models, in their order."}
        return {"type": "object", "properties": {**parts, "targets": targets}}

    def document_for(self, choice: str) -> dict[str, Any]:
        """The targets stay when another strategy is looked at."""
        if not self.instance:
            return {"targets": FIRST_TARGETS.get(choice, [{}])}
        shown = {*ALWAYS, *STRATEGIES[choice].uses}
        specs = [target_spec(target) for target in self.instance.targets.all()]
        targets = [{name: value for name, value in spec.items() if name in shown} for spec in specs]
        kept = self.instance.settings if choice == self.stored_choice() else None
        return {**({"settings": kept} if kept else {}), "targets": targets}

    def add_path_error(self, path: list[str], message: str) -> None:
        inside = path[:1] in (["settings"], ["targets"])
        super().add_path_error([self.document, *path] if inside else path, message)

    def save(self) -> Route:
        found = {**self.cleaned_data, "strategy": self.chosen, "settings": {}, **self.document_value()}
        if not self.instance:
            return route_create(actor=self.actor, **found)
        return route_update(actor=self.actor, ref=str(self.instance.id), changes=found)


class PreviewForm(forms.Form):
    """What of a request a strategy looks at."""

    message = forms.CharField(
        strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), help_text="What the user says."
    )
    tools = forms.IntegerField(min_value=0, max_value=100, initial=0, widget=UnfoldAdminIntegerFieldWidget())
    images = forms.IntegerField(min_value=0, max_value=100, initial=0, widget=UnfoldAdminIntegerFieldWidget())
    max_tokens = forms.IntegerField(
        required=False, min_value=1, widget=UnfoldAdminIntegerFieldWidget(), label="Longest answer", help_text="Tokens."
    )
    user = forms.CharField(
        required=False,
        max_length=128,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Whom an A/B test assigns to a variant.",
    )
    metadata = JSONValueField(
        required=False,
        label="Metadata (JSON)",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
    )

    def clean_metadata(self) -> dict[str, Any]:
        value = self.cleaned_data["metadata"]
        if value is not None and not isinstance(value, dict):
            raise forms.ValidationError('This must be a JSON object, such as {"tier": "gold"}.')
        return value or {}

    def asked(self) -> tuple[ChatRequest, str, dict[str, Any]]:
        """The request, whom it is for, and its metadata."""
        found = self.cleaned_data
        content: list[dict[str, Any]] = [{"type": "text", "text": found["message"]}]
        content += [{"type": "image_url"}] * found["images"]
        params = {"tools": [{}] * found["tools"], "max_tokens": found["max_tokens"]}
        metadata = {**({"user_id": found["user"]} if found["user"] else {}), **found["metadata"]}
        return ChatRequest("", [{"role": "user", "content": content}], params), found["user"], metadata


class RouteAdmin(SchemaServiceAdmin):
    perm = "route"
    heading, noun = "Routes", "route"
    service_form = RouteForm
    document_title = "Settings"
    list_display = ("title", "state", "strategy_title", "models_listed", "updated_at")
    list_filter = (("strategy", MultipleChoicesDropdownFilter),)
    search_fields = ("slug__startswith", "name__istartswith")
    search_help_text = "The beginning of a name or slug"
    sortable_by = ()
    actions_detail = ("preview", "report")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("targets__provider")

    @display(description="Route", header=True)
    def title(self, route: Route) -> list[str]:
        return [route.name or route.slug, f"{PREFIX}/{route.slug}"]

    @display(description="State", label={"on": "success", "off": "default"})
    def state(self, route: Route) -> str:
        return "on" if route.is_active else "off"

    @display(description="Strategy")
    def strategy_title(self, route: Route) -> str:
        strategy = STRATEGIES.get(route.strategy)
        return strategy.title if strategy else route.strategy

    @display(description="Targets")
    def models_listed(self, route: Route) -> str:
        return ", ".join(str(target) for target in route.targets.all() if target.enabled) or "—"

    @action(description="Preview", icon="alt_route", url_path="preview", permissions=["view"])
    def preview(self, request: HttpRequest, object_id: str) -> HttpResponse:
        route = self.get_or_gone(request, object_id)
        if isinstance(route, HttpResponse):
            return route
        form = PreviewForm(request.POST if request.method == "POST" else None)
        shown = _previewed(actor_of(request), route, form) if form.is_bound and form.is_valid() else {}
        shown |= {"title": "Preview", "below": True, "route": route}
        shown["fieldsets"] = AdminForm(form, [(None, {"fields": list(form.fields)})], {}, model_admin=self)
        return self.page(request, "operators/route_preview.html", route, **shown)

    @action(description="Report", icon="bar_chart", url_path="report", permissions=["view"])
    def report(self, request: HttpRequest, object_id: str) -> HttpResponse:
        route = self.get_or_gone(request, object_id)
        if isinstance(route, HttpResponse):
            return route
        days = whole_number(request.GET.get("days", ""))
        days = days if days in DAYS else DAYS[0]
        found = route_report(actor=actor_of(request), ref=str(route.id), days=days)
        shown = {"report": found, "days": days, "choices": DAYS, "ab_test": route.strategy == "ab_test"}
        return self.page(
            request, "operators/route_report.html", route, title="Report", below=True, route=route, **shown
        )

    def delete_through(self, request: HttpRequest, obj: Route) -> None:
        route_delete(actor=actor_of(request), ref=str(obj.id))


def _previewed(actor: Principal, route: Route, form: PreviewForm) -> dict[str, Any]:
    asked, user, metadata = form.asked()
    sticky = user or str(actor.id)
    found = route_preview(actor=actor, ref=str(route.id), request=asked, sticky=sticky, metadata=metadata)
    seen = known_to_rules(Features(asked, metadata=metadata))
    features = [(name, _shown(value)) for name, value in sorted(seen.items())]
    return {"preview": found, "targets": _targets(found.legs), "features": features}


def _targets(legs: Iterable[Leg]) -> list[tuple[str, str, list[str]]]:
    """Name, variant and reasons, of which a target with several keys has one for each."""
    found: dict[tuple[str, str], list[str]] = {}
    for leg in legs:
        found.setdefault((leg.target.name, leg.variant), []).append(leg.reason)
    return [(*target, reasons) for target, reasons in found.items()]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
