"""Whether toolsets go with a template and a model, with the reasons."""

from typing import Any

import pytest

from tests.conftest import Actor

ASKED = {"template": "conversation", "model": "scripted/default", "toolsets": ["time"]}


@pytest.fixture(autouse=True)
def time(owner: Actor, scripted: object) -> None:
    assert owner.post("toolsets", {"slug": "time", "name": "Time", "kind": "time"}).status_code == 201


def asked(actor: Actor, **changes: Any) -> Any:
    return actor.post("toolsets/compatibility", {**ASKED, **changes})


def test_toolsets_that_go_together(owner: Actor, viewer: Actor) -> None:
    for actor in (owner, viewer):
        told = asked(actor).json()
        assert (told["compatible"], told["errors"]) == (True, [])
        (time,) = told["toolsets"]
        assert (time["toolset"], time["compatible"], time["reasons"]) == ("time", True, [])
        assert "current_time" in time["tools"]


def test_each_toolset_has_its_own_reasons(owner: Actor) -> None:
    owner.post("toolsets", {"slug": "off", "name": "Off", "kind": "time", "enabled": False})
    told = asked(owner, toolsets=["time", "nothing", "off", "time"]).json()
    reasons = [[reason["code"] for reason in each["reasons"]] for each in told["toolsets"]]
    assert reasons == [[], ["unknown_toolset"], ["toolset_disabled"], ["duplicate"]]
    assert [each["compatible"] for each in told["toolsets"]] == [True, False, False, False]
    assert not told["compatible"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"template": "nothing"}, "template_not_found"),
        ({"template_version": "9.9.9"}, "template_version_not_found"),
        ({"model": "nobody/m"}, "unknown_provider"),
        ({"model": "route/nothing"}, "unknown_route"),
    ],
)
def test_what_is_wrong_for_all_of_them(owner: Actor, changes: dict[str, Any], code: str) -> None:
    told = asked(owner, **changes).json()
    assert (told["compatible"], [error["code"] for error in told["errors"]]) == (False, [code])


def test_what_would_have_no_effect_is_a_warning(owner: Actor) -> None:
    told = asked(owner, template="simple").json()
    assert (told["compatible"], told["errors"]) == (True, [])
    assert [warning["code"] for warning in told["warnings"]] == ["tools_unused"]


def test_names_are_as_the_agent_would_have_them(owner: Actor) -> None:
    owner.post("toolsets", {"slug": "watch", "name": "Watch", "kind": "time", "policy": {"only": ["current_time"]}})
    told = asked(owner, toolsets=["time", "watch"]).json()["toolsets"]
    assert told[1]["tools"] == ["watch_current_time"]
    assert "time_current_time" in told[0]["tools"]


def test_a_model_that_calls_no_tools(owner: Actor) -> None:
    owner.post("providers", {"slug": "main", "kind": "openai", "api_key": "sk-x"})
    owner.post("providers/main/models", {"name": "mute", "overrides": {"tools": False}})
    told = asked(owner, model="main/mute").json()
    assert [error["code"] for error in told["errors"]] == ["unsupported_by_model"]


def test_another_tenants_toolset_is_unknown(stranger: Actor) -> None:
    told = asked(stranger).json()
    assert [reason["code"] for reason in told["toolsets"][0]["reasons"]] == ["unknown_toolset"]


@pytest.mark.parametrize("body", [{"toolsets": []}, {"template": None}, {"colour": "red"}, {"toolsets": ["x"] * 51}])
def test_a_wrong_body_is_refused(owner: Actor, body: dict[str, Any]) -> None:
    assert asked(owner, **body).status_code == 400
