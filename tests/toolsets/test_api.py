from typing import Any

import pytest

from audit.models import AuditEvent
from core.tenant import tenant_context
from tests.conftest import Actor, make_actor
from toolsets.models import Toolset

BODY = {"slug": "clock", "name": "Clock", "kind": "time", "config": {"default_timezone": "Asia/Tokyo"}}


def rows(actor: Actor) -> list[tuple[str, str, dict[str, Any], bool]]:
    with tenant_context(actor.tenant.id):
        return list(Toolset.objects.order_by("slug").values_list("slug", "name", "config", "enabled"))


def audited(actor: Actor) -> list[AuditEvent]:
    with tenant_context(actor.tenant.id):
        return list(AuditEvent.objects.filter(object_type="toolset").order_by("created_at", "id"))


@pytest.fixture
def clock(owner: Actor) -> dict[str, Any]:
    response = owner.post("toolsets", BODY)
    assert response.status_code == 201, response.content
    created: dict[str, Any] = response.json()
    return created


def test_create(owner: Actor, viewer: Actor, stranger: Actor) -> None:
    assert viewer.post("toolsets", BODY).status_code == 403
    response = owner.post("toolsets", BODY)
    assert response.status_code == 201
    assert response.json().items() >= {**BODY, "enabled": True}.items()
    assert rows(owner) == [("clock", "Clock", BODY["config"], True)]
    (event,) = audited(owner)
    assert (event.action, event.object_label, event.after["kind"]) == ("toolset.create", "Clock", "time")
    assert stranger.post("toolsets", BODY).status_code == 201  # a slug is the tenant's own
    assert len(audited(owner)) == 1


def test_read(owner: Actor, viewer: Actor, stranger: Actor, clock: dict[str, Any]) -> None:
    for ref in (clock["id"], "clock"):
        assert viewer.get(f"toolsets/{ref}").json() == clock
        assert stranger.get(f"toolsets/{ref}").status_code == 404
        assert stranger.get(f"toolsets/{ref}/tools").status_code == 404
    assert viewer.get("toolsets").json()["data"] == [clock]
    assert stranger.get("toolsets").json()["data"] == []


def test_tools(viewer: Actor, clock: dict[str, Any]) -> None:
    found = viewer.get("toolsets/clock/tools").json()["data"]
    assert [tool["name"] for tool in found] == ["add_duration", "convert_time", "current_time", "time_between"]
    assert {tool["risk"] for tool in found} == {"read"}
    assert found[1]["parameters"]["required"] == ["time", "to_timezone"]


def test_kinds(owner: Actor, viewer: Actor, stranger: Actor) -> None:
    answers = [actor.get("toolsets/kinds").json()["data"] for actor in (owner, viewer, stranger)]
    assert answers[0] == answers[1] == answers[2]
    kind = next(kind for kind in answers[0] if kind["kind"] == "time")
    assert kind["config_schema"]["properties"]["default_timezone"]["default"] == "UTC"


def test_update(owner: Actor, viewer: Actor, stranger: Actor, clock: dict[str, Any]) -> None:
    change = {"name": "Watch", "config": {}, "enabled": False}
    assert viewer.patch("toolsets/clock", change).status_code == 403
    assert stranger.patch("toolsets/clock", change).status_code == 404
    assert stranger.patch(f"toolsets/{clock['id']}", change).status_code == 404
    response = owner.patch("toolsets/clock", change)
    assert response.json().items() >= change.items()
    assert rows(owner) == [("clock", "Watch", {}, False)]
    event = audited(owner)[-1]
    assert (event.action, event.before["name"], event.after) == ("toolset.update", "Clock", change)


def test_no_change_writes_nothing(owner: Actor, clock: dict[str, Any]) -> None:
    assert owner.patch("toolsets/clock", {"name": "Clock"}).json() == clock
    assert len(audited(owner)) == 1


def test_delete(owner: Actor, viewer: Actor, stranger: Actor, clock: dict[str, Any]) -> None:
    assert viewer.delete("toolsets/clock").status_code == 403
    assert stranger.delete(f"toolsets/{clock['id']}").status_code == 404
    assert len(rows(owner)) == 1
    assert owner.delete("toolsets/clock").status_code == 204
    assert rows(owner) == []
    assert audited(owner)[-1].action == "toolset.delete"
    assert owner.delete("toolsets/clock").status_code == 404


