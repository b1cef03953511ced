"""Providers over REST: what goes in, what never comes out, and whom they belong to."""

from importlib.metadata import EntryPoint
from typing import Any
from uuid import uuid4

import pytest
from cryptography.exceptions import InvalidTag

from audit.models import AuditEvent
from core import kept
from core.errors import Conflict, NotFound
from core.ids import uuid7
from core.tenant import tenant_context
from llm import providers
from llm.connections import provider_connection
from llm.exceptions import ModelNotFound, ProviderError
from llm.models import Provider
from llm.providers import provider_kind, provider_kinds
from llm.providers.base import ProviderSettings
from llm.providers.scripted import ScriptedKind
from llm.selectors import providers as selectors
from llm.selectors.providers import model_names, model_resolve
from llm.services.providers import provider_create
from llm.targets import ModelTarget
from tenants.models import Tenant
from tests.conftest import Actor, make_actor
from tests.llm.upstream import Upstream

pytestmark = pytest.mark.django_db

SECRET = "sk-very-secret-value-9876"
OPENAI = {"slug": "main", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def faults(response: Any) -> dict[str, str]:
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


def create(actor: Actor, **fields: Any) -> Any:
    response = actor.post("providers", {**OPENAI, **fields})
    assert response.status_code == 201, response.content
    return response.json()


def stored(provider_id: str) -> Provider:
    return Provider.objects.get(id=provider_id)


def test_create_shows_no_secret_and_audits_none(owner: Actor, in_acme: Tenant) -> None:
    response = owner.post("providers", {**OPENAI, "settings": {"organization": "org-1"}})
    assert response.status_code == 201
    body = response.json()
    assert (body["slug"], body["api_key_last4"], body["has_api_key"], body["health"]) == (
        "main",
        "9876",
        True,
        "unknown",
    )
    row = stored(body["id"])
    assert SECRET.encode() not in bytes(row.secret or b"")
    assert provider_connection(row).api_key == SECRET
    event = AuditEvent.objects.get(action="provider.create", object_id=body["id"])
    assert event.after == {
        "slug": "main",
        "kind": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "settings": {"organization": "org-1"},
        "api_key_last4": "9876",
        "has_api_key": True,
    }
    for path in ("providers", "providers/main", f"providers/{body['id']}"):
        text = owner.get(path).content.decode()
        assert '"main"' in text
        assert SECRET not in text
        assert "secret" not in text


def test_a_copied_secret_is_useless_elsewhere(owner: Actor, stranger: Actor) -> None:
    ours, theirs = create(owner), create(stranger)
    with tenant_context(owner.tenant.id):
        sealed = stored(ours["id"]).secret
    with tenant_context(stranger.tenant.id):
        row = stored(theirs["id"])
        row.secret = sealed
        with pytest.raises(InvalidTag):
            provider_connection(row)


def test_short_keys_show_nothing(owner: Actor) -> None:
    assert create(owner, api_key="short")["api_key_last4"] == ""


def test_every_fault_at_once(owner: Actor, in_acme: Tenant) -> None:
    body = {
        "slug": "Not Good",
        "kind": "openai",
        "base_url": "ftp://x",
        "api_key": "two words",
        "settings": {"organization": 7, "colour": "red"},
    }
    response = owner.post("providers", body)
    assert error(response) == (400, "invalid")
    assert faults(response) == {
        "slug": "invalid",
        "base_url": "address_refused",
        "api_key": "invalid",
        "settings.organization": "string_type",
        "settings.colour": "extra_forbidden",
    }
    assert "two words" not in response.content.decode()
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "nonsense"}, {"kind": "unknown_kind"}),
        ({"slug": "kinds"}, {"slug": "reserved"}),
        ({"slug": str(uuid4())}, {"slug": "reserved"}),
        ({"kind": "scripted"}, {"base_url": "not_allowed", "api_key": "not_allowed"}),
        ({"api_key": "line\nbreak"}, {"api_key": "invalid"}),
        ({"base_url": "http://169.254.169.254/v1"}, {"base_url": "address_refused"}),
        ({"extra": 1}, {"extra": "unknown_field"}),
        ({"slug": None}, {"slug": "null"}),
        ({"settings": []}, {"settings": "not_a_dict"}),
    ],
)
def test_faults(owner: Actor, fields: dict[str, Any], expected: dict[str, str]) -> None:
    response = owner.post("providers", {**OPENAI, **fields})
    assert response.status_code == 400
    assert {path: code for path, code in faults(response).items() if path in expected} == expected


