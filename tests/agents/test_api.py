from typing import Any

import pytest

from agents.models import Agent, AgentVersion
from audit.models import AuditEvent
from core.tenant import tenant_context
from tests.conftest import Actor, make_actor


def agents_of(actor: Actor) -> list[Agent]:
    with tenant_context(actor.tenant.id):
        return list(Agent.objects.select_related("version").order_by("slug"))


def numbers(actor: Actor) -> list[int]:
    with tenant_context(actor.tenant.id):
        return list(AgentVersion.objects.order_by("number").values_list("number", flat=True))


def audited(actor: Actor) -> list[AuditEvent]:
    with tenant_context(actor.tenant.id):
        return list(AuditEvent.objects.filter(object_type="agent").order_by("created_at", "id"))


@pytest.fixture
def agent(owner: Actor, body: dict[str, Any]) -> dict[str, Any]:
    response = owner.post("agents", body)
    assert response.status_code == 201, response.content
    created: dict[str, Any] = response.json()
    return created


def test_create(owner: Actor, viewer: Actor, stranger: Actor, body: dict[str, Any]) -> None:
    assert viewer.post("agents", body).status_code == 403
    response = owner.post("agents", body)
    assert response.status_code == 201
    created = response.json()
    assert created.items() >= {**body, "status": "draft", "version": 1, "template_version": "1.0.0"}.items()
    (row,) = agents_of(owner)
    assert (str(row.id), row.slug, row.version.config) == (created["id"], "helper", {"max_steps": 3})  # type: ignore[union-attr]
    (event,) = audited(owner)
    assert (event.action, event.actor_label, event.after["model"]) == ("agent.create", "owner of acme", body["model"])
    # To the stranger neither this agent nor this provider exists.
    refused = stranger.post("agents", body)
    assert [fault["code"] for fault in refused.json()["error"]["details"]] == ["unknown_provider"]
    assert agents_of(stranger) == []


def test_what_is_left_out_gets_its_default(owner: Actor, body: dict[str, Any]) -> None:
    least = {name: body[name] for name in ("slug", "name", "template", "model")}
    created = owner.post("agents", least).json()
    assert created.items() >= {"instructions": "", "config": {}, "toolsets": [], "metadata": {}}.items()
    assert (created["when_busy"], created["max_concurrent_runs"]) == ("queue", None)
    assert (created["cache_seconds"], created["join_calls"]) == (None, False)


def test_read(owner: Actor, viewer: Actor, stranger: Actor, agent: dict[str, Any]) -> None:
    for ref in (agent["id"], "helper"):
        assert owner.get(f"agents/{ref}").json() == agent
        assert viewer.get(f"agents/{ref}").json() == agent
        assert stranger.get(f"agents/{ref}").status_code == 404
    assert viewer.get("agents").json()["data"] == [agent]
    assert stranger.get("agents").json()["data"] == []
    assert owner.get("agents/nobody").json()["error"]["code"] == "agent_not_found"


@pytest.mark.parametrize("method", ["patch", "put"])
def test_update(
    owner: Actor, viewer: Actor, stranger: Actor, agent: dict[str, Any], body: dict[str, Any], method: str
) -> None:
    change = {"instructions": "Be long.", "config": {}}
    sent = change if method == "patch" else {**body, **change}
    assert getattr(viewer, method)("agents/helper", sent).status_code == 403
    assert getattr(stranger, method)("agents/" + agent["id"], sent).status_code == 404
    assert numbers(owner) == [1]
    response = getattr(owner, method)("agents/helper", sent)
    assert response.status_code == 200
    assert response.json().items() >= {**body, **change, "version": 2, "id": agent["id"]}.items()
    assert numbers(owner) == [1, 2]
    event = audited(owner)[-1]
    assert event.action == "agent.update"
    assert event.before == {"version": 1, "instructions": "Be brief.", "config": {"max_steps": 3}}
    assert event.after == {"version": 2, **change}


def test_a_stranger_is_told_of_no_fault_before_that_the_agent_is_missing(
    stranger: Actor, agent: dict[str, Any]
) -> None:
    assert stranger.patch(f"agents/{agent['id']}", {"name": "Mine"}).status_code == 404
    assert stranger.delete(f"agents/{agent['id']}").status_code == 404
    assert stranger.patch(f"agents/{agent['id']}/status", {"status": "active"}).status_code == 404


def test_put_takes_defaults_for_what_is_left_out(owner: Actor, agent: dict[str, Any]) -> None:
    least = {name: agent[name] for name in ("slug", "name", "template", "model")}
    replaced = owner.put("agents/helper", least).json()
    assert (replaced["instructions"], replaced["config"], replaced["metadata"]) == ("", {}, {})


