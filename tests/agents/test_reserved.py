"""Reserved toolsets are for agents of templates that declare them."""

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from agents.models import Agent
from agents.services import agent_create
from llm.models import Provider
from templates_app.base import AgentTemplate
from templates_app.exceptions import TemplateInvalid
from tests.agents.running import ready, script
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate
from tests.toolsets.vault import VaultKind
from toolsets.models import Toolset
from toolsets.registry import toolset_kinds
from toolsets.services import toolset_create

# A template with the tools of the vault, which asks for one of them by itself.
CAREFUL = """
from templates_app.base import AgentTemplate
from templates_app.events import Answer

class Careful(AgentTemplate):
    slug = "careful"
    version = "1.0.0"
    title = "Careful"
    capabilities = frozenset({"tools"})
    reserved_toolsets = frozenset({"vault"})

    async def run(self, context):
        function = {"name": "look", "arguments": {"name": "gold"}}
        answer = await context.tools.call({"id": "1", "type": "function", "function": function})
        yield Answer({"role": "assistant", "content": answer["content"]}, "stop")
"""


@pytest.fixture(autouse=True)
def reserved() -> Iterator[None]:
    toolset_kinds()["vault"] = type("Reserved", (VaultKind,), {"reserved": True})()
    yield
    del toolset_kinds()["vault"]


def toolset(actor: Actor, kind: str) -> None:
    toolset_create(actor=actor.principal, slug="safe", name="Safe", kind=kind)


def agent(actor: Actor, template: str) -> Agent:
    values = {"slug": template, "name": "A", "model": "scripted/default", "toolsets": ["safe"]}
    return agent_create(actor=actor.principal, template=template, **values)


def test_only_templates_that_declare_it_are_granted_it(
    owner: Actor, body: dict[str, Any], add_template: AddTemplate
) -> None:
    add_template("careful", CAREFUL)
    toolset(owner, "vault")
    refused = owner.post("agents", {**body, "toolsets": ["safe"]})
    (fault,) = refused.json()["error"]["details"]
    assert (refused.status_code, fault["path"], fault["code"]) == (400, "toolsets.0", "toolset_reserved")
    assert "'conversation' does not" in fault["message"]
    made = owner.post("agents", {**body, "toolsets": ["safe"], "template": "careful", "config": {}})
    assert made.status_code == 201, made.content
    assert owner.get("templates/careful").json()["reserved_toolsets"] == ["vault"]


def test_compatibility_tells_why(owner: Actor, scripted: Provider, add_template: AddTemplate) -> None:
    add_template("careful", CAREFUL)
    toolset(owner, "vault")
    told = []
    for template in ("conversation", "careful"):
        asked = {"template": template, "model": "scripted/default", "toolsets": ["safe"]}
        (one,) = owner.post("toolsets/compatibility", asked).json()["toolsets"]
        told.append((one["compatible"], [reason["code"] for reason in one["reasons"]], "put" in one["tools"]))
    assert told == [(False, ["toolset_reserved"], False), (True, [], True)]


def test_the_database_writer_is_reserved(owner: Actor, body: dict[str, Any]) -> None:
    config = {"host": "db.example.com", "database": "shop", "user": "clerk"}
    shop = {"slug": "shop", "name": "Shop", "kind": "database_writer", "config": config, "secrets": {"password": "x"}}
    assert owner.post("toolsets", shop).status_code == 201
    assert owner.get("toolsets/shop/tools").json()["data"][0]["approval"] is True
    refused = owner.post("agents", {**body, "toolsets": ["shop"]}).json()["error"]
    assert refused["code"] == "toolset_reserved"


@pytest.mark.parametrize(("template", "seen"), [("conversation", False), ("careful", True)])
def test_a_toolset_that_took_the_slug_of_another(
    owner: Actor, scripted: Provider, add_template: AddTemplate, template: str, seen: bool
) -> None:
    """The grant was checked when a harmless toolset had the slug: each run looks again."""
    add_template("careful", CAREFUL)
    toolset(owner, "time")
    made = ready(owner, agent(owner, template))
    Toolset.objects.filter(slug="safe").delete()
    toolset(owner, "vault")
    played = async_to_sync(ready(owner, Agent.objects.get(slug=template)).play)(
        script({"tool": "look", "args": {"name": "gold"}}, {"say": "done"})
    )
    (result,) = played.results
    assert (result.content == "gold is there") == seen
    assert seen or result.content == "There is no tool 'look'. Available: none."
    assert made.toolsets[0].reserved == ""


def test_a_declaration_is_a_set_of_kinds() -> None:
    fields = {"slug": "a", "version": "1.0.0", "title": "A", "reserved_toolsets": "vault"}
    with pytest.raises(TemplateInvalid, match="reserved_toolsets"):
        type("Wrong", (AgentTemplate,), fields).check_class()
