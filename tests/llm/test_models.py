"""The models of a provider: found by its test or entered, corrected, switched off, and what follows from that."""

import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEvent
from core import kept
from core.errors import InvalidRequest
from core.tenant import tenant_context
from llm.capabilities import capabilities_of, forget_models, refuse_unsupported
from llm.catalog.matrix import FIELDS, Capabilities
from llm.connections import provider_connection
from llm.exceptions import ModelNotFound
from llm.models import Provider, ProviderModel
from llm.providers.base import ProviderConnection
from llm.selectors.providers import model_names, model_resolve, provider_list
from llm.services.models import models_found
from llm.wire import ChatRequest
from tenants.models import Tenant
from tests.conftest import Actor
from tests.llm.upstream import Upstream

pytestmark = pytest.mark.django_db

OPENAI = {"slug": "main", "kind": "openai", "api_key": "sk-very-secret-value-9876"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
def main(owner: Actor) -> Provider:
    assert owner.post("providers", OPENAI).status_code == 201
    with tenant_context(owner.tenant.id):
        return Provider.objects.get(slug="main")


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def faults(response: Any) -> dict[str, str]:
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


def enter(actor: Actor, name: str, **fields: Any) -> Any:
    response = actor.post("providers/main/models", {"name": name, **fields})
    assert response.status_code == 201, response.content
    return response.json()


def test_a_provider_has_so_many(owner: Actor, main: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.services.models.MAX_MODELS", 1)
    enter(owner, "first")
    answer = owner.post("providers/main/models", {"name": "second"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many")


def rows() -> list[tuple[str, bool, bool]]:
    return list(ProviderModel.objects.order_by("name").values_list("name", "entered", "enabled"))


def test_entering_a_model_shows_what_is_known_and_from_where(owner: Actor, main: Provider, in_acme: Tenant) -> None:
    body = enter(owner, "gpt-4o", overrides={"audio": True, "output_tokens": 1000, "tools": None})
    assert (body["name"], body["model"], body["entered"], body["enabled"]) == ("gpt-4o", "main/gpt-4o", True, True)
    assert body["overrides"] == {"audio": True, "output_tokens": 1000}
    assert body["capabilities"] == {
        "tools": True,
        "parallel_tools": True,
        "json_schema": True,
        "vision": True,
        "audio": True,
        "documents": True,
        "reasoning": False,
        "context_tokens": 128_000,
        "output_tokens": 1000,
        "input_price": 2.5,
        "output_price": 10.0,
    }
    assert set(body["sources"]) == set(FIELDS)
    assert {name for name, source in body["sources"].items() if source == "override"} == {"audio", "output_tokens"}
    assert (body["sources"]["output_price"], body["sources"]["tools"]) == ("price", "catalog")
    row = ProviderModel.objects.get()
    assert (row.entered, row.overrides) == (True, {"audio": True, "output_tokens": 1000})
    event = AuditEvent.objects.get(action="provider_model.create", object_id=str(row.id))
    assert (event.object_label, event.before, event.after["overrides"]) == ("main/gpt-4o", None, row.overrides)
    assert owner.get("providers/main").json()["models"] == ["gpt-4o"]


def test_names_may_have_slashes_and_colons(owner: Actor, main: Provider) -> None:
    name = "accounts/fireworks/models/qwen3:8b@v2"
    enter(owner, name)
    path = f"providers/main/models/{name}"
    assert owner.get(path).json()["model"] == f"main/{name}"
    assert owner.patch(path, {"enabled": False}).json()["enabled"] is False
    assert owner.delete(path).status_code == 204
    assert error(owner.get(path)) == (404, "not_found")


def test_every_fault_at_once_and_nothing_is_written(owner: Actor, main: Provider, in_acme: Tenant) -> None:
    overrides = {"tools": "yes", "context_tokens": 0, "output_price": 1, "colour": "red", "output_tokens": 1.5}
    expected = {
        "name": "invalid",
        "overrides.tools": "bool_type",
        "overrides.context_tokens": "greater_than_equal",
        "overrides.output_price": "extra_forbidden",
        "overrides.colour": "extra_forbidden",
        "overrides.output_tokens": "int_type",
    }
    assert faults(owner.post("providers/main/models", {"name": "two words", "overrides": overrides})) == expected
    enter(owner, "gpt-4o", overrides={"vision": False})
    response = owner.patch("providers/main/models/gpt-4o", {"overrides": overrides, "enabled": False})
    assert faults(response) == {path: code for path, code in expected.items() if path != "name"}
    row = ProviderModel.objects.get()
    assert (row.enabled, row.overrides) == (True, {"vision": False})
    assert not AuditEvent.objects.filter(action="provider_model.update").exists()


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({}, "name", "required"),
        ({"name": ""}, "name", "blank"),
        ({"name": "x" * 256}, "name", "max_length"),
        ({"name": "line\nbreak"}, "name", "invalid"),
        ({"name": 7}, "name", "invalid"),
        ({"name": "x", "enabled": "yes"}, "enabled", "invalid"),
        ({"name": "x", "enabled": 1}, "enabled", "invalid"),
        ({"name": "x", "enabled": None}, "enabled", "null"),
        ({"name": "x", "overrides": []}, "overrides", "not_a_dict"),
        ({"name": "x", "overrides": {"output_tokens": 10**15}}, "overrides.output_tokens", "less_than_equal"),
        ({"name": "x", "overrides": {"context_tokens": True}}, "overrides.context_tokens", "int_type"),
        ({"name": "x", "entered": True}, "entered", "unknown_field"),
    ],
)
def test_faults(owner: Actor, main: Provider, in_acme: Tenant, body: dict[str, Any], path: str, code: str) -> None:
    assert faults(owner.post("providers/main/models", body)) == {path: code}
    assert rows() == []


def test_a_model_is_there_once(owner: Actor, stranger: Actor, main: Provider) -> None:
    enter(owner, "gpt-4o")
    assert error(owner.post("providers/main/models", {"name": "gpt-4o"})) == (409, "model_exists")
    stranger.post("providers", OPENAI)
    enter(stranger, "gpt-4o")


def test_a_closed_list_takes_no_other_model(owner: Actor, in_acme: Tenant) -> None:
    owner.post("providers", {"slug": "robot", "kind": "scripted"})
    assert rows() == [("default", False, True)]
    assert faults(owner.post("providers/robot/models", {"name": "other"})) == {"name": "unknown_model"}
    found = owner.get("providers/robot/models/default").json()
    assert (found["capabilities"]["tools"], found["capabilities"]["input_price"]) == (True, 0.0)
    assert set(found["sources"].values()) == {"kind", "price"}


def test_owner_teammate_and_stranger(
    owner: Actor, viewer: Actor, stranger: Actor, main: Provider, in_acme: Tenant
) -> None:
    enter(owner, "gpt-4o")
    path = "providers/main/models"
    assert [model["name"] for model in viewer.get(path).json()["data"]] == ["gpt-4o"]
    assert viewer.get(f"{path}/gpt-4o").status_code == 200
    for method, suffix, body in (
        ("POST", "", {"name": "x"}),
        ("PATCH", "/gpt-4o", {"enabled": False}),
        ("DELETE", "/gpt-4o", None),
    ):
        assert error(viewer.send(method, path + suffix, body)) == (403, "role_too_low")
        assert error(stranger.send(method, path + suffix, body)) == (404, "not_found")
    for unseen in (path, f"{path}/gpt-4o", f"providers/{main.id}/models"):
        assert error(stranger.get(unseen)) == (404, "not_found")
    assert rows() == [("gpt-4o", True, True)]
    assert AuditEvent.objects.filter(action__startswith="provider_model.").count() == 1


def test_changes_are_audited_and_no_change_writes_nothing(owner: Actor, main: Provider, in_acme: Tenant) -> None:
    enter(owner, "gpt-4o")
    path = "providers/main/models/gpt-4o"
    assert owner.patch(path, {"overrides": {"vision": False}, "enabled": False}).status_code == 200
    assert owner.patch(path, {"overrides": {"vision": False}, "enabled": False}).status_code == 200
    assert owner.patch(path, {}).status_code == 200
    event = AuditEvent.objects.get(action="provider_model.update")
    assert (event.before["enabled"], event.after["enabled"]) == (True, False)
    assert (event.before["overrides"], event.after["overrides"]) == ({}, {"vision": False})
    assert owner.delete(path).status_code == 204
    assert AuditEvent.objects.get(action="provider_model.delete").before["overrides"] == {"vision": False}
    assert rows() == []


def test_a_test_finds_models_and_leaves_those_of_people(owner: Actor, upstream: Upstream, in_acme: Tenant) -> None:
    owner.post("providers", {**OPENAI, "base_url": upstream.url})
    for name in ("mine", "mock-1"):
        enter(owner, name)
    main = Provider.objects.get(slug="main")
    for name, fields in {"old": {}, "off": {"enabled": False}, "said": {"overrides": {"tools": True}}}.items():
        ProviderModel.objects.create(tenant=owner.tenant, provider=main, name=name, **fields)
    assert owner.post("providers/main/test").json()["healthy"] is True
    assert rows() == [
        ("mine", True, True),
        ("mock-1", True, True),
        ("mock-2", False, True),
        ("off", False, False),
        ("said", False, True),
    ]
    after = AuditEvent.objects.get(action="provider.test").after
    assert (after["models_added"], after["models_removed"]) == (1, 1)
    assert owner.get("providers/main").json()["models"] == ["mine", "mock-1", "mock-2", "said"]


def test_odd_names_of_a_provider_are_left_out(owner: Actor, main: Provider, in_acme: Tenant, monkeypatch: Any) -> None:
    names = ["good", "good", "", "two words", "x" * 256, "nul\0", "half\ud800"]
    assert models_found(main, names) == {"models_added": 1, "models_removed": 0}
    assert rows() == [("good", False, True)]
    monkeypatch.setattr("llm.services.models.MOST_FOUND", 3)
    assert models_found(main, map(str, range(9))) == {"models_added": 3, "models_removed": 1}


def test_a_model_switched_off_is_not_offered_and_not_called(owner: Actor, main: Provider, in_acme: Tenant) -> None:
    for name in ("gpt-4o", "o3"):
        enter(owner, name)
    owner.post("providers", {"slug": "robot", "kind": "scripted"})
    for path in ("providers/main/models/o3", "providers/robot/models/default"):
        owner.patch(path, {"enabled": False})
    forget_models(owner.tenant.id, "main")
    forget_models(owner.tenant.id, "robot")
    assert [model.name for model in model_names(owner.principal)] == ["main/gpt-4o"]
    assert [model["id"] for model in owner.get("models").json()["data"]] == ["main/gpt-4o"]
    for name in ("main/o3", "robot/default"):
        with pytest.raises(ModelNotFound) as refused:
            model_resolve(actor=owner.principal, name=name)
        assert refused.value.code == "model_disabled"
    assert model_resolve(actor=owner.principal, name="main/gpt-4o").model == "gpt-4o"


def test_lists_are_paged_searched_and_of_constant_cost(
    owner: Actor, main: Provider, in_acme: Tenant, django_assert_num_queries: Any
) -> None:
    def cost(path: str) -> int:
        with CaptureQueriesContext(connection) as counted:
            assert owner.get(path).status_code == 200
        return len(counted)

    paths = ("providers/main/models", "providers", "models")
    enter(owner, "model-0")
    before = [cost(path) for path in paths]
    for number in range(1, 8):
        enter(owner, f"model-{number}", overrides={"tools": True})
    owner.post("providers", {**OPENAI, "slug": "second"})
    assert [cost(path) for path in paths] == before
    page = owner.get("providers/main/models", limit="5").json()
    rest = owner.get("providers/main/models", limit="5", cursor=page["next_cursor"]).json()
    assert [row["name"] for row in page["data"] + rest["data"]] == [f"model-{number}" for number in range(8)]
    assert [row["name"] for row in owner.get("providers/main/models", q="l-3").json()["data"]] == ["model-3"]
    with django_assert_num_queries(1):
        list(provider_list(actor=owner.principal))


def test_capabilities_are_merged_and_asked_for_once_in_a_while(
    owner: Actor,
    stranger: Actor,
    main: Provider,
    in_acme: Tenant,
    django_assert_num_queries: Any,
    django_capture_on_commit_callbacks: Any,
) -> None:
    ours = provider_connection(main)
    with django_assert_num_queries(1):  # the models; prices are asked where they are shown
        assert capabilities_of(ours, "gpt-4o").vision is True
        assert capabilities_of(main, "o3").parallel_tools is False
        assert capabilities_of(ours, "my-own") == Capabilities()
    with django_capture_on_commit_callbacks(execute=True):
        enter(owner, "my-own", overrides={"context_tokens": 4096})
    found = capabilities_of(ours, "my-own")
    assert found == Capabilities(context_tokens=4096)
    with django_capture_on_commit_callbacks(execute=True):
        owner.patch("providers/main/models/my-own", {"overrides": {}})
    assert capabilities_of(ours, "my-own") == Capabilities()
    theirs = ProviderConnection("main", "openai", tenant_id=stranger.tenant.id)
    with tenant_context(stranger.tenant.id):
        assert capabilities_of(theirs, "my-own") == Capabilities()


def test_a_change_elsewhere_is_seen_after_some_seconds(owner: Actor, main: Provider, monkeypatch: Any) -> None:
    with tenant_context(owner.tenant.id):
        assert capabilities_of(main, "my-own").tools is None
        ProviderModel.objects.create(
            tenant=owner.tenant, provider=main, name="my-own", overrides={"tools": True}, enabled=True
        )
        assert capabilities_of(main, "my-own").tools is None
        now = kept.time.monotonic()
        monkeypatch.setattr(kept.time, "monotonic", lambda: now + 5)
        assert capabilities_of(main, "my-own").tools is True


def asked(**params: Any) -> ChatRequest:
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]},
    ]
    return ChatRequest("main/m", messages, params)


