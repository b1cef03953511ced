"""Agents go to another version of their template: previewed, refused with reasons, applied, restored."""

import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import Agent, AgentVersion
from audit.models import AuditEvent
from llm.models import Provider
from tests.agents.running import ready
from tests.agents.versioned import ECHO, agent_of, migrated
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate

WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE)", re.IGNORECASE)


@pytest.fixture(autouse=True)
def versions(add_template: AddTemplate, scripted: Provider) -> None:
    add_template("echo", ECHO)


def result(answer: dict[str, Any]) -> dict[str, Any]:
    (found,) = answer["results"]
    assert isinstance(found, dict)
    return found


def codes(faults: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(fault["path"], fault["code"]) for fault in faults]


def said(actor: Actor, slug: str) -> Any:
    prepared = ready(actor, Agent.objects.select_related("version").get(slug=slug))
    return async_to_sync(prepared.play)("Hi").answer.message["content"]


def test_two_versions_serve_at_once(owner: Actor) -> None:
    agent_of(owner, "old", {"mood": "dry"})
    agent_of(owner, "new", {"tone": "dry"}, "2.0.0")
    assert (said(owner, "old"), said(owner, "new")) == ("1.0.0", "2.0.0")


def test_a_preview_says_what_would_change_and_writes_nothing(owner: Actor, viewer: Actor) -> None:
    agent_of(owner, "helper", {"mood": "warm", "times": 2})
    rows = (AgentVersion.objects.count(), AuditEvent.objects.count())
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = migrated(viewer, to="2.0.0")
    assert [query["sql"] for query in queries if WRITES.match(query["sql"])] == []
    assert (AgentVersion.objects.count(), AuditEvent.objects.count()) == rows
    assert answer == {
        "template": "echo",
        "to": "2.0.0",
        "dry_run": True,
        "counts": {"ready": 1, "migrated": 0, "unchanged": 0, "refused": 0},
        "results": [
            {
                "agent": "helper",
                "status": "ready",
                "from": "1.0.0",
                "to": "2.0.0",
                "version": None,
                "changes": [{"path": "config.mood", "before": "warm"}, {"path": "config.tone", "after": "warm"}],
                "errors": [],
                "warnings": [],
            }
        ],
    }


def test_a_migration_is_a_version_with_an_audit_row_and_can_be_restored(owner: Actor) -> None:
    agent_of(owner, "helper", {"mood": "warm"})
    done = result(migrated(owner, to="2.0.0", agents=["helper"], dry_run=False))
    assert (done["status"], done["version"]) == ("migrated", 2)
    now = owner.get("agents/helper").json()
    assert (now["template_version"], now["config"], now["version"]) == ("2.0.0", {"tone": "warm"}, 2)
    event = AuditEvent.objects.get(action="agent.migrate")
    assert event.before == {"version": 1, "template_version": "1.0.0", "config": {"mood": "warm"}}
    assert event.after == {"version": 2, "template_version": "2.0.0", "config": {"tone": "warm"}}
    again = result(migrated(owner, to="2.0.0", agents=["helper"], dry_run=False))
    assert (again["status"], again["version"], AgentVersion.objects.count()) == ("unchanged", None, 2)
    back = owner.post("agents/helper/versions/1/restore").json()
    assert (back["template_version"], back["config"]) == ("1.0.0", {"mood": "warm"})


def test_the_same_major_version_takes_a_config_as_it_is(owner: Actor) -> None:
    agent_of(owner, "helper", {"mood": "warm"})
    done = result(migrated(owner, to="1.1.0", dry_run=False))
    assert (done["status"], done["changes"]) == ("migrated", [])
    assert owner.get("agents/helper").json()["config"] == {"mood": "warm"}


