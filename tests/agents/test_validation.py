from typing import Any

import pytest

from agents.models import Agent
from agents.services import agent_create
from audit.models import AuditEvent
from core.errors import InvalidRequest
from llm.models import Provider, ProviderModel
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate, echo
from toolsets.services import toolset_create, toolset_update


def faults(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


def test_every_fault_is_told_at_once_and_nothing_is_written(owner: Actor, clock: Any) -> None:
    body = {
        "slug": "Not A Slug",
        "template": "conversation",
        "model": "nobody/gpt",
        "instructions": 5,
        "config": {"max_steps": 0, "colour": "red", "temperature": "hot"},
        "toolsets": ["clock", "gone", "clock"],
        "metadata": [],
        "invented": True,
    }
    assert faults(owner.post("agents", body)) == {
        "slug": "invalid",
        "name": "required",
        "instructions": "invalid",
        "metadata": "not_a_dict",
        "invented": "unknown_field",
        "config.max_steps": "greater_than_equal",
        "config.colour": "extra_forbidden",
        "config.temperature": "float_type",
        "model": "unknown_provider",
        "toolsets.1": "unknown_toolset",
        "toolsets.2": "duplicate",
    }
    assert not Agent.objects.exists()
    assert not AuditEvent.objects.filter(object_type="agent").exists()


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"slug": "validate"}, "slug", "reserved"),
        ({"slug": "01a1fbe7-775f-7163-a6be-bdfb065efdb1"}, "slug", "reserved"),
        ({"slug": "x" * 64}, "slug", "max_length"),
        ({"slug": "-x"}, "slug", "invalid"),
        ({"name": "x" * 121}, "name", "max_length"),
        ({"name": "\t"}, "name", "invalid"),
        ({"template": "nothing"}, "template", "template_not_found"),
        ({"template_version": "9.9.9"}, "template_version", "template_version_not_found"),
        ({"template_version": 1}, "template_version", "invalid"),
        ({"model": "gpt"}, "model", "invalid"),
        ({"model": "/gpt"}, "model", "invalid"),
        ({"model": "scripted/"}, "model", "invalid"),
        ({"model": "scripted/de fault"}, "model", "invalid"),
        ({"model": "scripted/other"}, "model", "unknown_model"),
        ({"model": "x" * 256}, "model", "max_length"),
        ({"instructions": "x" * 100_001}, "instructions", "max_length"),
        ({"metadata": {"x": "y" * 65_536}}, "metadata", "too_large"),
        ({"toolsets": ["x"] * 51}, "toolsets", "max_length"),
        ({"toolsets": [7]}, "toolsets.0", "invalid"),
        ({"toolsets": "clock"}, "toolsets", "not_a_list"),
        ({"config": {"max_steps": 51}}, "config.max_steps", "less_than_equal"),
        ({"when_busy": "later"}, "when_busy", "invalid_choice"),
        ({"when_busy": "Queue"}, "when_busy", "invalid_choice"),
        ({"when_busy": ""}, "when_busy", "invalid_choice"),
        ({"when_busy": 1}, "when_busy", "invalid_choice"),
        ({"when_busy": ["queue"]}, "when_busy", "invalid_choice"),
        ({"when_busy": None}, "when_busy", "null"),
        ({"max_concurrent_runs": 0}, "max_concurrent_runs", "min_value"),
        ({"max_concurrent_runs": -1}, "max_concurrent_runs", "min_value"),
        ({"max_concurrent_runs": 10_001}, "max_concurrent_runs", "max_value"),
        ({"max_concurrent_runs": 2**63 - 1}, "max_concurrent_runs", "max_value"),
        ({"max_concurrent_runs": "5"}, "max_concurrent_runs", "invalid"),
        ({"max_concurrent_runs": 5.0}, "max_concurrent_runs", "invalid"),
        ({"max_concurrent_runs": True}, "max_concurrent_runs", "invalid"),
        ({"max_concurrent_runs": [5]}, "max_concurrent_runs", "invalid"),
    ],
)
def test_each_rule(owner: Actor, body: dict[str, Any], change: dict[str, Any], path: str, code: str) -> None:
    assert faults(owner.post("agents", {**body, **change})) == {path: code}
    assert not Agent.objects.exists()
    assert owner.post("agents", body).status_code == 201
    assert faults(owner.patch("agents/helper", change)) == {path: code}
    report = owner.post("agents/validate", {**body, **change}).json()
    assert [(fault["path"], fault["code"]) for fault in report["errors"]] == [(path, code)]


