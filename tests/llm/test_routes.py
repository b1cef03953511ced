"""Routes over REST: what they hold, what they choose, what reports say of them, and whom they belong to."""

from collections.abc import Iterator
from typing import Any

import pytest

from audit.models import AuditEvent
from core import kept
from core.ids import uuid7
from core.tenant import tenant_context
from llm.exceptions import ModelNotFound, RouteInactive
from llm.models import Provider, Route, RouteTarget
from llm.routing import stored
from llm.routing.features import Features
from llm.routing.routed import RoutedTarget
from llm.selectors import providers as selectors
from llm.selectors.providers import model_names, model_resolve
from llm.selectors.routes import route_list
from llm.wire import ChatRequest
from tenants.models import Tenant
from tests.conftest import Actor, make_actor

pytestmark = pytest.mark.django_db

TARGETS = [{"model": "robot/default"}, {"model": "main/gpt"}]
ROUTE = {"slug": "best", "strategy": "fallback", "targets": TARGETS}
SAID = [{"role": "user", "content": "Hello"}]


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def faults(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


@pytest.fixture(autouse=True)
def _providers(owner: Actor) -> Iterator[None]:
    for slug, kind in (("robot", "scripted"), ("main", "openai")):
        base_url = {"base_url": "http://127.0.0.1:9/v1"} if kind == "openai" else {}
        assert owner.post("providers", {"slug": slug, "kind": kind, **base_url}).status_code == 201
    yield
    stored._routes.clear()
    selectors._connections.clear()


def create(actor: Actor, **fields: Any) -> Any:
    response = actor.post("routes", {**ROUTE, **fields})
    assert response.status_code == 201, response.content
    return response.json()


def resolved(actor: Actor, slug: str = "best") -> RoutedTarget:
    target = model_resolve(actor=actor.principal, name=f"route/{slug}")
    assert isinstance(target, RoutedTarget)
    return target


def test_create_stores_the_targets_in_their_order(owner: Actor, in_acme: Tenant) -> None:
    body = create(owner, name="Best", continues=True)
    expected = {
        "slug": "best",
        "name": "Best",
        "strategy": "fallback",
        "settings": {},
        "continues": True,
        "is_active": True,
        "targets": [
            {"model": "robot/default", "weight": 1, "rule": "", "variant": "", "enabled": True},
            {"model": "main/gpt", "weight": 1, "rule": "", "variant": "", "enabled": True},
        ],
    }
    assert {name: body[name] for name in expected} == expected
    assert owner.get("routes/best").json() == body == owner.get(f"routes/{body['id']}").json()
    assert AuditEvent.objects.get(action="route.create", object_id=body["id"]).after == expected
    assert list(RouteTarget.objects.values_list("position", "provider__slug", "model")) == [
        (0, "robot", "default"),
        (1, "main", "gpt"),
    ]


def test_a_route_holds_no_route(owner: Actor) -> None:
    create(owner)
    answer = owner.post("routes", {"slug": "other", "strategy": "fallback", "targets": [{"model": "route/best"}]})
    assert "A route cannot hold a route" in answer.json()["error"]["message"]


def test_every_fault_at_once(owner: Actor, in_acme: Tenant) -> None:
    body = {
        "slug": "Not Good",
        "name": "x" * 121,
        "strategy": "ab_test",
        "settings": {"salt": 7, "colour": "red"},
        "targets": [
            {"model": "robot/other", "variant": "A", "weight": -1},
            {"model": "nobody/x", "variant": "A", "rule": "messages >"},
            {"model": "robot", "variant": ""},
            {"model": "main/gpt", "rule": "1" * 501},
        ],
    }
    assert faults(owner.post("routes", body)) == {
        "slug": "invalid",
        "name": "max_length",
        "settings.salt": "string_type",
        "settings.colour": "extra_forbidden",
        "targets.0.weight": "greater_than_equal",
        "targets.1.model": "unknown_provider",
        "targets.1.rule": "invalid_rule",
        "targets.2.model": "invalid",
        "targets.3.rule": "invalid_rule",
    }
    body = {**ROUTE, "strategy": "ab_test", "targets": [{**TARGETS[0], "variant": "A"}, {**TARGETS[0], "variant": "A"}]}
    assert faults(owner.post("routes", body)) == {"targets.1.model": "duplicate", "targets.1.variant": "duplicate"}
    assert not Route.objects.exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"strategy": "nonsense"}, {"strategy": "unknown_strategy"}),
        ({"slug": str(uuid7())}, {"slug": "reserved"}),
        ({"targets": []}, {"targets": "invalid"}),
        ({"targets": TARGETS * 11}, {"targets": "invalid"}),
        ({"targets": [{"model": "robot/other"}]}, {"targets.0.model": "unknown_model"}),
        ({"targets": [{"model": "main/a b"}]}, {"targets.0.model": "invalid"}),
        ({"targets": [{"model": "route/best"}]}, {"targets.0.model": "invalid"}),
        ({"targets": [{"model": "robot/default", "colour": 1}]}, {"targets.0.colour": "unknown_field"}),
        ({"strategy": "weighted", "targets": [{"model": "robot/default", "weight": 0}]}, {"targets": "no_weight"}),
        ({"strategy": "ab_test"}, {"targets.0.variant": "required", "targets.1.variant": "required"}),
        ({"strategy": "lowest_latency", "settings": {"explore": 2}}, {"settings.explore": "less_than_equal"}),
        ({"extra": 1}, {"extra": "unknown_field"}),
        ({"slug": None}, {"slug": "null"}),
        ({"settings": []}, {"settings": "not_a_dict"}),
    ],
)
def test_faults(owner: Actor, in_acme: Tenant, fields: dict[str, Any], expected: dict[str, str]) -> None:
    assert faults(owner.post("routes", {**ROUTE, **fields})) == expected
    assert not Route.objects.exists()


