"""The form made from a JSON Schema: every value comes back as it was, and faults find their field."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from core.admin.schema_form import OTHER, SchemaForm, split_path
from core.validation import config_schema, parse_config


class Window(BaseModel):
    model_config = ConfigDict(extra="forbid")
    turns: int = Field(10, ge=1, lt=100)
    keep: bool = True


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=40)
    score: float | None = None


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field("Hello", max_length=80)
    prompt: str
    mood: Literal["kind", "strict"] = "kind"
    level: Literal[1, 2, 3] | None = None
    limit: int | None = 5
    share: float = Field(0.5, ge=0, le=1)
    strict: bool = False
    maybe: bool | None = None
    stop: list[str] = []
    days: list[Literal["mon", "tue"]] = []
    window: Window = Window()
    rules: list[Rule] = []
    free: dict[str, int] = {}
    union: int | str = 0


FULL: dict[str, Any] = {
    "title": "",
    "prompt": "line one\nline two ",
    "mood": "strict",
    "level": 2,
    "limit": None,
    "share": 0.25,
    "strict": True,
    "maybe": False,
    "stop": ["END", "STOP"],
    "days": ["tue"],
    "window": {"turns": 3, "keep": False},
    "rules": [{"name": "a", "score": 1.5}, {"name": "b", "score": None}],
    "free": {"x": 1},
    "union": "text",
}


def browser(form: SchemaForm) -> dict[str, Any]:
    """What a browser would send back of an untouched form."""
    sent: dict[str, Any] = {}
    for name in form.fields:
        bound = form[name]
        value = bound.value()
        if value is None or value is False:
            continue
        sent[bound.html_name] = "on" if value is True else crlf(value)
    for child in form.objects.values():
        sent |= browser(child)
    for rows in form.lists.values():
        sent[f"{rows.prefix}-count"] = str(rows.count)
        for row in rows.rows:
            sent |= browser(row)
    return sent


def crlf(value: Any) -> Any:
    return value.replace("\n", "\r\n") if isinstance(value, str) else value


class Posted(dict[str, Any]):
    """A dict that answers as a QueryDict does."""

    def getlist(self, key: str) -> list[Any]:
        found = self.get(key, [])
        return found if isinstance(found, list) else [found]


def bound(data: dict[str, Any], stored: dict[str, Any] | None = None) -> SchemaForm:
    return SchemaForm(config_schema(Config), prefix="config", data=Posted(data), value=stored)


def test_every_value_comes_back_as_it_was() -> None:
    shown = SchemaForm(config_schema(Config), prefix="config", value=FULL)
    form = bound(browser(shown), FULL)
    assert form.is_valid(), form.errors
    value = form.value()
    assert value == {**FULL, "rules": [{"name": "a", "score": 1.5}, {"name": "b"}]}
    parse_config(Config, value)


def test_an_untouched_new_form_needs_only_what_is_required() -> None:
    sent = browser(SchemaForm(config_schema(Config), prefix="config"))
    form = bound({**sent, "config-prompt": "Hi"})
    assert form.is_valid(), form.errors
    assert parse_config(Config, form.value()) == Config(prompt="Hi")


def test_faults_stand_at_their_fields() -> None:
    sent = browser(SchemaForm(config_schema(Config), prefix="config", value=FULL))
    sent |= {"config-share": "2", "config-window-turns": "100", "config-rules-0-score": "x", "config-free": "{"}
    form = bound(sent, FULL)
    assert not form.is_valid()
    assert "share" in form.errors
    assert "turns" in form.objects["window"].errors
    assert "score" in form.lists["rules"].rows[0].errors
    assert "not valid JSON" in form.errors["free"][0]


@pytest.mark.parametrize("text", ['{"a": "\\u0000"}', '"\\ud800"', "[" * 100 + "]" * 100])
def test_what_cannot_be_stored_is_refused(text: str) -> None:
    form = bound({"config-prompt": "x", "config-free": text})
    assert not form.is_valid()
    assert "free" in form.errors


def test_a_services_faults_find_the_deepest_field() -> None:
    form = bound(browser(SchemaForm(config_schema(Config), prefix="config", value=FULL)), FULL)
    assert form.is_valid()
    form.add_path_error(["window", "turns"], "too long")
    form.add_path_error(["rules", "1", "name"], "taken")
    form.add_path_error(["rules"], "too many")
    form.add_path_error(["unheard"], "unknown")
    assert form.objects["window"].errors["turns"] == ["too long"]
    assert form.lists["rules"].rows[1].errors["name"] == ["taken"]
    assert form.lists["rules"].error == "too many"
    assert form.non_field_errors() == ["unheard: unknown"]


def test_keys_that_the_schema_does_not_know_are_kept() -> None:
    stored = {"prompt": "x", "old": {"deep": [1, 2]}}
    shown = SchemaForm(config_schema(Config), prefix="config", value=stored)
    assert OTHER in shown.fields
    form = bound(browser(shown), stored)
    assert form.is_valid()
    assert form.value()["old"] == {"deep": [1, 2]}
    form = bound({**browser(shown), f"config-{OTHER}": "[1]"}, stored)
    assert not form.is_valid()


def test_rows_are_added_and_removed() -> None:
    stored = {"prompt": "x", "rules": [{"name": "a"}, {"name": "b"}]}
    sent = browser(SchemaForm(config_schema(Config), prefix="config", value=stored))
    sent |= {"config-rules-0-removed": "1", "config-rules-count": "3", "config-rules-2-name": "c"}
    form = bound(sent, stored)
    assert form.is_valid(), form.errors
    assert form.value()["rules"] == [{"name": "b"}, {"name": "c"}]


@pytest.mark.parametrize("count", ["-1", "x", "", "999999999999"])
def test_a_forged_count_makes_no_rows(count: str) -> None:
    form = bound({"config-prompt": "x", "config-rules-count": count})
    assert form.lists["rules"].rows == []


def test_a_disabled_form_is_disabled_throughout() -> None:
    form = SchemaForm(config_schema(Config), prefix="config", value=FULL)
    form.disable()
    fields = [
        *form.fields.values(),
        *form.objects["window"].fields.values(),
        *form.lists["rules"].rows[0].fields.values(),
    ]
    assert all(field.disabled for field in fields)


def test_paths() -> None:
    assert split_path("config.rules[0].name") == split_path("config.rules.0.name") == ["config", "rules", "0", "name"]
    assert split_path("") == []