def test_private_addresses_by_the_platform_s_leave(owner: Actor, settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    response = owner.post("providers", OPENAI)
    assert faults(response) == {"base_url": "address_refused"}
    assert owner.post("providers", {**OPENAI, "base_url": "https://example.com/v1"}).status_code == 201


def test_slug_is_unique_in_the_tenant_only(owner: Actor, stranger: Actor) -> None:
    create(owner)
    response = owner.post("providers", OPENAI)
    assert error(response) == (409, "slug_taken")
    create(stranger)


def test_slug_race_is_a_conflict(owner: Actor, in_acme: Tenant) -> None:
    create(owner)
    create(owner, slug="second")
    assert error(owner.patch("providers/second", {"slug": "main"})) == (409, "slug_taken")
    with pytest.raises(Conflict):
        provider_create(actor=owner.principal, slug="main", kind="scripted")


def test_teammate_and_stranger(owner: Actor, viewer: Actor, stranger: Actor, in_acme: Tenant) -> None:
    provider = create(owner)
    path = f"providers/{provider['id']}"
    assert viewer.get(path).json()["slug"] == "main"
    for method, suffix, body in (
        ("PATCH", "", {"slug": "x"}),
        ("PUT", "", OPENAI),
        ("DELETE", "", None),
        ("POST", "/test", None),
    ):
        assert error(viewer.send(method, path + suffix, body)) == (403, "role_too_low")
        assert error(stranger.send(method, path + suffix, body)) == (404, "not_found")
    assert error(viewer.post("providers", {**OPENAI, "slug": "other"})) == (403, "role_too_low")
    assert error(stranger.get(path)) == (404, "not_found")
    assert error(stranger.get("providers/main")) == (404, "not_found")
    assert stranger.get("providers").json()["data"] == []
    assert [row.slug for row in Provider.objects.all()] == ["main"]
    assert AuditEvent.objects.filter(action__startswith="provider.").count() == 1


def test_scopes(acme: Tenant) -> None:
    chat = make_actor(acme, "owner", scopes=["chat"])
    assert error(chat.get("providers")) == (403, "scope_missing")
    assert error(chat.get("providers/kinds")) == (403, "scope_missing")
    assert error(chat.post("providers", OPENAI)) == (403, "scope_missing")
    assert model_names(chat.principal) == []


def test_patch_changes_what_is_named(owner: Actor, in_acme: Tenant) -> None:
    provider = create(owner, settings={"organization": "org-1"})
    response = owner.patch("providers/main", {"slug": "renamed", "settings": {"project": "p"}})
    assert response.status_code == 200
    body = response.json()
    assert (body["slug"], body["settings"], body["api_key_last4"]) == ("renamed", {"project": "p"}, "9876")
    event = AuditEvent.objects.get(action="provider.update")
    assert (event.before["slug"], event.after["slug"]) == ("main", "renamed")
    assert provider_connection(stored(provider["id"])).api_key == SECRET


def test_put_replaces_all_but_the_secret(owner: Actor, in_acme: Tenant) -> None:
    provider = create(owner, settings={"organization": "org-1"})
    body = {"slug": "main", "kind": "openai", "base_url": OPENAI["base_url"]}
    assert owner.put("providers/main", body).json()["settings"] == {}
    assert provider_connection(stored(provider["id"])).api_key == SECRET
    assert faults(owner.put("providers/main", {**body, "kind": "scripted", "base_url": ""}))["kind"] == "immutable"


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:10/v1", "https://127.0.0.1:9/v1", "http://[", ""])
def test_a_secret_does_not_follow_to_another_host(owner: Actor, in_acme: Tenant, base_url: str) -> None:
    provider = create(owner)
    assert faults(owner.patch("providers/main", {"base_url": base_url}))["api_key"] == "required"
    assert stored(provider["id"]).base_url == OPENAI["base_url"]
    assert owner.patch("providers/main", {"base_url": "http://127.0.0.1:9/v2"}).status_code == 200
    moved = owner.patch("providers/main", {"base_url": "http://127.0.0.1:10/v1", "api_key": "sk-another-key-1234"})
    assert moved.json()["api_key_last4"] == "1234"


def test_the_secret_can_be_taken_away(owner: Actor, in_acme: Tenant) -> None:
    provider = create(owner)
    assert owner.patch("providers/main", {"api_key": None}).json()["has_api_key"] is False
    assert stored(provider["id"]).secret is None


def test_delete(owner: Actor, in_acme: Tenant) -> None:
    provider = create(owner)
    assert owner.delete("providers/main").status_code == 204
    assert error(owner.get(f"providers/{provider['id']}")) == (404, "not_found")
    assert AuditEvent.objects.get(action="provider.delete").before["slug"] == "main"


def test_list_is_paged_searched_and_one_query(owner: Actor, django_assert_num_queries) -> None:
    for number in range(5):
        create(owner, slug=f"p-{number}")
    owner.post("providers", {"slug": "robot", "kind": "scripted"})
    page = owner.get("providers", limit="4").json()
    assert (len(page["data"]), page["has_more"]) == (4, True)
    rest = owner.get("providers", limit="4", cursor=page["next_cursor"]).json()
    assert [row["slug"] for row in page["data"] + rest["data"]] == ["robot", "p-4", "p-3", "p-2", "p-1", "p-0"]
    assert [row["slug"] for row in owner.get("providers", q="obo").json()["data"]] == ["robot"]
    assert len(owner.get("providers", kind="openai").json()["data"]) == 5
    with tenant_context(owner.tenant.id), django_assert_num_queries(1):
        list(selectors.provider_list(actor=owner.principal))


def test_test_stores_health_and_models(owner: Actor, upstream: Upstream, in_acme: Tenant) -> None:
    provider = create(owner, base_url=upstream.url)
    response = owner.post("providers/main/test")
    assert response.status_code == 200
    assert (response.json()["healthy"], response.json()["models"]) == (True, ["mock-1", "mock-2"])
    row = stored(provider["id"])
    assert (row.health, owner.get("providers/main").json()["models"]) == ("healthy", ["mock-1", "mock-2"])
    assert row.health_checked_at is not None
    assert [name.name for name in model_names(owner.principal)] == ["main/mock-1", "main/mock-2"]
    assert AuditEvent.objects.get(action="provider.test").after["health"] == "healthy"
    owner.patch("providers/main", {"api_key": "wrong"})
    assert stored(provider["id"]).health == "unknown"
    result = owner.post("providers/main/test").json()
    assert result["healthy"] is False
    assert "API key" in result["message"]
    row = stored(provider["id"])
    assert (row.health, row.health_message) == ("failing", result["message"])
    assert owner.get("providers/main").json()["models"] == ["mock-1", "mock-2"]


def test_test_of_a_missing_kind(owner: Actor, in_acme: Tenant) -> None:
    provider = create(owner)
    Provider.objects.filter(id=provider["id"]).update(kind="gone")
    result = owner.post("providers/main/test").json()
    assert result["healthy"] is False
    assert "not installed" in result["message"]


def test_kinds(viewer: Actor) -> None:
    response = viewer.get("providers/kinds")
    assert response.status_code == 200
    kinds = {kind["slug"]: kind for kind in response.json()["data"]}
    assert list(kinds) == OURS
    assert kinds["openai"]["default_base_url"] == "https://api.openai.com/v1"
    assert kinds["openai"]["settings_schema"]["properties"].keys() == {
        *("limits", "organization", "project", "stream_usage", "max_tokens_only", "key_header", "api_version")
    }
    assert [preset["slug"] for preset in kinds["openai"]["presets"]] == [
        *("azure", "groq", "deepseek", "openrouter", "together", "vllm", "localai")
    ]
    assert kinds["openai"]["presets"][0] == {
        "slug": "azure",
        "title": "Azure OpenAI",
        "base_url": "https://YOUR-RESOURCE.openai.azure.com/openai/v1",
        "api_key": "required",
        "settings": {"key_header": "api-key"},
    }
    assert all(kinds[name]["installed"] for name in kinds if name != "local")
    assert kinds["openai"]["settings_schema"]["additionalProperties"] is False
    assert (kinds["openai"]["models"], kinds["local"]["models"]) == (None, ["smollm2"])
    assert "pip install" in kinds["local"]["install"]


def test_resolve(owner: Actor, stranger: Actor, in_acme: Tenant) -> None:
    create(owner)
    owner.post("providers", {"slug": "robot", "kind": "scripted"})
    target = model_resolve(actor=owner.principal, name="main/org/model:7b")
    assert (target.model, target.connection.api_key, target.name) == ("org/model:7b", SECRET, "main/org/model:7b")
    assert SECRET not in repr(target)
    assert model_resolve(actor=owner.principal, name="robot/default").model == "default"
    for name in ("robot/other", "none/x", "main/", "main", "/x", ""):
        with pytest.raises(ModelNotFound) as missing:
            model_resolve(actor=owner.principal, name=name)
        assert (missing.value.status, missing.value.code) == (404, "model_not_found")
    with pytest.raises(ModelNotFound):
        model_resolve(actor=stranger.principal, name="main/x")


def test_resolve_is_cached_and_forgets_at_a_change(
    owner: Actor, in_acme: Tenant, django_assert_num_queries, django_capture_on_commit_callbacks
) -> None:
    create(owner)
    model_resolve(actor=owner.principal, name="main/a")
    with django_assert_num_queries(0):
        model_resolve(actor=owner.principal, name="main/b")
    with django_capture_on_commit_callbacks(execute=True):
        owner.patch("providers/main", {"api_key": "sk-another-key-1234"})
    assert model_resolve(actor=owner.principal, name="main/a").connection.api_key == "sk-another-key-1234"
    with django_capture_on_commit_callbacks(execute=True):
        owner.delete("providers/main")
    with pytest.raises(ModelNotFound):
        model_resolve(actor=owner.principal, name="main/a")


def test_resolve_asks_again_after_some_seconds(owner: Actor, in_acme: Tenant, monkeypatch) -> None:
    provider = create(owner)
    model_resolve(actor=owner.principal, name="main/a")
    Provider.objects.filter(id=provider["id"]).delete()
    now = kept.time.monotonic()
    monkeypatch.setattr(kept.time, "monotonic", lambda: now + 5)
    with pytest.raises(ModelNotFound):
        model_resolve(actor=owner.principal, name="main/a")


def test_deleted_while_it_was_tested(owner: Actor, in_acme: Tenant) -> None:
    from llm.services.providers import ProviderTest, _end_test

    provider = Provider(id=uuid7(), tenant_id=owner.tenant.id, slug="gone", kind="scripted")
    with pytest.raises(NotFound):
        _end_test(owner.principal, provider, ProviderTest(True, "ok", [], 1))


OURS = ["openai", "anthropic", "google", "mistral", "cohere", "huggingface", "ollama", "local", "scripted"]


class OtherSettings(ProviderSettings):
    level: int = 1


class OtherKind(ScriptedKind):
    slug = "other"
    title = "Other"
    Settings = OtherSettings


OTHER, IMPOSTOR, NO_KIND = OtherKind(), ScriptedKind(), object()


def test_third_party_kinds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A good one joins; a broken one, an impostor and a stranger are reported and left out."""
    names = {"good": "OTHER", "impostor": "IMPOSTOR", "stranger": "NO_KIND", "broken": "MISSING"}
    points = [EntryPoint(name, f"{__name__}:{attr}", providers.ENTRY_POINTS) for name, attr in names.items()]
    monkeypatch.setattr(providers, "entry_points", lambda group: points)
    providers._kinds.cache_clear()
    try:
        assert [kind.slug for kind in provider_kinds()] == [*OURS, "other"]
        assert provider_kind("other") is OTHER
        assert provider_kind("scripted") is not IMPOSTOR
    finally:
        providers._kinds.cache_clear()
    assert sorted(record.args[0] for record in caplog.records) == ["broken", "impostor", "stranger"]


def test_kind_that_is_gone_is_a_clear_error(scripted: ModelTarget) -> None:
    gone = ModelTarget(providers.base.ProviderConnection("x", "gone"), "m")
    with pytest.raises(ProviderError, match="not installed on this server"):
        gone.open()


@pytest.mark.parametrize(
    "path", ["providers?q=%00", "providers?kind=%00", "providers/%00", "providers/%ED%A0%80", "providers/a%20b"]
)
def test_odd_characters_in_the_address(owner: Actor, path: str) -> None:
    assert owner.http.get(f"/v1/{path}").status_code in (400, 404)
