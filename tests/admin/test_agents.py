"""Agents in the pages: made from the schema's form, changed, compared, restored; and what a viewer may do of it."""

import re
from typing import Any

import pytest
from django.test import Client

from agents.models import Agent, AgentVersion
from audit.models import AuditEvent
from core.tenant import tenant_context
from llm.services.providers import provider_create
from tenants.models import Tenant
from tenants.principal import system_principal
from tests.admin.conftest import page, post, text_of
from toolsets.services import toolset_create

FORM: dict[str, Any] = {
    "name": "Trip planner",
    "slug": "trips",
    "status": "active",
    "template": "conversation",
    "model": "scripted/default",
    "instructions": "Plan trips.",
    "when_busy": "queue",
    "max_concurrent_runs": "",
    "metadata": "",
    "config-of": "conversation",
    "config-history_turns": "20",
    "config-max_steps": "8",
    "config-temperature": "",
    "config-max_tokens": "",
}


@pytest.fixture
def agent(olga: Client, scripted: str, acme: Tenant) -> Agent:
    response = post(olga, "agents/agent/add/", FORM)
    assert response.status_code == 302, text_of(response)
    with tenant_context(acme.id):
        return Agent.objects.select_related("version").get(slug="trips")


def reload(agent: Agent) -> Agent:
    with tenant_context(agent.tenant_id):
        return Agent.objects.select_related("version").get(id=agent.id)


def change(client: Client, agent: Agent, **values: Any) -> Any:
    return post(client, f"agents/agent/{agent.id}/change/", {**FORM, **values})


def test_the_form_makes_an_agent_through_its_service(agent: Agent, acme: Tenant) -> None:
    assert agent.status == "active"
    assert agent.version is not None
    assert agent.version.config == {"history_turns": 20, "max_steps": 8}
    assert agent.version.created_by == "olga"
    with tenant_context(acme.id):
        event = AuditEvent.objects.get(action="agent.create", object_id=str(agent.id))
    assert (event.actor_kind, event.actor_label) == ("user", "olga")


def test_each_change_is_a_version_that_the_page_compares_and_restores(olga: Client, agent: Agent) -> None:
    longer = "Plan trips by train only, and never by aeroplane unless the sea is in between."
    response = change(olga, agent, **{"instructions": longer, "config-max_steps": "3", "config-temperature": "0.5"})
    assert response["Location"].endswith("/t/acme/admin/agents/agent/")
    content = text_of(page(olga, f"agents/agent/{agent.id}/versions/"))
    assert "Version 2 against version 1" in content
    assert re.search(r"config\.max_steps.*<del>8</del>.*<ins>3</ins>", content, re.DOTALL)
    assert "Restore version" not in content
    older = text_of(page(olga, f"agents/agent/{agent.id}/versions/", version="1"))
    assert "Restore version 1" in older
    response = post(olga, f"agents/agent/{agent.id}/versions/restore/", {"number": "1"})
    assert response["Location"].endswith(f"/agents/agent/{agent.id}/versions/")
    version = reload(agent).version
    assert version is not None
    assert (version.number, version.restored_from) == (3, 1)
    assert version.config == {"history_turns": 20, "max_steps": 8}
    assert "Version 1 was restored as version 3." in text_of(olga.get(response["Location"]))


def test_what_happens_under_load_is_a_section_of_the_form(olga: Client, agent: Agent) -> None:
    assert change(olga, agent, when_busy="steer", max_concurrent_runs="12").status_code == 302
    version = reload(agent).version
    assert version is not None
    assert (version.number, version.when_busy, version.max_concurrent_runs) == (2, "steer", 12)
    compared = text_of(page(olga, f"agents/agent/{agent.id}/versions/"))
    assert re.search(r"when_busy.*<del>queue</del>.*<ins>steer</ins>", compared, re.DOTALL)
    assert re.search(r"max_concurrent_runs.*<del>none</del>.*<ins>12</ins>", compared, re.DOTALL)
    content = text_of(page(olga, f"agents/agent/{agent.id}/change/"))
    assert "Under load" in content
    assert '<option value="steer" selected' in content
    assert 'name="max_concurrent_runs" value="12"' in content
    assert change(olga, agent, when_busy="steer").status_code == 302
    assert reload(agent).version.max_concurrent_runs is None  # type: ignore[union-attr]


