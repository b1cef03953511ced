"""The Django field for one value of a JSON Schema."""

import json
from typing import Any

from django import forms
from django.utils.html import escape

from core.admin.diff import text_of
from core.admin.parts import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)
from core.api import parse_json
from core.errors import ApplicationError

Schema = dict[str, Any]
ONE_LINE = 300  # characters; a longer text gets several lines


def resolve(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema behind `$ref`, a single `allOf` and `X | null`, and whether null is allowed.

    What stands beside them (title, default, description) goes before what they point to.
    """
    beside = {key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf")}
    if "$ref" in schema:
        found, nullable = resolve(_definition(schema["$ref"], root), root)
        return {**found, **beside}, nullable
    if len(schema.get("allOf", ())) == 1:
        found, nullable = resolve(schema["allOf"][0], root)
        return {**found, **beside}, nullable
    options = schema.get("anyOf", ())
    others = [option for option in options if option.get("type") != "null"]
    if len(others) == 1 and len(options) == 2:
        found, _ = resolve(others[0], root)
        return {**found, **beside}, True
    return schema, False


def _definition(ref: str, root: Schema) -> Schema:
    found: Any = root
    for key in ref.removeprefix("#/").split("/"):
        found = found[key]
    return dict(found)


def is_object(schema: Schema, root: Schema) -> bool:
    """An object that is always there and whose keys are known."""
    found, nullable = resolve(schema, root)
    return found.get("type") == "object" and bool(found.get("properties")) and not nullable


def is_object_list(schema: Schema, root: Schema) -> bool:
    found, nullable = resolve(schema, root)
    items = found.get("items")
    return found.get("type") == "array" and isinstance(items, dict) and is_object(items, root) and not nullable


class LeavesOut:
    """A field whose empty value may mean that the key is not written at all."""

    keeps_empty = False

    def leaves_out(self, value: Any) -> bool:
        return value in (None, "", []) and not self.keeps_empty


class TextField(LeavesOut, forms.CharField):
    """Text as it was typed, with line ends as they are stored: browsers send CR LF."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.replace("\r\n", "\n") if isinstance(text, str) else text


class WholeNumberField(LeavesOut, forms.IntegerField):
    pass


class NumberField(LeavesOut, forms.FloatField):
    pass


class SwitchField(LeavesOut, forms.BooleanField):
    def leaves_out(self, value: Any) -> bool:
        return False


class ChoiceField(LeavesOut, forms.TypedChoiceField):
    """Choices of any JSON type, written as JSON in the page."""


class ChoicesField(LeavesOut, forms.TypedMultipleChoiceField):
    keeps_empty = True


class LinesField(LeavesOut, forms.CharField):
    """A list of texts, one a line."""

    keeps_empty = True

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def validate(self, value: Any) -> None:
        if self.required and not value:
            raise forms.ValidationError("Give at least one line.", code="required")

    def run_validators(self, value: Any) -> None:
        """The list is validated by the schema's owner."""


class JSONValueField(LeavesOut, forms.CharField):
    """Any JSON value; empty means that the key is left out."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"})

    @staticmethod
    def text_of(value: Any) -> str:
        return json.dumps(value, indent=2, ensure_ascii=False)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text.strip():
            return None
        try:
            return parse_json(text.encode())
        except ApplicationError as error:
            raise forms.ValidationError(error.message, code=error.code) from None


def field_for(part: Schema, root: Schema, *, required: bool) -> Any:
    schema, nullable = resolve(part, root)
    field = _field(schema, root, required=required and not nullable, nullable=nullable)
    field.help_text = escape(part.get("description") or schema.get("description") or "")  # pages take it for HTML
    if nullable and schema.get("default") is not None:  # empty must be written as null, or the default would come back
        field.keeps_empty, field.empty_value = True, None
    return field


def _field(schema: Schema, root: Schema, *, required: bool, nullable: bool) -> Any:
    if "enum" in schema or "const" in schema:
        return _choice(schema.get("enum", [schema.get("const")]), required, blank=nullable or not required)
    match schema.get("type"):
        case "boolean" if nullable:
            return _choice([True, False], required=False, blank=True)
        case "boolean":
            return SwitchField(required=False, widget=UnfoldBooleanSwitchWidget())
        case "integer":
            return WholeNumberField(required=required, widget=UnfoldAdminIntegerFieldWidget(), **_bounds(schema, 1))
        case "number":
            widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
            return NumberField(required=required, widget=widget, **_bounds(schema, 0))
        case "string":
            return _text(schema, required)
        case "array":
            return _array(schema, root, required)
    return JSONValueField(required=required)


def _text(schema: Schema, required: bool) -> TextField:
    longest = schema.get("maxLength")
    widget: forms.Widget
    if schema.get("format") == "password" or schema.get("writeOnly"):
        widget = UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"})
    elif schema.get("format") == "multiline":
        widget = UnfoldAdminTextareaWidget(attrs={"rows": 24, "spellcheck": "false", "data-code": ""})
    elif longest is None or longest > ONE_LINE:
        widget = UnfoldAdminTextareaWidget(attrs={"rows": 4})
    else:
        widget = UnfoldAdminTextInputWidget()
    empty = required and schema.get("minLength", 0) == 0
    field = TextField(required=required and not empty, strip=False, max_length=longest, widget=widget)
    field.keeps_empty = empty or bool(schema.get("default"))
    return field


def _array(schema: Schema, root: Schema, required: bool) -> Any:
    items, nullable = resolve(schema.get("items", {}), root)
    at_least_one = required and schema.get("minItems", 0) > 0
    if "enum" in items:
        choices = [(json.dumps(item), str(item)) for item in items["enum"]]
        widget = UnfoldAdminCheckboxSelectMultipleWidget()
        return ChoicesField(required=at_least_one, choices=choices, coerce=json.loads, widget=widget)
    if items.get("type") == "string" and not nullable:
        return LinesField(required=at_least_one, widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}))
    return JSONValueField(required=required)


def _choice(options: list[Any], required: bool, blank: bool) -> ChoiceField:
    choices = [(json.dumps(item), text_of(item)) for item in options]
    choices = [("", "—"), *choices] if blank else choices
    widget = UnfoldAdminSelectWidget()
    return ChoiceField(required=required, choices=choices, coerce=json.loads, empty_value=None, widget=widget)


def _bounds(schema: Schema, step: int) -> dict[str, Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if step and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if step and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    return {"min_value": low, "max_value": high}


def to_initial(field: Any, value: Any) -> Any:
    """A stored JSON value as the field's widget shows it."""
    if value is None:
        return None
    if isinstance(field, ChoicesField):
        return [json.dumps(item) for item in value] if isinstance(value, list) else []
    if isinstance(field, ChoiceField):
        return json.dumps(value)
    if isinstance(field, LinesField):
        return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    if isinstance(field, JSONValueField):
        return JSONValueField.text_of(value)
    return value