def test_a_rule_s_fault_says_where(owner: Actor) -> None:
    targets = [{"model": "main/gpt", "rule": "tools > 0 &&\n  colour"}, {"model": "robot/default"}]
    response = owner.post("routes", {**ROUTE, "strategy": "by_rule", "targets": targets})
    (fault,) = response.json()["error"]["details"]
    assert fault["path"] == "targets.0.rule"
    assert fault["message"].startswith("The name 'colour' is not known at line 2, column 3. Known: agent, audio,")


def test_one_model_may_have_several_rules(owner: Actor) -> None:
    targets = [{"model": "main/gpt", "rule": "tools > 0"}, {"model": "main/gpt", "rule": "images > 0"}]
    assert len(create(owner, strategy="by_rule", targets=targets)["targets"]) == 2


def test_teammate_and_stranger(owner: Actor, viewer: Actor, stranger: Actor, in_acme: Tenant) -> None:
    route = create(owner)
    path = f"routes/{route['id']}"
    assert viewer.get(path).json()["slug"] == "best"
    assert viewer.post(f"{path}/preview", {"messages": SAID}).status_code == 200
    for method, body in (("PATCH", {"slug": "x"}), ("PUT", ROUTE), ("DELETE", None)):
        assert error(viewer.send(method, path, body)) == (403, "role_too_low")
        assert error(stranger.send(method, path, body)) == (404, "not_found")
    assert error(viewer.post("routes", {**ROUTE, "slug": "other"})) == (403, "role_too_low")
    assert error(stranger.get(path)) == error(stranger.get("routes/best")) == (404, "not_found")
    assert error(stranger.post(f"{path}/preview", {"messages": SAID})) == (404, "not_found")
    assert error(stranger.get(f"{path}/report")) == (404, "not_found")
    assert stranger.get("routes").json()["data"] == []
    assert faults(stranger.post("routes", ROUTE)) == {
        "targets.0.model": "unknown_provider",
        "targets.1.model": "unknown_provider",
    }
    with pytest.raises(ModelNotFound):
        model_resolve(actor=stranger.principal, name="route/best")
    assert [row.slug for row in Route.objects.all()] == ["best"]
    assert AuditEvent.objects.filter(action__startswith="route.").count() == 1
    chat = make_actor(owner.tenant, "owner", scopes=["chat"])
    assert error(chat.get("routes")) == (403, "scope_missing")


