"""Django forms made from a JSON Schema as pydantic writes it, and back to the JSON value.

A nested object becomes a form of its own, a list of objects a row of forms. What has no plain widget (free keys,
unions, lists of lists) is edited as JSON, with the keys that the schema does not know: nothing is ever dropped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django import forms

from core.admin import schema_fields
from core.admin.lists import whole_number
from core.admin.schema_fields import JSONValueField, field_for, resolve

OTHER = "other-keys"
MAX_ROWS = 100
ROW_MARK = "__row__"

Schema = dict[str, Any]
Data = Mapping[str, Any] | None


class SchemaForm(forms.Form):
    """One object. Bind it per request; `value()` is the JSON object once `is_valid()`."""

    def __init__(
        self, schema: Schema, *, prefix: str, data: Data = None, value: Any = None, root: Schema | None = None
    ) -> None:
        super().__init__(data, prefix=prefix)
        self.root = root or schema
        self.schema, _ = resolve(schema, self.root)
        self.title = str(self.schema.get("title", ""))
        self.description = str(self.schema.get("description", ""))
        self.stored: dict[str, Any] = value if isinstance(value, dict) else {}
        self.objects: dict[str, SchemaForm] = {}
        self.lists: dict[str, SchemaRows] = {}
        for name, part in self.schema.get("properties", {}).items():
            self._add(name, part)
        self._add_other_keys()

    def _add(self, name: str, part: Schema) -> None:
        schema, _ = resolve(part, self.root)
        given = self.stored.get(name, part.get("default", schema.get("default")))
        prefix = f"{self.prefix}-{name}"
        data = self.data if self.is_bound else None
        if schema_fields.is_object(part, self.root):
            self.objects[name] = SchemaForm(part, prefix=prefix, data=data, value=given, root=self.root)
            self.objects[name].title = title_of(name, part)
        elif schema_fields.is_object_list(part, self.root):
            self.lists[name] = SchemaRows(schema, prefix=prefix, data=data, value=given, root=self.root)
            self.lists[name].title = title_of(name, part)
        else:
            field = field_for(part, self.root, required=name in self.schema.get("required", ()))
            field.label = title_of(name, part)
            field.initial = schema_fields.to_initial(field, given)
            self.fields[name] = field

    def _add_other_keys(self) -> None:
        known = self.schema.get("properties", {})
        other = {key: item for key, item in self.stored.items() if key not in known}
        extra = self.schema.get("additionalProperties", False)
        if other or extra or (self.is_bound and f"{self.prefix}-{OTHER}" in self.data):
            field = JSONValueField(required=False, label="Other keys (JSON)")
            field.initial = json.dumps(other, indent=2, ensure_ascii=False) if other else ""
            self.fields[OTHER] = field

    def parts(self) -> Iterator["SchemaForm | SchemaRows"]:
        yield from self.objects.values()
        yield from self.lists.values()

    def is_valid(self) -> bool:
        return all([super().is_valid(), *(part.is_valid() for part in self.parts())])

    def clean(self) -> dict[str, Any]:
        other = self.cleaned_data.get(OTHER)
        if other is not None and not isinstance(other, dict):
            self.add_error(OTHER, 'This must be a JSON object, such as {"key": 1}.')
        return self.cleaned_data

    def value(self) -> dict[str, Any]:
        """The JSON object. Left out are fields that are empty and were not stored before, and those with a fault."""
        found: dict[str, Any] = {}
        for name in self.schema.get("properties", {}):
            if name in self.objects:
                found[name] = self.objects[name].value()
            elif name in self.lists:
                found[name] = self.lists[name].value()
            elif name in self.cleaned_data and not self.fields[name].leaves_out(self.cleaned_data[name]):  # type: ignore[attr-defined]
                found[name] = self.cleaned_data[name]
        return {**found, **(self.cleaned_data.get(OTHER) or {})}

    def disable(self) -> None:
        for field in self.fields.values():
            field.disabled = True
        for part in self.parts():
            part.disable()

    def has_path_error(self, path: Sequence[str]) -> bool:
        """Whether the deepest field of a path has a fault already."""
        head, rest = (path[0], path[1:]) if path else ("", ())
        if head in self.objects:
            return self.objects[head].has_path_error(rest)
        if head in self.lists:
            return self.lists[head].has_path_error(rest)
        return head in self.errors

    def add_path_error(self, path: Sequence[str], message: str) -> None:
        """Attach a fault at a path such as `("memory", "window")` to the deepest field that has it."""
        head, rest = (path[0], path[1:]) if path else ("", ())
        if head in self.objects:
            self.objects[head].add_path_error(rest, message)
        elif head in self.lists:
            self.lists[head].add_path_error(rest, message)
        elif head in self.fields:
            self.add_error(head, message)
        else:
            where = OTHER if OTHER in self.fields else None
            self.add_error(where, f"{head}: {message}" if head else message)


class SchemaRows:
    """A list of objects: a form per row, and one `blank` form that the page copies for a further row."""

    def __init__(self, schema: Schema, *, prefix: str, data: Data, value: Any, root: Schema) -> None:
        self.prefix = prefix
        self.title = ""
        self.description = str(schema.get("description", ""))
        self.error = ""
        item = schema["items"]
        given = value if isinstance(value, list) else []
        self.count = _count(data, f"{prefix}-count") if data is not None else len(given)
        self.rows = [
            SchemaForm(item, prefix=f"{prefix}-{i}", data=data, value=given[i] if i < len(given) else None, root=root)
            for i in _order(data, prefix, self.count)
        ]
        self.blank = SchemaForm(item, prefix=f"{prefix}-{ROW_MARK}", root=root)

    def is_valid(self) -> bool:
        return not [row for row in self.rows if not row.is_valid()]

    def value(self) -> list[dict[str, Any]]:
        return [row.value() for row in self.rows]

    def disable(self) -> None:
        for row in [*self.rows, self.blank]:
            row.disable()

    def has_path_error(self, path: Sequence[str]) -> bool:
        index = int(path[0]) if path and path[0].isdecimal() else -1
        return 0 <= index < len(self.rows) and self.rows[index].has_path_error(path[1:])

    def add_path_error(self, path: Sequence[str], message: str) -> None:
        index = int(path[0]) if path and path[0].isdecimal() else -1
        if 0 <= index < len(self.rows):
            self.rows[index].add_path_error(path[1:], message)
        else:
            self.error = message


def _order(data: Data, prefix: str, count: int) -> list[int]:
    """The rows that the page had at last, by their first numbers: in the order of its fields `<prefix>-order`."""
    if data is None:
        return list(range(count))
    known = {f"{prefix}-{number}": number for number in range(count)}
    placed = getattr(data, "getlist", data.get)(f"{prefix}-order") or known
    there = dict.fromkeys(known[name] for name in placed if name in known)
    return [number for number in there if f"{prefix}-{number}-removed" not in data]


def _count(data: Mapping[str, Any], name: str) -> int:
    return min(whole_number(str(data.get(name, ""))), MAX_ROWS)


def title_of(name: str, part: Schema) -> str:
    """The schema's own title, unless that is the one that pydantic makes of the name."""
    words = re.sub(r"[_-]+", " ", name)
    title = str(part.get("title") or "")
    return _sentence(words) if not title or title == words.title() else title


def _sentence(words: str) -> str:
    """`base url` → `Base URL`."""
    text = re.sub(r"\b(api|http|id|ip|json|url)\b", lambda word: word[0].upper(), words.lower())
    return text[:1].upper() + text[1:]


def split_path(path: str) -> list[str]:
    """`config.rules[0].name` and `config.rules.0.name` → `["config", "rules", "0", "name"]`."""
    return [piece for piece in re.split(r"[.\[\]]+", path) if piece]