def test_a_slug_is_taken_once(owner: Actor, clock: dict[str, Any]) -> None:
    again = owner.post("toolsets", {**BODY, "name": "Other"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "slug_taken")
    owner.post("toolsets", {**BODY, "slug": "other"})
    assert owner.patch("toolsets/other", {"slug": "clock"}).status_code == 409
    assert [row[0] for row in rows(owner)] == ["clock", "other"]


def test_every_fault_is_told_at_once(owner: Actor) -> None:
    body = {"slug": "No Slug", "kind": "time", "config": {"default_timezone": "Mars", "x": 1}, "extra": True}
    error = owner.post("toolsets", body).json()["error"]
    faults = {fault["path"] for fault in error["details"]}
    assert faults == {"slug", "name", "config.default_timezone", "config.x", "extra"}
    unknown = owner.post("toolsets", {**BODY, "kind": "nothing", "slug": "kinds"}).json()["error"]["details"]
    assert [(fault["path"], fault["code"]) for fault in unknown] == [("slug", "reserved"), ("kind", "unknown_kind")]
    assert rows(owner) == []
    assert audited(owner) == []


@pytest.mark.parametrize(
    "change",
    [
        {"slug": "01a1fbe7-775f-7163-a6be-bdfb065efdb1"},
        {"slug": "a\n"},
        {"slug": 7},
        {"name": " "},
        {"name": "x" * 121},
        {"name": None},
        {"config": []},
        {"config": {"default_timezone": 5}},
        {"enabled": "yes"},
        {"kind": "time"},
    ],
)
def test_a_bad_change_is_refused_whole(owner: Actor, clock: dict[str, Any], change: dict[str, Any]) -> None:
    response = owner.patch("toolsets/clock", {"name": "Watch", **change})
    assert response.status_code == 400
    assert [row[1] for row in rows(owner)] == ["Clock"]


def test_a_toolset_whose_kind_is_gone_says_so(owner: Actor, clock: dict[str, Any]) -> None:
    with tenant_context(owner.tenant.id):
        Toolset.objects.update(kind="gone")
    response = owner.get("toolsets/clock/tools")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "toolset_broken")


def test_lists_take_the_same_queries_however_long(
    owner: Actor, clock: dict[str, Any], django_assert_num_queries: Any
) -> None:
    owner.get("toolsets")
    with django_assert_num_queries(1):
        owner.get("toolsets")
    for number in range(12):
        owner.post("toolsets", {**BODY, "slug": f"clock-{number}"})
    with django_assert_num_queries(1):
        found = owner.get("toolsets").json()
    assert len(found["data"]) == 13
    page = owner.get("toolsets", limit=5, q="clock-1").json()
    assert [toolset["slug"] for toolset in page["data"]] == ["clock-1", "clock-10", "clock-11"]
    assert owner.get("toolsets", kind="http").json()["data"] == []


@pytest.mark.parametrize("cursor", ["AA", "%%%", "_", "é", "gICA"])
def test_a_made_up_cursor_is_refused(owner: Actor, cursor: str) -> None:
    response = owner.get("toolsets", cursor=cursor)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "cursor")


def test_a_role_and_a_scope_are_both_needed(acme: Any) -> None:
    member = make_actor(acme, "member")
    reader = make_actor(acme, "owner", scopes=["read"])
    writer = make_actor(acme, "operator", scopes=["write"])
    assert member.post("toolsets", BODY).status_code == 403
    assert reader.post("toolsets", BODY).status_code == 403
    assert reader.get("toolsets").status_code == 200
    assert writer.post("toolsets", BODY).status_code == 201
    assert writer.patch("toolsets/clock", {"name": "Watch"}).status_code == 200
    assert writer.get("toolsets/clock").status_code == 200
    assert make_actor(acme, "owner", scopes=["chat"]).get("toolsets/clock").status_code == 403


def test_a_new_toolset_is_validated_without_being_made(owner: Actor, viewer: Actor) -> None:
    def report(**changes: Any) -> dict[str, Any]:
        found = owner.post("toolsets/validate", {**BODY, **changes})
        assert found.status_code == 200, found.content
        return found.json()

    assert report() == {"valid": True, "errors": [], "warnings": []}
    wrong = report(slug="validate", name=5, config={"default_timezone": "Mars"}, extra=1)
    assert {fault["path"] for fault in wrong["errors"]} == {"slug", "name", "extra", "config.default_timezone"}
    model = report(kind="llm", config={"model": "no/such"})
    assert (model["valid"], [fault["path"] for fault in model["warnings"]]) == (True, ["config.model"])
    assert "There is no provider 'no'" in model["warnings"][0]["message"]
    assert viewer.post("toolsets/validate", BODY).status_code == 403
    assert rows(owner) == []