def test_faults_under_load_stand_at_their_fields(olga: Client, agent: Agent) -> None:
    simple = {"template": "simple", "config-of": "simple", "when_busy": "steer"}
    assert "The template &#x27;simple&#x27; hears nothing" in text_of(change(olga, agent, **simple))
    for limit in ("0", "-1", "10001", "1.5", "many"):
        content = text_of(change(olga, agent, max_concurrent_runs=limit))
        assert content.count('aria-invalid="true"') == 1, limit
    assert "Select a valid choice" in text_of(change(olga, agent, when_busy="later"))
    assert reload(agent).version == agent.version


def test_the_stored_values_stand_in_the_form(olga: Client, agent: Agent) -> None:
    content = text_of(page(olga, f"agents/agent/{agent.id}/change/"))
    for value in (
        'value="Trip planner"',
        'value="scripted/default"',
        "Plan trips.",
        'name="config-max_steps" value="8"',
    ):
        assert value in content, value


def test_faults_stand_at_their_fields_and_nothing_is_written(olga: Client, agent: Agent) -> None:
    response = change(olga, agent, **{"config-max_steps": "500", "model": "nowhere/x"})
    assert response.status_code == 200
    assert "Ensure this value is less than or equal to 50." in text_of(response)
    assert "Correct the marked fields of the configuration." in text_of(response)
    response = change(olga, agent, model="nowhere/x")
    assert response.status_code == 200
    assert "nowhere" in text_of(response)
    assert reload(agent).version == agent.version


@pytest.mark.parametrize("number", ["99", "", "x", "-1", "9" * 40, "9" * 5000])
def test_restoring_what_is_not_there_tells_so(olga: Client, agent: Agent, number: str) -> None:
    response = post(olga, f"agents/agent/{agent.id}/versions/restore/", {"number": number})
    assert "has no version" in text_of(olga.get(response["Location"]))
    assert reload(agent).version == agent.version


def test_all_faults_are_told_at_once(olga: Client, scripted: str) -> None:
    faulty = {**FORM, "config-max_steps": "999", "model": "nope/x", "metadata": "[1]"}
    content = text_of(post(olga, "agents/agent/add/", faulty))
    for fault in (
        "Please correct the errors below.",
        "Ensure this value is less than or equal to 50.",
        "There is no provider 'nope'.",
        "This must be a JSON object",
    ):
        assert fault.replace("'", "&#x27;") in content, fault
    assert content.count('aria-invalid="true"') == 3


def test_a_new_agent_is_a_draft_unless_somebody_says_otherwise(olga: Client, scripted: str) -> None:
    assert '<option value="draft" selected' in text_of(page(olga, "agents/agent/add/"))


def test_restore_happens_by_post_only(olga: Client, agent: Agent) -> None:
    assert page(olga, f"agents/agent/{agent.id}/versions/restore/", number="1").status_code == 403


def test_a_taken_slug_is_told_at_the_slug(olga: Client, agent: Agent) -> None:
    response = post(olga, "agents/agent/add/", FORM)
    assert response.status_code == 200
    assert "exists" in text_of(response)


def test_another_template_brings_its_own_fields(olga: Client, agent: Agent) -> None:
    content = text_of(page(olga, "agents/agent/add/", template="simple"))
    assert 'name="config-of" value="simple"' in content
    assert "config-max_steps" not in content
    response = change(olga, agent, template="simple")  # a browser without scripts: the old fields were sent
    assert response.status_code == 200
    assert "These are the fields of" in text_of(response)
    assert reload(agent).version == agent.version
    response = change(olga, agent, **{"template": "simple", "config-of": "simple", "config-temperature": "1"})
    assert response.status_code == 302
    version = reload(agent).version
    assert version is not None
    assert (version.template, version.config) == ("simple", {"temperature": 1.0})


def test_a_template_that_is_gone_keeps_its_configuration(olga: Client, agent: Agent, acme: Tenant) -> None:
    with tenant_context(acme.id):
        AgentVersion.objects.filter(id=agent.version_id).update(template="gone", config={"secret": [1]})
    content = text_of(page(olga, f"agents/agent/{agent.id}/change/"))
    assert "is not installed on this server" in content
    assert "gone (not installed)" in content


def test_deleting_asks_first(olga: Client, agent: Agent, acme: Tenant) -> None:
    path = f"agents/agent/{agent.id}/delete/"
    assert "Are you sure" in text_of(page(olga, path))
    assert post(olga, path, {"post": "yes"}).status_code == 302
    with tenant_context(acme.id):
        assert not Agent.objects.filter(id=agent.id).exists()
        assert AuditEvent.objects.filter(action="agent.delete").exists()


