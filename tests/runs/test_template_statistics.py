"""How templates do: agents, runs, failures and times of one tenant, by version."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent
from core.tenant import tenant_context
from llm.services.providers import provider_create
from runs.models import Run
from runs.template_statistics import all_template_statistics
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate, echo


@pytest.fixture(autouse=True)
def agents(owner: Actor, in_acme: Any, add_template: AddTemplate) -> None:
    """One of version 1.0.0, two of 2.0.0."""
    provider_create(actor=owner.principal, slug="scripted", kind="scripted")
    for version in ("1.0.0", "2.0.0"):
        add_template(f"echo_{version[0]}", echo(version))
    for slug, version in {"old": "1.0.0", "new": "2.0.0", "newer": "2.0.0"}.items():
        body = {"slug": slug, "name": slug, "template": "echo", "template_version": version}
        assert owner.post("agents", {**body, "model": "scripted/default"}).status_code == 201


def ran(owner: Actor, agent: str, status: str, seconds: float | None, days: float = 1) -> None:
    """A run that began so many days ago; `seconds` None: it has not ended."""
    began = timezone.now() - timedelta(days=days)
    ended = None if seconds is None else began + timedelta(seconds=seconds)
    version = Agent.objects.get(slug=agent).version
    run = Run.objects.create(
        tenant=owner.tenant, agent_version=version, status=status, started_at=began, finished_at=ended, source="chat"
    )
    Run.objects.filter(id=run.id).update(created_at=began)


def test_figures_of_each_version_and_of_all(owner: Actor, viewer: Actor) -> None:
    for seconds in range(1, 20):
        ran(owner, "new", "succeeded", seconds)
    ran(owner, "newer", "failed", 1000)
    ran(owner, "old", "expired", 5)
    ran(owner, "old", "cancelled", 5)
    ran(owner, "old", "running", None)
    ran(owner, "old", "succeeded", 5, days=40)
    found = viewer.get("templates/echo/statistics").json()
    versions = found.pop("versions")
    assert found == {
        "template": "echo",
        "days": 30,
        "agents": 3,
        "runs": 22,
        "failed": 2,
        "error_rate": pytest.approx(2 / 22),
        "duration_ms": {"p50": pytest.approx(10_000), "p95": pytest.approx(18_100)},
    }
    assert [(each["version"], each["agents"], each["runs"], each["failed"]) for each in versions] == [
        ("2.0.0", 2, 20, 1),
        ("1.0.0", 1, 2, 1),
    ]
    assert versions[0]["error_rate"] == pytest.approx(0.05)
    assert versions[1]["duration_ms"] == {"p50": None, "p95": None}
    assert viewer.get("templates/echo/statistics", days=60).json()["runs"] == 23


def test_another_tenants_runs_are_not_counted(owner: Actor, stranger: Actor) -> None:
    ran(owner, "new", "succeeded", 1)
    found = stranger.get("templates/echo/statistics").json()
    assert (found["agents"], found["runs"], found["error_rate"], found["versions"]) == (0, 0, None, [])


def test_a_template_that_is_gone_still_has_its_figures(
    owner: Actor, stranger: Actor, add_template: AddTemplate
) -> None:
    ran(owner, "old", "succeeded", 1)
    for folder in ("echo_1", "echo_2"):
        add_template(folder, echo("1.0.0", slug=folder.replace("_", "-")))
    assert owner.get("templates/echo/statistics").json()["runs"] == 1
    assert stranger.get("templates/echo/statistics").status_code == 404


@pytest.mark.parametrize("days", ["0", "93", "x", "-1", "1.5"])
def test_days_are_bounded(owner: Actor, days: str) -> None:
    refused = owner.get("templates/echo/statistics", days=days)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "days")


def test_the_number_of_queries_does_not_grow(owner: Actor) -> None:
    def queries() -> int:
        with tenant_context(owner.tenant.id), CaptureQueriesContext(connection) as seen:
            found = all_template_statistics(actor=owner.principal, days=30)
        assert found["echo"].total.agents >= 3
        return len(seen)

    few = queries()
    for number in range(20):
        body = {"slug": f"a{number}", "name": "A", "template": "echo", "template_version": "1.0.0"}
        owner.post("agents", {**body, "model": "scripted/default"})
        ran(owner, f"a{number}", "succeeded", 1)
    assert queries() == few == 2