def test_no_change_makes_no_version(owner: Actor, agent: dict[str, Any], body: dict[str, Any]) -> None:
    assert owner.patch("agents/helper", {}).json() == agent
    assert owner.patch("agents/helper", {"name": "Helper"}).json() == agent
    assert owner.put("agents/helper", body).json() == agent
    assert numbers(owner) == [1]
    assert len(audited(owner)) == 1


def test_a_new_slug_is_no_new_version(owner: Actor, agent: dict[str, Any]) -> None:
    renamed = owner.patch("agents/helper", {"slug": "aide"}).json()
    assert (renamed["slug"], renamed["version"], renamed["id"]) == ("aide", 1, agent["id"])
    assert owner.get("agents/helper").status_code == 404
    assert audited(owner)[-1].after == {"version": 1, "slug": "aide"}


def test_a_slug_is_taken_once_in_a_tenant(owner: Actor, body: dict[str, Any], agent: dict[str, Any]) -> None:
    again = owner.post("agents", body)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "slug_taken")
    owner.post("agents", {**body, "slug": "other"})
    assert owner.patch("agents/other", {"slug": "helper"}).status_code == 409
    assert [row.slug for row in agents_of(owner)] == ["helper", "other"]
    assert len(audited(owner)) == 2


def test_status(owner: Actor, viewer: Actor, agent: dict[str, Any]) -> None:
    assert viewer.patch("agents/helper/status", {"status": "active"}).status_code == 403
    assert owner.patch("agents/helper/status", {"status": "active"}).json()["status"] == "active"
    assert agents_of(owner)[0].status == "active"
    event = audited(owner)[-1]
    assert (event.action, event.before, event.after) == ("agent.status", {"status": "draft"}, {"status": "active"})
    assert owner.patch("agents/helper/status", {"status": "active"}).status_code == 200
    assert len(audited(owner)) == 2
    for wrong in ({"status": "gone"}, {"status": 1}, {}, {"status": "active", "x": 1}):
        assert owner.patch("agents/helper/status", wrong).status_code == 400


def test_versions(owner: Actor, viewer: Actor, stranger: Actor, agent: dict[str, Any]) -> None:
    owner.patch("agents/helper", {"name": "Second"})
    found = viewer.get("agents/helper/versions").json()["data"]
    assert [(item["number"], item["name"], item["created_by"]) for item in found] == [
        (2, "Second", "owner of acme"),
        (1, "Helper", "owner of acme"),
    ]
    assert viewer.get("agents/helper/versions/1").json() == found[1]
    assert viewer.get("agents/helper/versions/3").json()["error"]["code"] == "version_not_found"
    assert viewer.get("agents/helper/versions/99999999999999999999").status_code == 404
    for path in ("versions", "versions/1"):
        assert stranger.get(f"agents/{agent['id']}/{path}").status_code == 404
    page = owner.get("agents/helper/versions", limit=1).json()
    assert [item["number"] for item in page["data"]] == [2]
    rest = owner.get("agents/helper/versions", cursor=page["next_cursor"]).json()
    assert [item["number"] for item in rest["data"]] == [1]


def test_restore(owner: Actor, viewer: Actor, stranger: Actor, agent: dict[str, Any]) -> None:
    owner.patch("agents/helper", {"name": "Second", "config": {"max_steps": 9}})
    assert viewer.post("agents/helper/versions/1/restore").status_code == 403
    assert stranger.post(f"agents/{agent['id']}/versions/1/restore").status_code == 404
    restored = owner.post("agents/helper/versions/1/restore").json()
    assert (restored["version"], restored["name"], restored["config"]) == (3, "Helper", {"max_steps": 3})
    newest = owner.get("agents/helper/versions").json()["data"][0]
    assert newest["restored_from"] == 1
    assert (audited(owner)[-1].action, audited(owner)[-1].after["version"]) == ("agent.restore", 3)
    assert owner.post("agents/helper/versions/3/restore").json()["version"] == 3
    assert owner.post("agents/helper/versions/9/restore").status_code == 404
    assert numbers(owner) == [1, 2, 3]


UNDER_LOAD = {"when_busy": "interrupt", "max_concurrent_runs": 3, "cache_seconds": 60, "join_calls": True}
WITHOUT = {"when_busy": "queue", "max_concurrent_runs": None, "cache_seconds": None, "join_calls": False}


def test_what_happens_under_load_is_versioned(
    owner: Actor, viewer: Actor, stranger: Actor, agent: dict[str, Any]
) -> None:
    assert viewer.patch("agents/helper", UNDER_LOAD).status_code == 403
    assert stranger.patch(f"agents/{agent['id']}", UNDER_LOAD).status_code == 404
    changed = owner.patch("agents/helper", UNDER_LOAD).json()
    assert changed.items() >= {**UNDER_LOAD, "version": 2}.items()
    assert viewer.get("agents/helper").json() == changed
    assert viewer.get("agents").json()["data"] == [changed]
    event = audited(owner)[-1]
    assert event.before == {"version": 1, **WITHOUT}
    assert event.after == {"version": 2, **UNDER_LOAD}
    newest, first = viewer.get("agents/helper/versions").json()["data"]
    assert newest.items() >= UNDER_LOAD.items()
    assert first.items() >= WITHOUT.items()
    assert owner.patch("agents/helper", UNDER_LOAD).json() == changed