def test_an_incompatible_upgrade_is_refused_with_every_reason(owner: Actor) -> None:
    agent_of(owner, "helper", {"mood": "warm"})
    for dry_run in (True, False):
        refused = result(migrated(owner, to="3.0.0", dry_run=dry_run))
        assert refused["status"] == "refused"
        assert codes(refused["errors"]) == [
            ("template_version", "incompatible_version"),
            ("config.tone", "missing"),
            ("config.mood", "extra_forbidden"),
        ]
        assert "only of 3.0.0 and above" in refused["errors"][0]["message"]
    assert AgentVersion.objects.count() == 1


def test_a_template_says_which_versions_it_is_compatible_with(owner: Actor, add_template: AddTemplate) -> None:
    source = ECHO.replace('version = "3.0.0"', 'version = "3.0.0"\n    compatible_since = "2.0.0"')
    add_template("echo", source.replace('version = "1.1.0"', 'version = "1.1.0"\n    compatible_since = "1.0.5"'))
    agent_of(owner, "two", {"tone": "dry"}, "2.0.0")
    agent_of(owner, "one", {"mood": "dry"}, "1.0.0")
    assert result(migrated(owner, to="3.0.0", agents=["two"]))["status"] == "ready"
    assert result(migrated(owner, to="1.1.0"))["status"] == "refused"
    versions = owner.get("templates/echo/versions").json()["data"]
    assert [(each["version"], each["compatible_since"], each["migrates"]) for each in versions] == [
        ("3.0.0", "2.0.0", False),
        ("2.0.0", "2.0.0", True),
        ("1.1.0", "1.0.5", False),
        ("1.0.0", "1.0.0", False),
    ]


@pytest.mark.parametrize(
    ("mood", "code", "words"),
    [
        ("furious", "not_migrated", "No tone is furious"),
        ("broken", "migration_failed", "the server's log says why"),
    ],
)
def test_a_config_that_the_template_cannot_migrate(owner: Actor, mood: str, code: str, words: str) -> None:
    agent_of(owner, "helper", {"mood": mood})
    refused = result(migrated(owner, to="2.0.0", dry_run=False))
    assert (refused["status"], codes(refused["errors"])) == ("refused", [("config", code)])
    assert words in refused["errors"][0]["message"]
    assert "division" not in refused["errors"][0]["message"]


def test_each_agent_goes_by_itself(owner: Actor, viewer: Actor, stranger: Actor) -> None:
    agent_of(owner, "fine", {"mood": "warm"})
    agent_of(owner, "stuck", {"mood": "furious"})
    agent_of(owner, "ahead", {"tone": "dry"}, "3.0.0")
    owner.post("agents", {"slug": "other", "name": "O", "template": "simple", "model": "scripted/default"})
    named = ["stuck", "fine", "fine", "gone", "ahead", "other"]
    body = {"to": "2.0.0", "agents": named, "dry_run": False}
    assert viewer.post("templates/echo/migrations", body).status_code == 403
    assert [each["status"] for each in migrated(stranger, **body)["results"]] == ["refused"] * 5
    answer = migrated(owner, **body)
    found = [(each["agent"], each["status"], [code for _, code in codes(each["errors"])]) for each in answer["results"]]
    assert found == [
        ("stuck", "refused", ["not_migrated"]),
        ("fine", "migrated", []),
        ("gone", "refused", ["agent_not_found"]),
        ("ahead", "refused", ["not_an_upgrade"]),
        ("other", "refused", ["other_template"]),
    ]
    assert answer["counts"] == {"ready": 0, "migrated": 1, "unchanged": 0, "refused": 4}
    assert [each["agent"] for each in migrated(owner, to="2.0.0")["results"]] == ["stuck"]


def test_only_agents_of_one_version_are_chosen(owner: Actor) -> None:
    agent_of(owner, "one", {})
    agent_of(owner, "eleven", {}, "1.1.0")
    assert [each["agent"] for each in migrated(owner, to="2.0.0")["results"]] == ["eleven", "one"]
    assert [each["agent"] for each in migrated(owner, to="2.0.0", **{"from": "1.1.0"})["results"]] == ["eleven"]
    refused = result(migrated(owner, to="2.0.0", agents=["one"], **{"from": "1.1.0"}))
    assert codes(refused["errors"]) == [("from", "other_version")]


