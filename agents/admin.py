"""Agents: their form from the template's schema, their versions with differences, and a page to try them."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.http import urlencode

from agents.models import Agent, AgentVersion
from agents.selectors import version_list
from agents.services import VERSIONED, agent_create, agent_delete, agent_restore, agent_status, agent_update
from agents.validation import MAX_CACHE_SECONDS, MAX_RUNS, check_agent
from core.admin.diff import changes
from core.admin.lists import whole_number
from core.admin.parts import (
    MultipleChoicesDropdownFilter,
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    action,
    display,
)
from core.admin.schema_fields import JSONValueField, TextField
from core.errors import ApplicationError
from llm.model_input import ModelInput
from llm.selectors.providers import model_names
from templates_app.registry import registry
from tenants.admin_base import actor_of, may
from tenants.admin_schema import SchemaServiceAdmin, SchemaServiceForm, select
from tenants.principal import Principal
from toolsets.selectors import toolset_list

STATUS_LABELS = {"draft": "default", "active": "success", "paused": "warning"}
VERSIONS_SHOWN = 100


UNDER_LOAD = ["when_busy", "max_concurrent_runs", "cache_seconds", "join_calls"]


class AgentForm(SchemaServiceForm):
    chooser = "template"
    document = "config"
    fieldsets = [
        (None, ["name", "slug", "status", "template", "model", "instructions", "toolsets"]),
        ("Under load", UNDER_LOAD),
    ]
    last_fields = ["metadata"]

    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget())
    slug = forms.CharField(  # whose form the service says
        max_length=63, widget=UnfoldAdminTextInputWidget(), help_text="What callers send as the model."
    )
    status = forms.ChoiceField(**select(Agent.Status.choices), initial=Agent.Status.DRAFT)
    template = forms.ChoiceField(widget=UnfoldAdminSelectWidget())
    model = forms.CharField(max_length=255, widget=ModelInput(), help_text="provider/model or route/slug")
    instructions = TextField(
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 10}),
        help_text="What it is told first.",
    )
    toolsets = forms.MultipleChoiceField(required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget())
    when_busy = forms.ChoiceField(
        **select(AgentVersion.WhenBusy.choices),
        initial=AgentVersion.WhenBusy.QUEUE,
        label="A message to a busy session",
        help_text="What happens to a message that comes while the agent still answers the one before.",
    )
    max_concurrent_runs = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_RUNS,
        widget=UnfoldAdminIntegerFieldWidget(),
        label="Runs at once",
        help_text="How many runs of this agent may go on at once, in all sessions; empty: only the tenant's limit.",
    )
    cache_seconds = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_CACHE_SECONDS,
        widget=UnfoldAdminIntegerFieldWidget(),
        label="Give an answer again for (seconds)",
        help_text="For how long the same request of this version gets the model's earlier answer; empty: never.",
    )
    join_calls = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        label="Share answers of the same requests",
        help_text="Requests that are the same and made at the same time share one answer of the model.",
    )
    metadata = JSONValueField(required=False, label="Metadata (JSON)", help_text="Your own notes for programs.")

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        model: Any = self.fields["model"].widget
        model.models = [found.name for found in model_names(self.actor)]
        self._fill_toolsets()
        if self.version:
            self._fill(self.version)
        self.fields["template"].help_text = self._template_help()

    @property
    def version(self) -> AgentVersion | None:
        return self.instance.version if self.instance else None

    def _fill_toolsets(self) -> None:
        known = [(toolset.slug, f"{toolset.name} ({toolset.slug})") for toolset in toolset_list(actor=self.actor)]
        slugs = {slug for slug, _ in known}
        granted = self.version.toolsets if self.version else []
        gone = [(slug, f"{slug} (missing)") for slug in granted if slug not in slugs]
        field: Any = self.fields["toolsets"]
        field.choices = [*known, *gone]
        if not field.choices:
            field.help_text = "There are no toolsets yet."

    def _fill(self, version: AgentVersion) -> None:
        names = ("name", "model", "instructions", "toolsets", *UNDER_LOAD)
        self.initial = {name: getattr(version, name) for name in names}
        self.initial |= {"slug": self.instance.slug, "status": self.instance.status}
        self.initial["template"] = self.chosen
        self.initial["metadata"] = JSONValueField.text_of(version.metadata) if version.metadata else ""

    def _template_help(self) -> str:
        found = registry.versions(self.chosen)
        return found[0].description if found else ""

    def choices(self) -> list[tuple[str, str]]:
        found = [(health.slug, registry.get(health.slug).title) for health in registry.health() if health.versions]
        stored = self.stored_choice()
        if stored and stored not in dict(found):
            found.append((stored, f"{stored} (not installed)"))
        return found

    def stored_choice(self) -> str:
        return self.version.template if self.version else ""

    def stored_document(self) -> dict[str, Any]:
        return dict(self.version.config) if self.version else {}

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        """Of the pinned version while the template stays, of the highest one when it changes."""
        found = {template.version: template for template in registry.versions(choice)}
        pinned = self._pinned(choice)
        template = found.get(pinned) if pinned else next(iter(found.values()), None)
        return template.config_schema() if template else None

    def _pinned(self, choice: str) -> str | None:
        return self.version.template_version if self.version and choice == self.stored_choice() else None

    def clean_metadata(self) -> dict[str, Any]:
        value = self.cleaned_data["metadata"]
        if value is not None and not isinstance(value, dict):
            raise forms.ValidationError('This must be a JSON object, such as {"team": "support"}.')
        return value or {}

    def add_other_faults(self) -> None:
        versioned = {"template_version": self._pinned(self.chosen)} if self.version else {}
        values = {name: value for name, value in self.cleaned_data.items() if name not in ("status", *self.errors)}
        if self.parts:
            values["config"] = self.document_value()
        held = self.version.toolsets if self.version else ()
        self.add_faults(check_agent(actor=self.actor, values={**values, **versioned}, held=held).errors)

    def save(self) -> Agent:
        found = dict(self.cleaned_data)
        found["config"] = self.document_value()
        if not self.instance:
            return agent_create(actor=self.actor, **found)
        status = found.pop("status")
        agent_update(actor=self.actor, ref=str(self.instance.id), changes=found)
        return agent_status(actor=self.actor, ref=str(self.instance.id), status=status)


def document_of(version: AgentVersion) -> dict[str, Any]:
    """What a version says, in the order in which people read it."""
    return {name: getattr(version, name) for name in VERSIONED}


def migration_url(slug: str, template: str) -> str:
    return f"{reverse('admin:template_migrate', args=[template])}?{urlencode({'agent': slug})}"


def version_note(version: AgentVersion) -> str:
    """Why the agent should go to another version of its template, where there is one; else ""."""
    known = {template.version: template for template in registry.versions(version.template)}
    name = f"“{version.template}” {version.template_version}"
    if known and version.template_version not in known:
        return f"{name} is not on this server any more, so the agent cannot answer. Its configuration is kept as it is."
    template = known.get(version.template_version)
    return f"{name} is deprecated: {template.deprecated}" if template and template.deprecated else ""


class Untransacted(admin.ModelAdmin):
    """Comes last before Django's own, which opens a transaction: code that is pinned meanwhile may take a minute. The
    services have transactions of their own.
    """

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        this: Any = self
        return this._changeform_view(request, object_id, form_url, extra_context)


class AgentAdmin(SchemaServiceAdmin, Untransacted):  # type: ignore[misc] # of stubs: Unfold is one of Django's own
    perm = "agent"
    heading, noun = "Agents", "agent"
    service_form = AgentForm
    list_display = ("title", "status_label", "template_label", "model_name", "number", "updated_at")
    list_select_related = ("version",)
    list_filter = (("status", MultipleChoicesDropdownFilter),)
    search_fields = ("slug__startswith", "version__name__istartswith")
    search_help_text = "The beginning of a name or slug"
    sortable_by = ()
    actions_detail = ("try_it", "versions", "template_version")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("version")

    @display(description="Agent", header=True)
    def title(self, agent: Agent) -> list[str]:
        return [agent.version.name if agent.version else agent.slug, agent.slug]

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, agent: Agent) -> tuple[str, str]:
        return agent.status, agent.get_status_display()

    @display(description="Template")
    def template_label(self, agent: Agent) -> str:
        return f"{agent.version.template} {agent.version.template_version}" if agent.version else "—"

    @display(description="Model")
    def model_name(self, agent: Agent) -> str:
        return agent.version.model if agent.version else "—"

    @display(description="Version")
    def number(self, agent: Agent) -> str:
        return f"v{agent.version.number}" if agent.version else "—"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.restore_view)
        return [path("<path:object_id>/versions/restore/", view, name="agents_agent_restore"), *super().get_urls()]

    def has_try_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return may(request, "chat.run")

    @action(description="Try it", icon="chat", url_path="try", permissions=["try"])
    def try_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        agent = self.get_or_gone(request, object_id)
        if isinstance(agent, HttpResponse):
            return agent
        context = {"title": "Try it", "below": True, "agent": agent, "tenant_slug": actor_of(request).tenant_slug}
        return self.page(request, "operators/try.html", agent, **context)

    @action(description="Versions", icon="history", url_path="versions", permissions=["view"])
    def versions(self, request: HttpRequest, object_id: str) -> HttpResponse:
        agent = self.get_or_gone(request, object_id)
        if isinstance(agent, HttpResponse):
            return agent
        return self.page(request, "operators/versions.html", agent, **self._compared(request, agent))

    @action(description="Template version", icon="upgrade", url_path="template-version", permissions=["view"])
    def template_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """To the page that shows what a migration would change."""
        agent = self.get_or_gone(request, object_id)
        if isinstance(agent, HttpResponse):
            return agent
        if agent.version is None or not registry.versions(agent.version.template):
            messages.error(request, "No version of the agent's template is on this server.")
            return HttpResponseRedirect(self.url("change", agent.pk))
        return HttpResponseRedirect(migration_url(agent.slug, agent.version.template))

    def form_context(self, request: HttpRequest, form: Any, obj: Any) -> dict[str, Any]:
        context = super().form_context(request, form, obj)
        note = version_note(obj.version) if obj and obj.version and form.chosen == form.stored_choice() else ""
        if not note:
            return context
        # What is missing is said better by the note.
        link = migration_url(obj.slug, obj.version.template)
        return {**context, "missing": False, "note": note, "note_link": link}

    def _compared(self, request: HttpRequest, agent: Agent) -> dict[str, Any]:
        """The chosen version beside the one to compare it with: by default the newest and the one before it."""
        found = list(version_list(actor=actor_of(request), ref=str(agent.id)).defer("instructions")[:VERSIONS_SHOWN])
        by_number = {version.number: version for version in found}
        newest = found[0].number if found else 0
        chosen = _number(request, "version", by_number, newest)
        against = _number(request, "against", by_number, max((n for n in by_number if n < chosen), default=chosen))
        before, after = by_number.get(against), by_number.get(chosen)
        return {
            "title": "Versions",
            "below": True,
            "agent": agent,
            "versions": found,
            "chosen": after,
            "against": before,
            "current": agent.version.number if agent.version else 0,
            "changes": changes(document_of(before), document_of(after)) if before and after else [],
            "may_restore": self.has_change_permission(request, agent),
        }

    def restore_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST `number`: that version's configuration becomes a new version."""
        if request.method != "POST" or not self.has_change_permission(request):
            raise PermissionDenied
        agent = self.get_or_gone(request, object_id)
        if isinstance(agent, HttpResponse):
            return agent
        self._restore(request, agent.id, actor_of(request))
        return HttpResponseRedirect(self.url("versions", agent.pk))

    def _restore(self, request: HttpRequest, agent_id: Any, actor: Principal) -> None:
        number = request.POST.get("number", "")
        try:
            agent = agent_restore(actor=actor, ref=str(agent_id), number=whole_number(number))
        except ApplicationError as error:
            messages.error(request, error.message)
        else:
            current = agent.version.number if agent.version else 0
            messages.success(request, f"Version {number} was restored as version {current}.")

    def delete_through(self, request: HttpRequest, obj: Agent) -> None:
        agent_delete(actor=actor_of(request), ref=str(obj.id))


def _number(request: HttpRequest, name: str, known: dict[int, AgentVersion], default: int) -> int:
    number = whole_number(request.GET.get(name, ""))
    return number if number in known else default
