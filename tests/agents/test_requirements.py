"""What a template's config needs besides itself, and agents that ask each other in a circle."""

from typing import Any

import pytest

from agents.services import agent_create
from llm.models import Provider, ProviderModel
from templates_app.requirements import Requirements
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate
from toolsets.services import toolset_create

NEEDY = """
from pydantic import field_validator

from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.events import Answer
from templates_app.requirements import Requirements


class Config(TemplateConfig):
    reads_images: bool = False
    searches: bool = False
    runs_code: bool = False
    broken: bool = False
    divisor: int = 1

    @field_validator("divisor")
    @classmethod
    def _divides(cls, value):
        return 1 // value


class Needy(AgentTemplate):
    slug, version, title, Config = "needy", "1.0.0", "Needy", Config
    capabilities = frozenset({"tools"})

    @classmethod
    def requirements(cls, config):
        if config.broken:
            raise SystemExit("no requirements today")
        model = {"vision"} if config.reads_images else set()
        toolsets = {"time", "web"} if config.searches else set()
        return Requirements(frozenset(model), frozenset(toolsets), 2 if config.runs_code else None)

    async def run(self, context):
        yield Answer({"role": "assistant", "content": ""}, "stop")

    def __getattribute__(self, name):
        assert name != "run", "validation runs nothing"
        return super().__getattribute__(name)
"""


@pytest.fixture
def needy(add_template: AddTemplate) -> None:
    add_template("needy", NEEDY)


@pytest.fixture
def asked(body: dict[str, Any], needy: None, owner: Actor) -> dict[str, Any]:
    """An agent of the template on a model of which nothing is known."""
    mock = Provider.objects.create(tenant=owner.tenant, slug="mock", kind="openai", base_url="http://127.0.0.1:9/v1")
    ProviderModel.objects.create(tenant=owner.tenant, provider=mock, name="m")
    return {**body, "template": "needy", "model": "mock/m", "config": {}}


def found(owner: Actor, body: dict[str, Any]) -> tuple[list[str], list[str]]:
    report = owner.post("agents/validate", body).json()
    assert report["valid"] is not report["errors"]
    return tuple([f"{fault['path']} {fault['code']}" for fault in report[part]] for part in ("errors", "warnings"))  # type: ignore[return-value]


def test_all_that_a_config_needs_is_told_at_once(owner: Actor, asked: dict[str, Any], settings: Any) -> None:
    settings.SANDBOX_LEVEL = "off"
    everything = {"reads_images": True, "searches": True, "runs_code": True}
    ProviderModel.objects.update(overrides={"vision": False})
    errors, warnings = found(owner, {**asked, "config": everything})
    assert errors == [
        "config sandbox_missing",
        "model unsupported_by_model",
        "toolsets toolset_required",
        "toolsets toolset_required",
    ]
    assert warnings == []
    refused = owner.post("agents", {**asked, "config": everything})
    assert refused.status_code == 400
    assert len(refused.json()["error"]["details"]) == 4
    assert found(owner, asked) == ([], [])


def test_what_is_not_known_of_a_model_is_a_warning(owner: Actor, asked: dict[str, Any]) -> None:
    images = {**asked, "config": {"reads_images": True}}
    assert found(owner, images) == ([], ["model capability_unverified"])
    ProviderModel.objects.update(overrides={"vision": True})
    assert found(owner, images) == ([], [])