def test_patch_changes_what_is_named(owner: Actor, in_acme: Tenant) -> None:
    route = create(owner)
    body = owner.patch("routes/best", {"slug": "renamed", "continues": True}).json()
    assert (body["slug"], body["continues"], body["targets"]) == ("renamed", True, route["targets"])
    event = AuditEvent.objects.get(action="route.update")
    assert (event.before["slug"], event.after["slug"]) == ("best", "renamed")
    targets = [{"model": "main/gpt", "weight": 3}]
    body = owner.patch("routes/renamed", {"strategy": "weighted", "targets": targets}).json()
    assert [(target["model"], target["weight"]) for target in body["targets"]] == [("main/gpt", 3)]
    assert RouteTarget.objects.count() == 1


def test_what_changes_nothing_writes_nothing(owner: Actor, in_acme: Tenant) -> None:
    create(owner)
    before = list(RouteTarget.objects.values_list("id", flat=True))
    assert owner.put("routes/best", ROUTE).status_code == 200
    assert owner.patch("routes/best", {"targets": TARGETS}).status_code == 200
    assert list(RouteTarget.objects.values_list("id", flat=True)) == before
    assert not AuditEvent.objects.filter(action="route.update").exists()


def test_put_is_what_get_answered(owner: Actor) -> None:
    route = create(owner, strategy="ab_test", targets=[{**TARGETS[0], "variant": "A", "weight": 5}])
    fields = {name: route[name] for name in (*ROUTE, "name", "settings", "continues", "is_active")}
    assert owner.put("routes/best", fields).json() == route


def test_a_wrong_change_changes_nothing(owner: Actor, in_acme: Tenant) -> None:
    route = create(owner)
    assert faults(owner.patch("routes/best", {"strategy": "ab_test"})).keys() == {
        "targets.0.variant",
        "targets.1.variant",
    }
    create(owner, slug="second")
    assert error(owner.patch("routes/second", {"slug": "best"})) == (409, "slug_taken")
    assert error(owner.post("routes", ROUTE)) == (409, "slug_taken")
    assert owner.get("routes/best").json() == route


def test_delete(owner: Actor, in_acme: Tenant) -> None:
    create(owner)
    assert owner.delete("routes/best").status_code == 204
    assert error(owner.delete("routes/best")) == (404, "not_found")
    assert AuditEvent.objects.get(action="route.delete").before["targets"][0]["model"] == "robot/default"
    assert not RouteTarget.objects.exists()


def test_a_provider_that_a_route_uses_stays(owner: Actor, in_acme: Tenant) -> None:
    create(owner, is_active=False)
    for answer in (owner.delete("providers/robot"), owner.patch("providers/robot", {"slug": "other"})):
        assert error(answer) == (409, "provider_in_use")
        assert "the route best" in answer.json()["error"]["message"]
    assert owner.patch("providers/robot", {"settings": {}}).status_code == 200
    owner.delete("routes/best")
    assert owner.delete("providers/robot").status_code == 204


def test_a_route_that_an_agent_uses_stays(owner: Actor, in_acme: Tenant) -> None:
    create(owner)
    body = {"slug": "helper", "name": "Helper", "template": "simple", "model": "route/best"}
    assert owner.post("agents", body).status_code == 201
    for answer in (owner.delete("routes/best"), owner.patch("routes/best", {"slug": "other"})):
        assert error(answer) == (409, "route_in_use")
        assert "the agent helper" in answer.json()["error"]["message"]
    assert owner.patch("routes/best", {"name": "Still the same"}).status_code == 200
    assert owner.patch("agents/helper", {"model": "robot/default"}).status_code == 200
    assert owner.delete("routes/best").status_code == 204


def test_an_agent_s_route_is_checked(owner: Actor) -> None:
    create(owner, is_active=False)
    body = {"slug": "helper", "name": "Helper", "template": "simple"}
    report = owner.post("agents/validate", {**body, "model": "route/best"}).json()
    assert (report["valid"], [fault["code"] for fault in report["warnings"]]) == (True, ["route_inactive"])
    report = owner.post("agents/validate", {**body, "model": "route/none"}).json()
    assert [(fault["path"], fault["code"]) for fault in report["errors"]] == [("model", "unknown_route")]