PETS = '{"openapi": "3.1.0", "paths": {"/pets": {"get": {}}}}'
HTTP = {"document": PETS, "base_url": "https://example.com"}
SHOP = {"host": "db.example.com", "database": "shop", "user": "reader"}


@pytest.mark.parametrize(
    ("kind", "config", "secrets", "found"),
    [
        ("http", {**HTTP, "auth": "bearer"}, {}, {("config.auth", "secret_missing")}),
        ("http", {**HTTP, "auth": "basic"}, {"token": "ann"}, {("config.auth", "invalid_secret")}),
        ("http", {**HTTP, "auth": "basic"}, {"token": "ann:pw"}, set()),
        ("http", {**HTTP, "auth": "basic"}, {"token": 5}, {("secrets.token", "invalid")}),
        ("http", {**HTTP, "base_url": "http://10.0.0.1/v1"}, {}, {("config.base_url", "address_refused")}),
        ("http", {"document_url": "http://[::1]/a"}, {}, {("config.document_url", "address_refused")}),
        ("mcp", {"url": "http://127.0.0.1:9/mcp"}, {}, {("config.url", "address_refused")}),
        ("database", SHOP, {"password": "pw"}, set()),
        (
            "database",
            {**SHOP, "host": "192.168.0.7", "port": 0},
            {},
            {
                ("config", "secret_missing"),
                ("config.host", "address_refused"),
                ("config.port", "greater_than_equal"),
            },
        ),
        ("database_writer", SHOP, {}, {("config", "secret_missing")}),
    ],
)
def test_what_no_call_could_use_is_a_fault(
    owner: Actor, kind: str, config: dict[str, Any], secrets: dict[str, Any], found: set[Any], settings: Any
) -> None:
    settings.ALLOW_PRIVATE_TOOLS = False
    body = {"slug": "far", "name": "Far", "kind": kind, "config": config, "secrets": secrets}
    report = owner.post("toolsets/validate", body).json()
    assert {(fault["path"], fault["code"]) for fault in report["errors"]} == found
    assert owner.post("toolsets", body).status_code == (400 if found else 201)
    settings.ALLOW_PRIVATE_TOOLS = True
    report = owner.post("toolsets/validate", body).json()
    assert "address_refused" not in {fault["code"] for fault in report["errors"]}


def test_a_stored_secret_counts_and_other_changes_ask_for_none(owner: Actor) -> None:
    body = {"slug": "pets", "name": "Pets", "kind": "http", "config": {**HTTP, "auth": "bearer"}}
    assert owner.post("toolsets", {**body, "secrets": {"token": "hunter2"}}).status_code == 201
    config = {"config": {**HTTP, "auth": "bearer", "timeout": 5}}
    assert owner.patch("toolsets/pets", config).status_code == 200
    gone = owner.patch("toolsets/pets", {"secrets": {"token": None}})
    assert gone.json()["error"]["code"] == "secret_missing"
    with tenant_context(owner.tenant.id):
        Toolset.objects.update(secrets=None, secret_names=[])
    assert owner.patch("toolsets/pets", {"name": "Animals", "enabled": False}).status_code == 200
    assert owner.patch("toolsets/pets", config | {"config": {**HTTP, "auth": "bearer"}}).status_code == 400


def test_who_tries_a_tool_approves_it_and_may_have_to_be_of_a_higher_role(owner: Actor) -> None:
    policy = {"approval": "always", "approver": "admin"}
    assert owner.post("toolsets", {**BODY, "policy": policy}).status_code == 201
    operator = make_actor(owner.tenant, role="operator")
    asked = {"arguments": {}}
    refused = operator.post("toolsets/clock/tools/current_time/invoke", asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role_too_low")
    assert owner.post("toolsets/clock/tools/current_time/invoke", asked).status_code == 200
    owner.patch("toolsets/clock", {"policy": {"approval": "always"}})
    assert operator.post("toolsets/clock/tools/current_time/invoke", asked).status_code == 200