def test_an_agent_whose_version_is_gone_is_migrated(owner: Actor, add_template: AddTemplate) -> None:
    agent_of(owner, "helper", {"mood": "warm"})
    add_template("echo", ECHO.replace('version = "1.0.0"', 'version = "1.2.0"'))
    assert result(migrated(owner, to="2.0.0", dry_run=False))["status"] == "migrated"


def test_what_else_is_wrong_with_the_agent_is_told(owner: Actor) -> None:
    agent_of(owner, "helper", {"mood": "warm"})
    Provider.objects.all().delete()
    assert codes(result(migrated(owner, to="2.0.0", dry_run=False))["errors"]) == [("model", "unknown_provider")]


def test_a_hundred_agents(owner: Actor) -> None:
    def queries(**body: Any) -> int:
        with CaptureQueriesContext(connection) as seen:
            migrated(owner, **body)
        return len(seen)

    for number in range(100):
        agent_of(owner, f"a{number:03}", {"mood": f"mood {number}"})
    few, many = (queries(to="2.0.0", agents=[f"a{n:03}" for n in range(count)]) for count in (10, 100))
    print(f"\npreview: {few} queries for 10 agents, {many} for 100")
    assert many - few <= 2 * 90
    with CaptureQueriesContext(connection) as seen:
        answer = migrated(owner, to="2.0.0", dry_run=False)
    print(f"migration of 100 agents: {len(seen)} queries")
    assert answer["counts"]["migrated"] == 100
    assert AgentVersion.objects.filter(template_version="2.0.0").count() == 100
    assert AuditEvent.objects.filter(action="agent.migrate").count() == 100


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "required"),
        ({"to": "2.0.0", "agents": []}, 400, "min_length"),
        ({"to": "2.0.0", "agents": ["x"] * 501}, 400, "max_length"),
        ({"to": "2.0.0", "colour": "red"}, 400, "unknown_field"),
        ({"to": "2.0.0", "dry_run": "no"}, 400, "invalid"),
        ({"to": "9.0.0"}, 404, "template_version_not_found"),
    ],
)
def test_a_wrong_body_is_refused(owner: Actor, body: dict[str, Any], status: int, code: str) -> None:
    refused = owner.post("templates/echo/migrations", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert owner.post("templates/nothing/migrations", {"to": "1.0.0"}).status_code == 404


def test_too_many_agents_at_once(owner: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.migrating.MAX_AGENTS", 1)
    for slug in ("one", "two"):
        agent_of(owner, slug, {})
    refused = owner.post("templates/echo/migrations", {"to": "2.0.0"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many")
    assert "name at most 1 of them" in refused.json()["error"]["message"]


def test_a_deprecated_version_says_so(owner: Actor) -> None:
    reason = "It knows moods only; use 2.0.0."
    assert [each["deprecated"] for each in owner.get("templates/echo/versions").json()["data"]] == [
        None,
        None,
        None,
        reason,
    ]
    assert owner.get("templates/echo/health").json()["deprecated"] == [{"version": "1.0.0", "reason": reason}]
    assert owner.get("templates/echo").json()["deprecated"] is None
    body = {"slug": "x", "name": "X", "template": "echo", "template_version": "1.0.0", "model": "scripted/default"}
    report = owner.post("agents/validate", body).json()
    assert (report["valid"], codes(report["warnings"])) == (True, [("template_version", "template_deprecated")])
    report = owner.post("templates/echo/validate", {"config": {}, "version": "1.0.0"}).json()
    assert (report["valid"], codes(report["warnings"])) == (True, [("version", "template_deprecated")])
