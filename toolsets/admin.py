"""Toolsets: what agents may use, configured by the kind's schema."""

from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format
from django.utils.timezone import localtime

from core.admin.parts import (
    BaseDialogForm,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    action,
    display,
)
from core.errors import ProviderFailed
from core.validation import config_schema
from tenants.admin_base import actor_of, may, run_dialog
from tenants.admin_schema import SchemaServiceAdmin, SchemaServiceForm, select
from toolsets.base import Tool
from toolsets.learning import toolset_refresh
from toolsets.models import Toolset
from toolsets.policy import Policy
from toolsets.registry import toolset_kinds
from toolsets.selectors import by_ref, usable_toolsets
from toolsets.services import toolset_create, toolset_delete, toolset_update
from toolsets.validation import toolset_faults

APPROVALS = [
    ("default", "Those of tools that ask by themselves"),
    ("never", "None"),
    ("after_untrusted", "These, and what changes something once the run has read from outside"),
    ("side_effects", "All that change something or reach outside"),
    ("always", "All"),
]
APPROVERS = [("member", "Members"), ("operator", "Operators"), ("admin", "Admins")]
TOLD = 20  # names of tools
POLICY_FIELDS = [f"policy_{name}" for name in Policy.model_fields]


def _whole(label: str, most: int, *, help_text: str = "") -> forms.IntegerField:
    return forms.IntegerField(
        required=False,
        min_value=1,
        max_value=most,
        label=label,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=help_text or "Empty: as many as come.",
    )