def test_restoring_brings_back_what_happens_under_load(owner: Actor, body: dict[str, Any]) -> None:
    created = owner.post("agents", {**body, **UNDER_LOAD}).json()
    assert created.items() >= UNDER_LOAD.items()
    replaced = owner.put("agents/helper", body).json()
    assert replaced.items() >= {**WITHOUT, "version": 2}.items()
    restored = owner.post("agents/helper/versions/1/restore").json()
    assert restored.items() >= {**UNDER_LOAD, "version": 3}.items()
    freed = owner.patch("agents/helper", {"max_concurrent_runs": None}).json()
    assert (freed["when_busy"], freed["max_concurrent_runs"], freed["version"]) == ("interrupt", None, 4)


@pytest.mark.parametrize("limit", [1, 10_000])
def test_an_agents_limit_takes_its_bounds(owner: Actor, body: dict[str, Any], limit: int) -> None:
    created = owner.post("agents", {**body, "when_busy": "steer", "max_concurrent_runs": limit})
    assert created.json()["max_concurrent_runs"] == agents_of(owner)[0].version.max_concurrent_runs == limit  # type: ignore[union-attr]


@pytest.mark.parametrize("seconds", [0, 30 * 86_400 + 1, 1.5, True])
def test_answers_are_kept_for_a_sane_time(owner: Actor, body: dict[str, Any], seconds: Any) -> None:
    refused = owner.post("agents", {**body, "cache_seconds": seconds})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache_seconds")


def test_delete(owner: Actor, viewer: Actor, agent: dict[str, Any]) -> None:
    owner.patch("agents/helper", {"name": "Second"})
    assert viewer.delete("agents/helper").status_code == 403
    assert owner.delete("agents/helper").status_code == 204
    assert (agents_of(owner), numbers(owner)) == ([], [])
    event = audited(owner)[-1]
    assert (event.action, event.before["slug"], event.before["name"]) == ("agent.delete", "helper", "Second")
    assert owner.delete("agents/helper").status_code == 404


def test_a_lists_queries_do_not_grow(owner: Actor, body: dict[str, Any], django_assert_num_queries: Any) -> None:
    owner.post("agents", body)
    owner.get("agents")
    with django_assert_num_queries(1):
        owner.get("agents")
    for number in range(15):
        owner.post("agents", {**body, "slug": f"agent-{number}", "name": f"Agent {number}"})
    with django_assert_num_queries(1):
        found = owner.get("agents", limit=100).json()["data"]
    assert [item["slug"] for item in found][:2] == ["agent-14", "agent-13"]
    assert len(found) == 16
    with django_assert_num_queries(2):
        owner.get("agents/helper/versions")


def test_a_list_is_filtered(owner: Actor, body: dict[str, Any], agent: dict[str, Any]) -> None:
    owner.post("agents", {**body, "slug": "plain", "name": "Plainly", "template": "simple", "config": {}})
    owner.patch("agents/plain/status", {"status": "active"})

    def slugs(**filters: str) -> list[str]:
        return [item["slug"] for item in owner.get("agents", **filters).json()["data"]]

    assert slugs(q="PLAINLY") == slugs(q="lai") == slugs(status="active") == slugs(template="simple") == ["plain"]
    assert slugs(status="draft") == ["helper"]
    assert slugs(q="%") == []
    assert owner.get("agents", status="gone").status_code == 400


def test_creating_takes_a_handful_of_queries(
    owner: Actor, body: dict[str, Any], clock: Any, django_assert_max_num_queries: Any
) -> None:
    owner.get("agents")
    # provider, its models, prices, toolsets, agent, version, audit; two savepoints of the test
    with django_assert_max_num_queries(10):
        assert owner.post("agents", {**body, "toolsets": ["clock"]}).status_code == 201


def test_roles_and_scopes(acme: Any, body: dict[str, Any]) -> None:
    assert make_actor(acme, "member").post("agents", body).status_code == 403
    assert make_actor(acme, "owner", scopes=["read"]).post("agents", body).status_code == 403
    operator = make_actor(acme, "operator", scopes=["write"])
    assert operator.post("agents", body).status_code == 201
    assert operator.patch("agents/helper", {"name": "Other"}).status_code == 200
    assert operator.post("agents/helper/versions/1/restore").status_code == 200
    assert operator.get("agents").status_code == 200
    assert make_actor(acme, "owner", scopes=["chat"]).post("agents", body).status_code == 403