def test_validate_answers_without_making_anything(
    owner: Actor, viewer: Actor, stranger: Actor, body: dict[str, Any]
) -> None:
    assert viewer.post("agents/validate", body).json() == {"valid": True, "errors": [], "warnings": []}
    assert stranger.post("agents/validate", body).json()["valid"] is False
    partial = owner.post("agents/validate", {"template": "conversation", "config": {"max_steps": 0}}).json()
    assert {fault["path"] for fault in partial["errors"]} == {"slug", "name", "model", "config.max_steps"}
    assert not Agent.objects.exists()
    assert owner.get("agents/validate").status_code == 405
    assert owner.post("agents/validate", {**body, "template_version": None}).json()["valid"] is True
    assert owner.post("agents/validate", {**body, "name": None}).json()["errors"][0]["code"] == "null"
    assert owner.post("agents/validate", []).status_code == 400
    assert faults(owner.post("agents/validate", {**body, "colour": "red"})) == {"colour": "unknown_field"}


def test_a_model_of_an_open_list_is_known_once_the_provider_was_tested(owner: Actor, body: dict[str, Any]) -> None:
    mock = Provider.objects.create(tenant=owner.tenant, slug="mock", kind="openai", base_url="http://127.0.0.1:9/v1")
    report = owner.post("agents/validate", {**body, "model": "mock/gpt-4o"}).json()
    assert (report["valid"], report["warnings"][0]["code"]) == (True, "model_unverified")
    ProviderModel.objects.create(tenant=owner.tenant, provider=mock, name="mine", entered=True)
    report = owner.post("agents/validate", {**body, "model": "mock/mine"}).json()
    assert (report["valid"], report["warnings"]) == (True, [])
    report = owner.post("agents/validate", {**body, "model": "mock/gpt-4o"}).json()
    assert (report["valid"], report["warnings"][0]["code"]) == (True, "model_unverified")
    ProviderModel.objects.create(tenant=owner.tenant, provider=mock, name="gpt-4o")
    report = owner.post("agents/validate", {**body, "model": "mock/gpt-4o"}).json()
    assert (report["valid"], report["warnings"]) == (True, [])
    report = owner.post("agents/validate", {**body, "model": "mock/gpt-5"}).json()
    assert report["errors"][0]["code"] == "unknown_model"
    Provider.objects.filter(slug="mock").update(kind="gone")
    report = owner.post("agents/validate", {**body, "model": "mock/gpt-4o"}).json()
    assert report["errors"][0]["code"] == "provider_kind_missing"


