"""Add and change pages of what a JSON Schema describes: an agent's template, a toolset's or a provider's kind."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.http import HttpRequest

from core.admin.parts import AdminForm, UnfoldAdminSelectWidget
from core.admin.schema_form import SchemaForm, SchemaRows, split_path
from tenants.admin_base import ServiceAdmin, ServiceForm, actor_of

CORRECT = "Correct the marked fields of the configuration."


class SchemaServiceForm(ServiceForm):
    """`chooser` is the field whose choice decides the schema; `document` is the JSON object that is made by it.

    The page tells with `<document>-of` which choice its fields were made for. When another was chosen since, the new
    one's fields are shown instead of being filled from what was never asked.
    """

    chooser: ClassVar[str]
    document: ClassVar[str]
    dynamic_fields: list[str] = []  # shown with the document, since the choice decides them too
    last_fields: ClassVar[list[str]] = []
    last_title: ClassVar[str | None] = None

    def __init__(self, data: Any = None, *, chosen: str = "", **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        chooser: Any = self.fields[self.chooser]
        chooser.choices = self.choices()
        self.chosen = self._choice(chosen)
        self.fields[self.chooser].initial = self.chosen
        self.switched = self.is_bound and data.get(f"{self.document}-of") != self.chosen
        self.schema = self.schema_of(self.chosen)
        bound = data if self.is_bound and not self.switched else None
        begun = self.document_for(self.chosen) if self.schema else {}
        self.parts = SchemaForm(self.schema, prefix=self.document, data=bound, value=begun) if self.schema else None

    def _choice(self, chosen: str) -> str:
        """Posted, else asked for in the URL, else stored, else the first there is."""
        posted = self.data.get(self.chooser, "") if self.is_bound else ""
        choices: Any = self.fields[self.chooser]
        known = [str(value) for value, _ in choices.choices]
        stored = self.stored_choice()
        return next((value for value in (posted, chosen, stored) if value in known), known[0] if known else "")

    def choices(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def schema_of(self, choice: str) -> dict[str, Any] | None:
        """None where the choice is not installed."""
        raise NotImplementedError

    def stored_choice(self) -> str:
        return str(getattr(self.instance, self.chooser, "")) if self.instance else ""

    def first_document(self) -> dict[str, Any]:
        """What stands in the fields of a choice that is not the stored one."""
        return {}

    def document_for(self, choice: str) -> dict[str, Any]:
        """What the fields of a choice begin with."""
        return self.stored_document() if choice == self.stored_choice() else self.first_document()

    def stored_document(self) -> dict[str, Any]:
        return dict(getattr(self.instance, self.document)) if self.instance else {}

    def is_valid(self) -> bool:
        valid = super().is_valid()
        if self.switched:
            self.add_error(None, f"These are the fields of “{self.chosen}”. Check them and save again.")
            return False
        if self.parts and not self.parts.is_valid():
            self.add_error(None, CORRECT)
            valid = False
        if not valid:
            self.add_other_faults()
        return valid

    def add_other_faults(self) -> None:
        """What the service would find in the fields that are in order, so that all faults are told at once:
        `add_faults`.
        """

    def add_faults(self, faults: Iterable[Mapping[str, Any]]) -> None:
        """Those of fields that have none yet: what a field lacks for its own fault is not told once more."""
        paths = [(split_path(str(fault["path"])), str(fault["message"])) for fault in faults]
        for path, message in [(path, message) for path, message in paths if not self.has_path_error(path)]:
            self.add_path_error(path, message)

    def has_path_error(self, path: list[str]) -> bool:
        if self.parts and path and path[0] == self.document:
            return self.parts.has_path_error(path[1:])
        return bool(path) and path[0] in self.errors

    def document_value(self) -> dict[str, Any]:
        return self.parts.value() if self.parts else self.stored_document()

    def disable(self) -> None:
        super().disable()
        if self.parts:
            self.parts.disable()

    def add_path_error(self, path: list[str], message: str) -> None:
        if self.parts and path and path[0] == self.document:
            self.parts.add_path_error(path[1:], message)
            if CORRECT not in self.non_field_errors():
                self.add_error(None, CORRECT)
        else:
            super().add_path_error(path, message)

    def sections(self) -> list[tuple[str | None, dict[str, Any]]]:
        hidden = {*self.dynamic_fields, *self.last_fields}
        return [
            (title, {"fields": shown})
            for title, part in super().sections()
            if (shown := [name for name in part["fields"] if name not in hidden and name in self.fields])
        ]


class SchemaServiceAdmin(ServiceAdmin):
    service_form: ClassVar[type[SchemaServiceForm]]
    change_form_template = "operators/schema_service_form.html"
    document_title: ClassVar[str] = "Configuration"

    def build_form(self, request: HttpRequest, obj: Any) -> SchemaServiceForm:
        data = request.POST if request.method == "POST" else None
        chosen = request.GET.get(self.service_form.chooser, "")
        form = self.service_form(data, chosen=chosen, actor=actor_of(request), instance=obj)
        form.fields[form.chooser].widget.attrs.update(
            {
                "hx-get": request.path,
                "hx-select": "#schema-form",
                "hx-select-oob": f"#id_{form.chooser}_helptext",
                "hx-target": "#schema-form",
                "hx-swap": "outerHTML",
                "hx-trigger": "change",
            }
        )
        return form

    def form_context(self, request: HttpRequest, form: Any, obj: Any) -> dict[str, Any]:
        context: dict[str, Any] = {
            "schema_service_form": form,
            "dynamic": self._fieldset(form, form.dynamic_fields),
            "last": self._fieldset(form, form.last_fields, form.last_title),
            "missing": form.schema is None,
        }
        if form.parts:
            form.parts.title = self.document_title
            context["sections"] = list(_sections(form.parts, self))
        return context

    def _fieldset(self, form: SchemaServiceForm, names: list[str], title: str | None = None) -> AdminForm | None:
        shown = [name for name in names if name in form.fields]
        return AdminForm(form, [(title, {"fields": shown})], {}, model_admin=self) if shown else None


def _sections(form: SchemaForm, admin: Any) -> Any:
    """The form as the template walks it: its own fields first, then each nested form or list of forms."""
    if form.fields:
        fieldset = AdminForm(form, [(form.title, {"fields": list(form.fields)})], {}, model_admin=admin)
        yield {"adminform": fieldset, "errors": form.non_field_errors(), "description": form.description}
    for part in form.parts():
        if isinstance(part, SchemaRows):
            yield {"list": part, "rows": [_row(row, admin) for row in part.rows], "blank": _row(part.blank, admin)}
        else:
            yield from _sections(part, admin)


def _row(form: SchemaForm, admin: Any) -> dict[str, Any]:
    """The page numbers the rows by their place, so that the title is its own and not the fieldset's."""
    title, form.title = form.title, ""
    return {"prefix": form.prefix, "title": title, "sections": list(_sections(form, admin))}


def select(choices: Any) -> dict[str, Any]:
    """Keyword arguments of a choice field that looks like the site's others."""
    return {"choices": choices, "widget": UnfoldAdminSelectWidget()}