def test_all_that_a_model_lacks_is_told_at_once() -> None:
    lacks = Capabilities(tools=False, json_schema=False, vision=False)
    with pytest.raises(InvalidRequest) as refused:
        refuse_unsupported(asked(tools=[TOOL], response_format=SCHEMA), lacks)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "unsupported_by_model", "tools")
    assert [fault["path"] for fault in refused.value.details] == ["tools", "response_format", "messages.1.content.1"]


@pytest.mark.parametrize("known", [Capabilities(), Capabilities(tools=True, json_schema=True, vision=True)])
def test_what_is_not_known_is_left_to_the_provider(known: Capabilities) -> None:
    refuse_unsupported(asked(tools=[TOOL], response_format=SCHEMA), known)


def test_what_asks_for_nothing_special_is_never_refused() -> None:
    nothing = Capabilities(**dict.fromkeys(("tools", "json_schema", "vision", "audio", "documents"), False))
    plain = ChatRequest("m", [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}])
    refuse_unsupported(plain, nothing)
    plain.params = {"tools": [], "response_format": {"type": "json_object"}}
    refuse_unsupported(plain, nothing)


FIRST_AT_ONCE = """
import os, sys, threading
os.environ.setdefault("DATABASE_URL", "postgresql://nobody@localhost/none")
os.environ["DJANGO_SETTINGS_MODULE"] = "agentsite.settings"
sys.setswitchinterval(1e-6)
from llm.catalog import lookup
start = threading.Barrier(8)
def first():
    start.wait()
    lookup.catalog()
threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_are_the_first_to_read_the_catalog_do_not_crash_the_server() -> None:
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], cwd=settings.BASE_DIR, capture_output=True)
        assert done.returncode == 0, done.stderr[-500:]