def test_list_is_paged_searched_and_two_queries(owner: Actor, django_assert_num_queries: Any) -> None:
    for number in range(5):
        create(owner, slug=f"r-{number}")
    create(owner, slug="other", strategy="least_busy")
    page = owner.get("routes", limit="4").json()
    assert (len(page["data"]), page["has_more"]) == (4, True)
    rest = owner.get("routes", limit="4", cursor=page["next_cursor"]).json()
    assert [row["slug"] for row in page["data"] + rest["data"]] == ["other", "r-4", "r-3", "r-2", "r-1", "r-0"]
    assert [row["slug"] for row in owner.get("routes", q="the").json()["data"]] == ["other"]
    assert [row["slug"] for row in owner.get("routes", strategy="least_busy").json()["data"]] == ["other"]
    with tenant_context(owner.tenant.id), django_assert_num_queries(2):
        for route in route_list(actor=owner.principal):
            assert [str(target) for target in route.targets.all()] == ["robot/default", "main/gpt"]


def test_models_list_the_active_routes(owner: Actor, in_acme: Tenant) -> None:
    create(owner)
    create(owner, slug="off", is_active=False)
    assert [name.name for name in model_names(owner.principal)] == ["route/best", "robot/default"]
    listed = {model["id"]: model["owned_by"] for model in owner.get("models").json()["data"]}
    assert listed == {"route/best": "route", "robot/default": "robot"}


def test_resolve_is_cached_and_forgets_at_a_change(
    owner: Actor, in_acme: Tenant, django_assert_num_queries: Any, django_capture_on_commit_callbacks: Any
) -> None:
    create(owner)
    with django_assert_num_queries(6):  # route, targets, keys; prices, and the models of two providers
        target = resolved(owner)
    assert (target.name, target.model, target.continues) == ("route/best", "route/best", False)
    assert [candidate.name for candidate in target.candidates] == ["robot/default", "main/gpt"]
    with django_assert_num_queries(0):
        resolved(owner)
    with django_capture_on_commit_callbacks(execute=True):
        owner.patch("routes/best", {"continues": True})
    assert resolved(owner).continues
    with django_capture_on_commit_callbacks(execute=True):
        owner.patch("providers/main", {"api_key": "sk-another-key-1234"})
    assert resolved(owner).candidates[1].target.connection.api_key == "sk-another-key-1234"
    with django_capture_on_commit_callbacks(execute=True):
        owner.patch("routes/best", {"is_active": False})
    with pytest.raises(RouteInactive) as inactive:
        resolved(owner)
    assert (inactive.value.status, inactive.value.code) == (409, "route_inactive")
    with django_capture_on_commit_callbacks(execute=True):
        owner.delete("routes/best")
    for name in ("route/best", "route/", "route"):
        with pytest.raises(ModelNotFound):
            model_resolve(actor=owner.principal, name=name)


def test_another_process_sees_a_change_after_some_seconds(owner: Actor, in_acme: Tenant, monkeypatch: Any) -> None:
    create(owner)
    assert len(resolved(owner).candidates) == 2
    RouteTarget.objects.filter(model="gpt").update(enabled=False)
    assert len(resolved(owner).candidates) == 2
    now = kept.time.monotonic()
    monkeypatch.setattr(kept.time, "monotonic", lambda: now + 5)
    assert len(resolved(owner).candidates) == 1