def test_a_route_can_do_what_any_of_its_models_can(
    owner: Actor, asked: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    provider = Provider.objects.get(slug="mock")
    ProviderModel.objects.create(tenant=owner.tenant, provider=provider, name="blind", overrides={"vision": False})
    targets = [{"model": "mock/blind"}]
    assert owner.post("routes", {"slug": "r", "strategy": "fallback", "targets": targets}).status_code == 201
    images = {**asked, "model": "route/r", "config": {"reads_images": True}}
    assert found(owner, images) == (["model unsupported_by_model"], [])
    targets.append({"model": "mock/m"})
    assert owner.patch("routes/r", {"targets": targets}).status_code == 200
    assert found(owner, images) == ([], ["model capability_unverified"])
    with django_capture_on_commit_callbacks(execute=True):
        assert owner.patch("providers/mock/models/m", {"overrides": {"vision": True}}).status_code == 200
    assert found(owner, images) == ([], [])


def test_toolsets_are_needed_by_kind(owner: Actor, asked: dict[str, Any], in_acme: Any) -> None:
    searches = {**asked, "config": {"searches": True}}
    toolset_create(actor=owner.principal, slug="clock", name="Clock", kind="time")
    errors, _ = found(owner, {**searches, "toolsets": ["clock"]})
    assert errors == ["toolsets toolset_required"]
    toolset_create(actor=owner.principal, slug="net", name="Net", kind="web")
    errors, _ = found(owner, {**searches, "toolsets": ["clock", "net"]})
    assert errors == []


@pytest.mark.parametrize(("level", "errors"), [("off", ["config sandbox_missing"]), ("1", []), ("2", [])])
def test_a_sandbox_must_be_strong_enough(
    owner: Actor, asked: dict[str, Any], settings: Any, level: str, errors: list[str]
) -> None:
    settings.SANDBOX_LEVEL = level
    assert found(owner, {**asked, "config": {"runs_code": True}})[0] == errors


def test_a_template_that_fails_is_a_fault_of_its_own(owner: Actor, asked: dict[str, Any]) -> None:
    assert found(owner, {**asked, "config": {"divisor": 0}}) == (["config template_failed"], [])
    assert found(owner, {**asked, "config": {"broken": True}}) == (["config template_failed"], [])


def test_a_template_tells_what_a_config_needs(owner: Actor, needy: None, settings: Any) -> None:
    settings.SANDBOX_LEVEL = "off"

    def told(**config: bool) -> dict[str, Any]:
        report: dict[str, Any] = owner.post("templates/needy/validate", {"config": config}).json()
        return report

    searches = told(searches=True, reads_images=True)
    assert searches["valid"]
    assert searches["requirements"] == {"model": ["vision"], "toolsets": ["time", "web"], "sandbox": None}
    code = told(runs_code=True)
    assert ([fault["code"] for fault in code["errors"]], code["requirements"]["sandbox"]) == (["sandbox_missing"], 2)
    settings.SANDBOX_LEVEL = "1"
    assert told(runs_code=True)["valid"]
    assert owner.post("templates/needy/validate", {"config": {"x": 1}}).json()["requirements"] is None


@pytest.mark.parametrize("wrong", [{"model": frozenset({"flying"})}, {"sandbox": 3}])
def test_unknown_requirements_are_a_mistake_of_the_author(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Requirements(**wrong)


def asker(owner: Actor, slug: str, *agents: str) -> None:
    toolset_create(actor=owner.principal, slug=slug, name=slug, kind="agents", config={"agents": list(agents)})


def test_agents_that_would_ask_in_a_circle(
    owner: Actor, body: dict[str, Any], in_acme: Any, django_assert_max_num_queries: Any
) -> None:
    def agent(slug: str, *toolsets: str) -> None:
        made = {"slug": slug, "name": slug, "template": "conversation", "model": "scripted/default"}
        agent_create(actor=owner.principal, **made, toolsets=list(toolsets))

    for slug, others in {"to-b": ["b"], "to-c": ["c"], "to-helper": ["helper", "nobody"]}.items():
        asker(owner, slug, *others)
    agent("c", "to-helper")
    agent("b", "to-c")
    assert found(owner, {**body, "toolsets": ["to-helper"]}) == (
        [],
        ["toolsets.0 asks_itself", "toolsets.0 unknown_agent"],
    )
    with django_assert_max_num_queries(12):
        report = owner.post("agents/validate", {**body, "toolsets": ["to-b"]}).json()
    (warning,) = report["warnings"]
    assert (report["valid"], warning["code"]) == (True, "asks_in_circle")
    assert "helper → b → c → helper" in warning["message"]
    assert found(owner, {**body, "slug": "fourth", "toolsets": ["to-b"]}) == ([], [])


def test_another_tenants_agents_make_no_circle(
    owner: Actor, stranger: Actor, body: dict[str, Any], in_acme: Any
) -> None:
    asker(owner, "to-b", "b")
    stranger.post("toolsets", {"slug": "to-helper", "name": "T", "kind": "agents", "config": {"agents": ["helper"]}})
    assert found(owner, {**body, "toolsets": ["to-b"]}) == ([], ["toolsets.0 unknown_agent"])
