"""Templates in the pages: what there is, how it does, and agents that go to another version."""

from typing import Any

import pytest
from django.test import Client

from agents.models import Agent
from agents.services import agent_create
from core.tenant import tenant_context
from tenants.models import Tenant
from tenants.principal import system_principal
from tests.admin.conftest import page, post, text_of
from tests.agents.versioned import ECHO
from tests.templates_app.conftest import AddTemplate
from tests.templates_app.conftest import add_template as add_template


@pytest.fixture
def agents(acme: Tenant, scripted: str, add_template: AddTemplate) -> dict[str, Any]:
    """By slug: one that can go to 2.0.0, and one that cannot."""
    add_template("echo", ECHO)
    made = {}
    with tenant_context(acme.id):
        for slug, mood in {"fine": "warm", "stuck": "furious"}.items():
            versioned = {"template": "echo", "template_version": "1.0.0", "config": {"mood": mood}}
            actor = system_principal(acme.id, acme.slug)
            made[slug] = agent_create(actor=actor, slug=slug, name=slug.title(), model="scripted/default", **versioned)
    return made


def versions(acme: Tenant) -> dict[str, str]:
    with tenant_context(acme.id):
        return dict(Agent.objects.filter(slug__in=["fine", "stuck"]).values_list("slug", "version__template_version"))


def test_the_list_says_how_each_template_is(
    vera: Client, stan: Client, agents: dict[str, Any], add_template: AddTemplate
) -> None:
    add_template("broken", "import no_such_module")
    content = text_of(page(vera, "templates/"))
    for part in (
        "Conversation",
        "Echo",
        "3.0.0",
        "healthy",
        "unusable",
        "1.0.0 deprecated",
        "/t/acme/admin/templates/echo/",
    ):
        assert part in content, part
    assert '<td data-label="Agents">2</td>' in content
    assert '<td data-label="Agents">2</td>' not in text_of(page(stan, "templates/", tenant="globex"))
    assert page(stan, "templates/").status_code == 404


def test_a_template_shows_versions_problems_and_schema(
    vera: Client, agents: dict[str, Any], add_template: AddTemplate
) -> None:
    content = text_of(page(vera, "templates/echo/"))
    for part in ("It knows moods only; use 2.0.0.", "Turns older configurations", "Migrate its agents", "tone"):
        assert part in content, part
    assert "mood&quot;" in text_of(page(vera, "templates/echo/", version="1.0.0"))
    add_template("broken", "import no_such_module")
    assert "no_such_module" in text_of(page(vera, "templates/broken/"))
    assert page(vera, "templates/nothing/").status_code == 404
    add_template("echo", "import no_such_module")
    assert "not on this server" in text_of(page(vera, "templates/echo/"))


def test_a_migration_is_shown_and_then_done(olga: Client, vera: Client, agents: dict[str, Any], acme: Tenant) -> None:
    path = "templates/echo/migrate/"
    content = text_of(page(olga, path, to="2.0.0"))
    for part in ("config.tone", "<ins>warm</ins>", "No tone is furious", "Migrate the chosen agents"):
        assert part in content, part
    assert content.count('name="agents"') == 1
    assert "Migrate the chosen agents" not in text_of(page(vera, path, to="2.0.0"))
    assert post(vera, path, {"to": "2.0.0", "agents": "fine"}).status_code == 403
    assert versions(acme) == {"fine": "1.0.0", "stuck": "1.0.0"}
    done = olga.post(f"/t/acme/admin/{path}", {"to": "2.0.0", "agents": ["fine", "stuck"]}, follow=True)
    assert "One agent was migrated to 2.0.0." in text_of(done)
    assert "stuck: No tone is furious" in text_of(done)
    assert versions(acme) == {"fine": "2.0.0", "stuck": "1.0.0"}
    nobody = olga.post(f"/t/acme/admin/{path}", {"to": "2.0.0"}, follow=True)
    assert "Choose the agents to migrate." in text_of(nobody)


def test_an_incompatible_version_is_refused_with_reasons(olga: Client, agents: dict[str, Any]) -> None:
    content = text_of(page(olga, "templates/echo/migrate/", to="3.0.0", agent="fine"))
    assert "is no compatible upgrade of 1.0.0" in content
    assert "Field required" in content
    assert "Stuck" not in content


def test_an_agents_page_leads_to_its_migration(
    olga: Client, agents: dict[str, Any], acme: Tenant, add_template: AddTemplate
) -> None:
    path = f"agents/agent/{agents['fine'].id}/"
    content = text_of(page(olga, f"{path}change/"))
    assert "is deprecated: It knows moods only" in content
    assert "/t/acme/admin/templates/echo/migrate/?agent=fine" in content
    led = page(olga, f"{path}template-version/")
    assert led["Location"] == "/t/acme/admin/templates/echo/migrate/?agent=fine"
    add_template("echo", ECHO.replace('version = "1.0.0"', 'version = "1.2.0"'))
    assert "is not on this server any more" in text_of(page(olga, f"{path}change/"))
    add_template("echo", "import no_such_module")
    assert "is not installed on this server" in text_of(page(olga, f"{path}change/"))
    assert page(olga, f"{path}template-version/")["Location"].endswith(f"{path}change/")