def test_what_is_left_out(owner: Actor, in_acme: Tenant) -> None:
    create(owner, targets=[{**TARGETS[0], "enabled": False}, TARGETS[1], {"model": "main/old"}])
    Provider.objects.filter(slug="main").update(health="failing")
    body = owner.post("routes/best/preview", {"messages": SAID}).json()
    assert [(leg["model"], leg["reason"]) for leg in body["targets"]] == [
        ("main/gpt", "fallback: number 1 of 2, late: its provider failed the last test"),
        ("main/old", "fallback: number 2 of 2, late: its provider failed the last test"),
    ]
    assert body["left_out"] == [{"model": "robot/default", "reason": "disabled"}]
    Provider.objects.filter(slug="main").update(kind="gone")
    body = owner.post("routes/best/preview", {"messages": SAID}).json()
    assert body["targets"] == []
    assert body["left_out"][1]["reason"] == "the provider kind 'gone' is not installed on this server"


def test_preview_of_rules_asks_no_provider(owner: Actor) -> None:
    targets = [
        {"model": "main/gpt", "rule": "tools > 0 && metadata.tier == 'gold'"},
        {"model": "robot/default", "rule": "images == 0"},
    ]
    create(owner, strategy="by_rule", targets=targets)
    tools = [{"type": "function", "function": {"name": "x"}}]
    gold = {"model": "x", "messages": SAID, "tools": tools, "metadata": {"tier": "gold", "user_id": "u-1"}}
    body = owner.post("routes/best/preview", {**gold, "temperature": 0.2}).json()
    assert [leg["model"] for leg in body["targets"]] == ["main/gpt", "robot/default"]
    assert body["targets"][0]["reason"] == "by rule: tools > 0 && metadata.tier == 'gold'"
    assert (body["features"]["tools"], body["features"]["user"], body["left_out"]) == (1, "u-1", [])
    body = owner.post("routes/best/preview", {"messages": SAID}).json()
    assert body["left_out"] == [{"model": "main/gpt", "reason": "its rule is not met"}]


def test_preview_assigns_a_person_as_calls_do(owner: Actor, in_acme: Tenant) -> None:
    targets = [{**TARGETS[0], "variant": "A"}, {**TARGETS[1], "variant": "B"}]
    create(owner, strategy="ab_test", targets=targets)
    for number in range(20):
        person = {"user_id": f"person-{number}"}
        body = owner.post("routes/best/preview", {"messages": SAID, "metadata": person}).json()
        legs = resolved(owner).legs(Features(ChatRequest("", SAID), sticky=person["user_id"]))
        assert [leg["model"] for leg in body["targets"]] == [leg.target.name for leg in legs]
        assert {leg["variant"] for leg in body["targets"]} == {legs[0].variant}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"messages": "required"}),
        ({"messages": []}, {"messages": "empty"}),
        ({"messages": ["x"]}, {"messages.0": "not_a_dict"}),
        ({"messages": SAID, "metadata": []}, {"metadata": "not_a_dict"}),
    ],
)
def test_faults_of_a_preview(owner: Actor, body: Any, expected: dict[str, str]) -> None:
    create(owner)
    assert faults(owner.post("routes/best/preview", body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"content": 7}, {}, {"content": [1, {"type": 3, "text": 4}]}], "tools": "many"},
        {"messages": SAID, "tools": 5, "response_format": "json", "max_tokens": "9"},
        {"messages": SAID, "max_tokens": True, "metadata": {"user_id": {"a": 1}, "agent": []}},
    ],
)
def test_odd_requests_are_previewed(owner: Actor, body: Any) -> None:
    create(owner, strategy="lowest_cost")
    assert owner.post("routes/best/preview", body).status_code == 200


def test_a_provider_with_several_keys_has_a_leg_for_each(owner: Actor, in_acme: Tenant) -> None:
    owner.patch("providers/main", {"api_key": "sk-main-key-0000"})
    for label in ("eu", "us"):
        assert owner.post("providers/main/keys", {"label": label, "api_key": f"sk-{label}-key-0000"}).status_code == 201
    create(owner)
    legs = resolved(owner).legs(Features(ChatRequest("", SAID)))
    assert [leg.target.name for leg in legs] == ["robot/default", "main/gpt", "main/gpt", "main/gpt"]
    assert {leg.target.connection.api_key for leg in legs[1:]} == {
        "sk-main-key-0000",
        "sk-eu-key-0000",
        "sk-us-key-0000",
    }
    assert len({leg.target.endpoint for leg in legs}) == 4
