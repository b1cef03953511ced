"""Further keys of a provider over REST: secrets go in and never come out, and calls are balanced between them."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from audit.models import AuditEvent
from core.tenant import tenant_context
from llm.connections import provider_connection
from llm.models import Provider, ProviderKey
from llm.providers.base import Limits
from llm.routing.routed import KeyedTarget
from llm.selectors import providers as selectors
from llm.selectors.keys import key_list
from llm.selectors.providers import model_resolve
from llm.targets import ModelTarget
from llm.wire import ChatRequest
from tenants.models import Tenant
from tests.conftest import Actor

pytestmark = pytest.mark.django_db

SECRET = "sk-further-secret-4321"
KEY = {"label": "eu", "api_key": SECRET, "rpm": 60, "tpm": 90_000, "concurrent": 4}
MAIN = {"slug": "main", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-main-secret-9876"}
KEYS = "providers/main/keys"


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def faults(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


@pytest.fixture(autouse=True)
def _provider(owner: Actor) -> Iterator[None]:
    assert owner.post("providers", MAIN).status_code == 201
    yield
    selectors._connections.clear()


def create(actor: Actor, **fields: Any) -> Any:
    response = actor.post(KEYS, {**KEY, **fields})
    assert response.status_code == 201, response.content
    return response.json()


def test_create_shows_no_secret_and_audits_none(owner: Actor, in_acme: Tenant) -> None:
    body = create(owner)
    shown = {"label": "eu", "api_key_last4": "4321", "rpm": 60, "tpm": 90_000, "concurrent": 4, "enabled": True}
    assert {name: body[name] for name in shown} == shown
    row = ProviderKey.objects.get(id=body["id"])
    assert SECRET.encode() not in bytes(row.secret or b"")
    assert provider_connection(row.provider, row).api_key == SECRET
    event = AuditEvent.objects.get(action="provider_key.create")
    assert event.after == {"provider": "main", **shown}
    for path in (KEYS, f"{KEYS}/{body['id']}", "providers/main"):
        text = owner.get(path).content.decode()
        assert SECRET not in text
        assert "secret" not in text


def test_teammate_and_stranger(owner: Actor, viewer: Actor, stranger: Actor, in_acme: Tenant) -> None:
    key = create(owner)
    path = f"{KEYS}/{key['id']}"
    assert viewer.get(path).json()["label"] == "eu"
    for method, body in (("PATCH", {"label": "x"}), ("DELETE", None)):
        assert error(viewer.send(method, path, body)) == (403, "role_too_low")
        assert error(stranger.send(method, path, body)) == (404, "not_found")
    assert error(viewer.post(KEYS, {**KEY, "label": "b"})) == (403, "role_too_low")
    assert error(stranger.post(KEYS, KEY)) == error(stranger.get(KEYS)) == (404, "not_found")
    assert stranger.post("providers", MAIN).status_code == 201
    assert error(stranger.get(path)) == (404, "not_found")
    assert ProviderKey.objects.count() == 1
    assert AuditEvent.objects.filter(action__startswith="provider_key.").count() == 1


def test_every_fault_at_once(owner: Actor, in_acme: Tenant) -> None:
    body = {"label": "  ", "api_key": "two words", "rpm": 0, "tpm": 10**10 + 1, "colour": 1}
    assert faults(owner.post(KEYS, body)).keys() == {"colour"}
    del body["colour"]
    assert faults(owner.post(KEYS, body)).keys() == {"rpm", "tpm"}
    assert faults(owner.post(KEYS, {"label": "  ", "api_key": "two words"})) == {
        "label": "invalid",
        "api_key": "invalid",
    }
    assert faults(owner.post(KEYS, {"label": "a"})) == {"api_key": "required"}
    assert faults(owner.post(KEYS, {**KEY, "api_key": ""})) == {"api_key": "blank"}
    assert not ProviderKey.objects.exists()


def test_a_provider_without_keys_takes_none(owner: Actor) -> None:
    owner.post("providers", {"slug": "robot", "kind": "scripted"})
    assert faults(owner.post("providers/robot/keys", KEY)) == {"api_key": "not_allowed"}


def test_labels_are_unique_and_keys_are_few(owner: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    create(owner)
    assert error(owner.post(KEYS, KEY)) == (409, "label_taken")
    second = create(owner, label="us")
    assert error(owner.patch(f"{KEYS}/{second['id']}", {"label": "eu"})) == (409, "label_taken")
    monkeypatch.setattr("llm.services.keys.MAX_KEYS", 2)
    assert error(owner.post(KEYS, {**KEY, "label": "third"})) == (400, "too_many")


def test_patch_changes_what_is_named(owner: Actor, in_acme: Tenant) -> None:
    key = create(owner)
    path = f"{KEYS}/{key['id']}"
    body = owner.patch(path, {"rpm": None, "enabled": False}).json()
    assert (body["rpm"], body["tpm"], body["enabled"], body["api_key_last4"]) == (None, 90_000, False, "4321")
    event = AuditEvent.objects.get(action="provider_key.update")
    assert (event.before["rpm"], event.after["rpm"]) == (60, None)
    assert owner.patch(path, {"rpm": None}).status_code == 200
    assert AuditEvent.objects.filter(action="provider_key.update").count() == 1
    assert owner.patch(path, {"api_key": "sk-another-key-1234"}).json()["api_key_last4"] == "1234"
    row = ProviderKey.objects.get(id=key["id"])
    assert provider_connection(row.provider, row).api_key == "sk-another-key-1234"


def test_delete(owner: Actor, in_acme: Tenant) -> None:
    key = create(owner)
    assert owner.delete(f"{KEYS}/{key['id']}").status_code == 204
    assert error(owner.delete(f"{KEYS}/{key['id']}")) == (404, "not_found")
    assert error(owner.get(f"{KEYS}/{uuid4()}")) == error(owner.get(f"{KEYS}/eu")) == (404, "not_found")
    assert AuditEvent.objects.get(action="provider_key.delete").before["label"] == "eu"
    create(owner)
    assert owner.delete("providers/main").status_code == 204
    assert not ProviderKey.objects.exists()


def test_keys_do_not_follow_to_another_host(owner: Actor, in_acme: Tenant) -> None:
    key = create(owner)
    moved = {"base_url": "http://127.0.0.1:10/v1", "api_key": "sk-another-key-1234"}
    assert faults(owner.patch("providers/main", moved)) == {"base_url": "keys_would_follow"}
    assert Provider.objects.get(slug="main").base_url == MAIN["base_url"]
    assert owner.patch("providers/main", {"base_url": "http://127.0.0.1:9/v2"}).status_code == 200
    owner.delete(f"{KEYS}/{key['id']}")
    assert owner.patch("providers/main", moved).status_code == 200


def test_list_is_paged_and_two_queries(owner: Actor, django_assert_num_queries: Any) -> None:
    for label in "abc":
        create(owner, label=label)
    page = owner.get(KEYS, limit="2").json()
    assert [key["label"] for key in page["data"]] == ["c", "b"]
    rest = owner.get(KEYS, limit="2", cursor=page["next_cursor"]).json()
    assert [key["label"] for key in rest["data"]] == ["a"]
    with tenant_context(owner.tenant.id), django_assert_num_queries(2):
        assert [key.provider.slug for key in key_list(actor=owner.principal, provider="main")] == ["main"] * 3


def test_a_model_is_asked_with_each_enabled_key(
    owner: Actor, in_acme: Tenant, django_assert_num_queries: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_assert_num_queries(3):  # provider, keys, models
        single = model_resolve(actor=owner.principal, name="main/gpt")
    assert isinstance(single, ModelTarget)
    assert (single.connection.key_id, single.connection.limits) == ("", Limits())
    with django_capture_on_commit_callbacks(execute=True):
        key = create(owner)
        create(owner, label="off", enabled=False)
    target = model_resolve(actor=owner.principal, name="main/gpt")
    assert isinstance(target, KeyedTarget)
    with django_assert_num_queries(0):
        assert model_resolve(actor=owner.principal, name="main/other").model == "other"
    plan = target.plan(ChatRequest("gpt", []), None)  # type: ignore[arg-type]
    legs = {leg.target.endpoint.key: leg for leg in plan.legs}
    assert legs.keys() == {"", key["id"]}
    assert (legs[""].reason, legs[key["id"]].reason) == ("asked for by name, key main", "asked for by name, key eu")
    connection = legs[key["id"]].target.connection
    assert (connection.api_key, connection.limits) == (SECRET, Limits(60, 90_000, 4))
    assert SECRET not in repr(plan)
    with django_capture_on_commit_callbacks(execute=True):
        owner.delete(f"{KEYS}/{key['id']}")
    assert isinstance(model_resolve(actor=owner.principal, name="main/gpt"), ModelTarget)


def test_without_a_main_key_the_others_are_asked(owner: Actor, in_acme: Tenant) -> None:
    owner.post("providers", {**MAIN, "slug": "bare", "api_key": None})
    assert owner.post("providers/bare/keys", KEY).status_code == 201
    target = model_resolve(actor=owner.principal, name="bare/gpt")
    assert isinstance(target, ModelTarget)
    assert target.connection.api_key == SECRET