class ToolsetForm(SchemaServiceForm):
    chooser = "kind"
    document = "config"
    last_fields = list(POLICY_FIELDS)
    last_title = "Policy"

    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget())
    slug = forms.CharField(  # whose form the service says
        max_length=63, widget=UnfoldAdminTextInputWidget(), help_text="What agents are granted it by."
    )
    kind = forms.ChoiceField(**select(()))
    enabled = forms.BooleanField(required=False, initial=True, widget=UnfoldBooleanSwitchWidget())
    policy_only = forms.CharField(
        required=False,
        max_length=5000,
        label="Only these tools",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="Names, one a line or with commas between; empty: all of the kind's.",
    )
    policy_prefix = forms.CharField(
        required=False,
        max_length=32,
        label="Prefix",
        widget=UnfoldAdminTextInputWidget(),
        help_text="Before the name of each tool.",
    )
    policy_approval = forms.ChoiceField(
        required=False, label="Approval", help_text="Which calls a person must approve.", **select(APPROVALS)
    )
    policy_approver = forms.ChoiceField(
        required=False, label="Who approves", help_text="The lowest role that may.", **select(APPROVERS)
    )
    policy_calls_per_run = _whole("Calls in one run", 10_000)
    policy_calls_per_minute = _whole("Calls a minute", 100_000, help_text="Of all runs in one server process.")
    policy_timeout = forms.FloatField(
        required=False,
        min_value=0.1,
        max_value=600,
        label="Timeout",
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="Seconds, where a tool has more.",
    )
    policy_max_result_kb = _whole("Longest result", 1000, help_text="KB that the model is shown; empty: 200.")

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        if toolset := self.instance:
            self.initial = {name: getattr(toolset, name) for name in ("name", "slug", "kind", "enabled")}
            self.initial |= {f"policy_{name}": value for name, value in toolset.policy.items()}
            self.initial["policy_only"] = "\n".join(toolset.policy.get("only") or ())
            self.fields["kind"].help_text = "The kind of a toolset cannot change."
        elif self.chosen in toolset_kinds():
            self.fields["kind"].help_text = toolset_kinds()[self.chosen].description
        self._add_secrets()

    def _add_secrets(self) -> None:
        """A field for each secret of the kind, and a switch for each that is stored."""
        kind = toolset_kinds().get(self.chosen)
        stored = self.instance.secret_names if self.instance else []
        names = []
        for name, title in (kind.secrets if kind else {}).items():
            widget = UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"})
            if name in stored:
                widget.attrs["placeholder"] = "stored; type to replace"
            self.fields[f"secret_{name}"] = forms.CharField(required=False, label=title, widget=widget, max_length=8192)
            names.append(f"secret_{name}")
            if name in stored:
                remove = forms.BooleanField(
                    required=False, label=f"Remove the stored {title}", widget=UnfoldBooleanSwitchWidget()
                )
                self.fields[f"remove_{name}"] = remove
                names.append(f"remove_{name}")
        self.dynamic_fields = names  # of this form, by its kind

    def choices(self) -> list[tuple[str, str]]:
        toolset = self.instance
        kinds = toolset_kinds().values()
        found = [(kind.slug, kind.title) for kind in kinds if toolset is None or kind.slug == toolset.kind]
        return found or [(toolset.kind, f"{toolset.kind} (not installed)")] if toolset else found

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        kind = toolset_kinds().get(choice)
        return config_schema(kind.Config) if kind else None

    def add_path_error(self, path: list[str], message: str) -> None:
        super().add_path_error(_field_path(path), message)

    def has_path_error(self, path: list[str]) -> bool:
        return super().has_path_error(_field_path(path))

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        for name in [name for name in found if name.startswith("remove_") and found[name]]:
            if found.get(f"secret_{name.removeprefix('remove_')}"):
                self.add_error(name, "Either replace it or remove it.")
        return found

    def _policy(self) -> dict[str, Any]:
        """What differs from an empty policy."""
        found = {name.removeprefix("policy_"): self.cleaned_data.get(name) for name in POLICY_FIELDS}
        found["only"] = (found["only"] or "").replace(",", " ").split()
        return {name: value for name, value in found.items() if value not in (None, "", [], "default")}

    def _secrets(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name in (field.removeprefix("secret_") for field in self.dynamic_fields if field.startswith("secret_")):
            if typed := self.cleaned_data.get(f"secret_{name}"):
                found[name] = typed
            elif self.cleaned_data.get(f"remove_{name}"):
                found[name] = None
        return found

    def add_other_faults(self) -> None:
        found = {name: value for name, value in self.cleaned_data.items() if name in ("name", "slug", "kind")}
        found |= {"config": self.document_value(), "policy": self._policy(), "secrets": self._secrets()}
        found["learned"] = self.instance.learned if self.instance else None
        self.add_faults(toolset_faults(found))

    def save(self) -> Toolset:
        found = {name: self.cleaned_data[name] for name in ("name", "slug", "kind", "enabled")}
        found |= {"config": self.document_value(), "policy": self._policy(), "secrets": self._secrets()}
        if not self.instance:
            return toolset_create(actor=self.actor, **found)
        del found["kind"]
        return toolset_update(actor=self.actor, ref=str(self.instance.id), changes=found)


def _field_path(path: list[str]) -> list[str]:
    """The field of a policy or a secret has their name before its own."""
    owner = {"policy": "policy", "secrets": "secret"}.get(path[0]) if len(path) > 1 else None
    return [f"{owner}_{path[1]}"] if owner else path


class ToolsetAdmin(SchemaServiceAdmin):
    perm = "toolset"
    heading, noun = "Toolsets", "toolset"
    service_form = ToolsetForm
    change_form_template = "operators/toolset.html"
    list_display = ("title", "kind_title", "state", "updated_at")
    search_fields = ("slug__startswith", "name__istartswith")
    search_help_text = "The beginning of a name or slug"
    sortable_by = ()
    actions_detail = ("refresh_tools",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Toolset]:
        return super().get_queryset(request).defer("learned")

    @display(description="Toolset", header=True)
    def title(self, toolset: Toolset) -> list[str]:
        return [toolset.name, toolset.slug]

    @display(description="Kind")
    def kind_title(self, toolset: Toolset) -> str:
        kind = toolset_kinds().get(toolset.kind)
        return kind.title if kind else f"{toolset.kind} (not installed)"

    @display(description="State", label={"enabled": "success", "disabled": "default", "failing": "danger"})
    def state(self, toolset: Toolset) -> str:
        if not toolset.enabled:
            return "disabled"
        return "failing" if toolset.learn_error else "enabled"

    def form_context(self, request: HttpRequest, form: Any, obj: Any) -> dict[str, Any]:
        told = {"note": _learned_note(obj), "tools": _tools(obj)} if obj else {}
        return {**super().form_context(request, form, obj), **told}

    def has_learn_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Where the toolset has a server to ask."""
        learning = self.get_queryset(request).filter(learn_due__isnull=False)
        return may(request, "toolset.edit") and (object_id is None or by_ref(learning, str(object_id)).exists())

    @action(
        description="Refresh tools",
        icon="sync",
        permissions=["learn"],
        dialog={
            "title": "Refresh the tools",
            "description": "The toolset's server is asked for its tools; this may take up to a minute.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Refresh",
        },
    )
    def refresh_tools(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            found = async_to_sync(toolset_refresh)(actor=actor_of(request), ref=object_id)
            if found.learn_error:
                raise ProviderFailed(found.learn_error)
            count, names = len(found.tools), ", ".join(found.tools[:TOLD])
            return f"The server told {count} tool{'' if count == 1 else 's'}{f': {names}' if names else ''}."

        return run_dialog(request, self.url("change", object_id), work)

    def delete_through(self, request: HttpRequest, obj: Toolset) -> None:
        toolset_delete(actor=actor_of(request), ref=str(obj.id))


def _tools(toolset: Toolset) -> list[Tool]:
    """By name, as its policy leaves them; none where its kind or config no longer works."""
    usable = usable_toolsets([toolset]).values()
    return sorted((tool for each in usable for tool in each.tools), key=lambda tool: tool.name)


def _learned_note(toolset: Toolset) -> str:
    """When the toolset's server told its tools; empty where none is asked."""
    if toolset.learn_due is None:
        return ""
    when = toolset.learned_at and date_format(localtime(toolset.learned_at), "DATETIME_FORMAT")
    known = f"Its tools were told by its server on {when}." if when else "Its server has not told its tools yet."
    return f"{known} The last time it could not be asked: {toolset.learn_error}" if toolset.learn_error else known