def test_a_viewer_sees_everything_disabled_and_changes_nothing(vera: Client, agent: Agent) -> None:
    content = text_of(page(vera, f"agents/agent/{agent.id}/change/"))
    fields = re.findall(
        r"<(?:input|select|textarea)[^>]*name=\"(?:name|slug|model|config-max_steps|instructions)\"[^>]*>", content
    )
    assert len(fields) == 5
    assert all("disabled" in field for field in fields)
    assert 'name="_save"' not in content
    assert change(vera, agent, name="Mine").status_code == 403
    assert post(vera, "agents/agent/add/", {**FORM, "slug": "mine"}).status_code == 403
    assert post(vera, f"agents/agent/{agent.id}/delete/", {"post": "yes"}).status_code == 403
    assert post(vera, f"agents/agent/{agent.id}/versions/restore/", {"number": "1"}).status_code == 403
    assert page(vera, f"agents/agent/{agent.id}/try/").status_code == 403
    assert page(vera, f"agents/agent/{agent.id}/versions/").status_code == 200
    assert reload(agent).version == agent.version


def test_a_stranger_meets_no_agent_by_its_id(stan: Client, agent: Agent) -> None:
    for path in ("change/", "versions/", "try/", "delete/"):
        response = page(stan, f"agents/agent/{agent.id}/{path}", tenant="globex")
        assert response.status_code in (302, 404), path
    assert post(stan, f"agents/agent/{agent.id}/change/", FORM, tenant="globex").status_code == 302
    assert post(stan, f"agents/agent/{agent.id}/versions/restore/", {"number": "1"}, tenant="globex").status_code == 302
    assert reload(agent).version == agent.version


def test_two_tabs_of_two_tenants_save_each_where_it_belongs(
    olga: Client, agent: Agent, acme: Tenant, globex: Tenant
) -> None:
    with tenant_context(globex.id):
        provider_create(actor=system_principal(globex.id, "globex"), slug="scripted", kind="scripted")
    page(olga, "agents/agent/add/", tenant="acme")
    page(olga, "agents/agent/add/", tenant="globex")  # the second tab is opened before the first is sent
    assert post(olga, "agents/agent/add/", {**FORM, "slug": "of-acme"}, tenant="acme").status_code == 302
    assert post(olga, "agents/agent/add/", {**FORM, "slug": "of-globex"}, tenant="globex").status_code == 302
    for tenant, slug in ((acme, "of-acme"), (globex, "of-globex")):
        with tenant_context(tenant.id):
            assert list(Agent.objects.filter(slug__startswith="of-").values_list("slug", flat=True)) == [slug]


def test_the_page_to_try_names_agent_and_tenant(olga: Client, agent: Agent) -> None:
    content = text_of(page(olga, f"agents/agent/{agent.id}/try/"))
    assert 'data-agent="trips" data-tenant="acme"' in content
    assert "csrfmiddlewaretoken" in content


def test_all_faults_of_custom_code_are_shown_at_once(olga: Client, scripted: str) -> None:
    form = {
        **FORM,
        "name": "",
        "template": "custom",
        "config-of": "custom",
        "config-type": '"inline"',
        "config-content": "def main(",
        "config-entryPoint": "no name",
        "config-language": '"python"',
        "config-dependencies": "requests",
        "config-timeout": "0",
    }
    content = text_of(post(olga, "agents/agent/add/", form))
    for fault in ("was never closed", "String should match pattern", "greater than or equal to 1", "requests"):
        assert fault in content, fault
    assert content.count("Correct the marked fields of the configuration.") == 1


def test_the_form_names_toolsets_by_their_slugs_too_and_has_room_for_code(
    olga: Client, agent: Agent, acme: Tenant
) -> None:
    with tenant_context(acme.id):
        toolset_create(actor=system_principal(acme.id, acme.slug), slug="clock", name="Big Ben", kind="time")
        AgentVersion.objects.filter(id=agent.version_id).update(toolsets=["lost"])
    content = text_of(page(olga, f"agents/agent/{agent.id}/change/"))
    assert content.count("Big Ben (clock)") == 1
    assert content.count("lost (missing)") == 1
    assert "data-code" in text_of(page(olga, "agents/agent/add/", template="custom"))