def found(owner: Actor, body: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    report = owner.post("agents/validate", body).json()
    return tuple({fault["path"]: fault["code"] for fault in report[part]} for part in ("errors", "warnings"))


def test_what_the_model_can_do_is_compared_with_what_the_agent_asks(
    owner: Actor, body: dict[str, Any], clock: Any
) -> None:
    mock = Provider.objects.create(tenant=owner.tenant, slug="mock", kind="openai", base_url="http://127.0.0.1:9/v1")
    model = ProviderModel.objects.create(tenant=owner.tenant, provider=mock, name="m")
    asked = {**body, "model": "mock/m", "toolsets": ["clock"], "config": {"max_tokens": 5000}}
    assert found(owner, asked) == ({}, {"toolsets": "tools_unverified"})
    assert owner.post("agents", asked).status_code == 201
    rows = ProviderModel.objects.filter(id=model.id)
    rows.update(overrides={"tools": False, "output_tokens": 4096})
    expected = {"toolsets": "unsupported_by_model", "config.max_tokens": "over_model_output"}
    assert found(owner, asked) == (expected, {})
    assert faults(owner.post("agents", {**asked, "slug": "second"})) == expected
    assert faults(owner.patch("agents/helper", {"name": "Other"})) == expected
    assert Agent.objects.count() == 1
    plain = {**asked, "template": "simple", "config": {}}
    assert found(owner, plain) == ({}, {"toolsets": "tools_unused"})
    rows.update(overrides={"tools": True, "output_tokens": 5000})
    assert found(owner, asked) == ({}, {})


def test_the_catalog_is_asked_as_well(owner: Actor, body: dict[str, Any], clock: Any) -> None:
    Provider.objects.create(tenant=owner.tenant, slug="main", kind="openai")
    asked = {**body, "model": "main/gpt-4o", "toolsets": ["clock"], "config": {"max_tokens": 16_385}}
    assert found(owner, asked) == ({"config.max_tokens": "over_model_output"}, {"model": "model_unverified"})


def test_a_model_that_is_switched_off(owner: Actor, body: dict[str, Any]) -> None:
    ProviderModel.objects.filter(name="default").update(enabled=False)
    assert faults(owner.post("agents", body)) == {"model": "model_disabled"}


def test_toolsets_that_cannot_be_used(owner: Actor, body: dict[str, Any], clock: Any) -> None:
    toolset_update(actor=owner.principal, ref="clock", changes={"enabled": False})
    assert faults(owner.post("agents", {**body, "toolsets": ["clock"]})) == {"toolsets.0": "toolset_disabled"}
    type(clock).objects.update(enabled=True, kind="gone")
    assert faults(owner.post("agents", {**body, "toolsets": ["clock"]})) == {"toolsets.0": "toolset_broken"}


def test_what_was_switched_off_since_keeps_an_agent_from_no_other_change(
    owner: Actor, body: dict[str, Any], clock: Any
) -> None:
    assert owner.post("agents", {**body, "toolsets": ["clock"]}).status_code == 201
    toolset_create(actor=owner.principal, slug="watch", name="Watch", kind="time", enabled=False)
    for state in ({"enabled": False}, {"kind": "gone"}, {"slug": "lost"}):
        type(clock).objects.filter(id=clock.id).update(**state)
        assert owner.patch("agents/helper", {"name": f"After {state}"}).status_code == 200
        added = owner.patch("agents/helper", {"toolsets": ["clock", "watch"]})
        assert faults(added) == {"toolsets.1": "toolset_disabled"}
    assert owner.patch("agents/helper", {"toolsets": []}).status_code == 200
    assert faults(owner.patch("agents/helper", {"toolsets": ["clock"]})) == {"toolsets.0": "unknown_toolset"}


def test_two_toolsets_of_one_kind_are_told_apart_by_prefix(owner: Actor, body: dict[str, Any], clock: Any) -> None:
    toolset_create(actor=owner.principal, slug="watch", name="Watch", kind="time")
    assert owner.post("agents", {**body, "toolsets": ["clock", "watch"]}).status_code == 201


def test_names_too_long_to_tell_apart_are_a_clash(owner: Actor, body: dict[str, Any], in_acme: Any) -> None:
    slugs = [f"{'x' * 61}{n}" for n in range(2)]
    for slug in slugs:
        toolset_create(actor=owner.principal, slug=slug, name=slug, kind="time")
    found = owner.post("agents", {**body, "toolsets": slugs})
    assert faults(found) == {"toolsets": "tool_name_clash"}


def test_tools_for_a_template_that_uses_none_are_a_warning(owner: Actor, body: dict[str, Any], clock: Any) -> None:
    sent = {**body, "template": "simple", "config": {}, "toolsets": ["clock"]}
    report = owner.post("agents/validate", sent).json()
    assert (report["valid"], [fault["code"] for fault in report["warnings"]]) == (True, ["tools_unused"])


def test_only_a_template_that_hears_can_be_steered(owner: Actor, viewer: Actor, body: dict[str, Any]) -> None:
    plain = {**body, "template": "simple", "config": {}}
    assert faults(owner.post("agents", {**plain, "when_busy": "steer"})) == {"when_busy": "steering_unsupported"}
    report = viewer.post("agents/validate", {**plain, "when_busy": "steer"}).json()
    (found,) = report["errors"]
    assert (found["path"], found["code"]) == ("when_busy", "steering_unsupported")
    assert "'simple'" in found["message"]
    assert not Agent.objects.exists()
    owner.post("agents", plain)
    assert faults(owner.patch("agents/helper", {"when_busy": "steer"})) == {"when_busy": "steering_unsupported"}
    assert owner.put("agents/helper", {**body, "when_busy": "steer"}).json()["when_busy"] == "steer"
    away = {"template": "simple", "config": {}}
    assert faults(owner.patch("agents/helper", away)) == {"when_busy": "steering_unsupported"}
    assert owner.patch("agents/helper", {**away, "when_busy": "reject"}).status_code == 200


def test_a_service_checks_what_no_endpoint_checked(owner: Actor, body: dict[str, Any]) -> None:
    for change in ({"when_busy": "later"}, {"max_concurrent_runs": 0}, {"max_concurrent_runs": 10_001}):
        with pytest.raises(InvalidRequest) as refused:
            agent_create(actor=owner.principal, **{**body, **change})
        assert refused.value.param == next(iter(change))
    assert not Agent.objects.exists()


def test_an_unhealthy_template_says_why(owner: Actor, body: dict[str, Any], add_template: AddTemplate) -> None:
    add_template("broken", "import no_such_module")
    report = owner.post("agents/validate", {**body, "template": "broken"}).json()
    assert report["errors"][0]["code"] == "template_unhealthy"
    assert "no_such_module" in report["errors"][0]["message"]


def test_an_agent_keeps_its_template_version_until_it_asks_for_another(
    owner: Actor, body: dict[str, Any], add_template: AddTemplate
) -> None:
    add_template("echo", echo("1.0.0"))
    owner.post("agents", {**body, "template": "echo", "config": {}})
    add_template("echo2", echo("2.0.0"))
    assert owner.patch("agents/helper", {"name": "Other"}).json()["template_version"] == "1.0.0"
    assert owner.patch("agents/helper", {"template_version": None}).json()["template_version"] == "2.0.0"
    assert owner.patch("agents/helper", {"template": "conversation"}).json()["template_version"] == "1.0.0"
    assert owner.patch("agents/helper", {"template": "echo"}).json()["template_version"] == "2.0.0"
    pinned = owner.patch("agents/helper", {"template": "echo", "template_version": "1.0.0"}).json()
    assert pinned["template_version"] == "1.0.0"


def test_an_agent_whose_model_is_gone_can_still_be_renamed(owner: Actor, body: dict[str, Any]) -> None:
    owner.post("agents", body)
    Provider.objects.all().delete()
    assert owner.patch("agents/helper", {"slug": "aide"}).status_code == 200
    assert faults(owner.patch("agents/aide", {"name": "Aide"})) == {"model": "unknown_provider"}
    assert faults(owner.post("agents/aide/versions/1/restore")) == {"model": "unknown_provider"}


def test_a_reader_whose_model_is_not_there_is_a_warning(owner: Actor, body: dict[str, Any], in_acme: Any) -> None:
    config = {"model": "no/such"}
    toolset_create(actor=owner.principal, slug="reader", name="Reader", kind="llm", config=config)
    sent = {**body, "toolsets": ["reader"]}
    assert found(owner, sent) == ({}, {"toolsets.0.model": "unknown_provider"})
    assert owner.post("agents", sent).status_code == 201


def test_a_config_has_room_for_what_its_fields_take(owner: Actor, body: dict[str, Any]) -> None:
    def report(texts: int) -> tuple[dict[str, str], dict[str, str]]:
        steps = [{"name": f"s{number}", "prompt": "x" * 20_000} for number in range(texts)]
        return found(owner, {**body, "template": "workflow", "config": {"steps": steps}})

    assert report(26)[0] == {}
    assert report(27)[0] == {"config": "too_large"}
    code = {"type": "inline", "content": "def main(given): pass\n#".ljust(65_536, "\U0001f40d"), "entryPoint": "main"}
    assert found(owner, {**body, "template": "custom", "config": {**code, "language": "python"}})[0] == {}
