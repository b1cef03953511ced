"""Providers and toolsets in the pages: the secret goes in and never comes out."""

import re
from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEvent
from core.crypto import decrypt
from core.tenant import tenant_context
from llm.models import Provider
from tenants.models import Tenant
from tests.admin.conftest import page, post, text_of
from toolsets.models import Toolset

SECRET = "sk-test-0123456789abcdef9fQ2"
FORM = {"slug": "openai", "kind": "openai", "base_url": "https://api.openai.com/v1", "settings-of": "openai"}


@pytest.fixture
def provider(olga: Client, acme: Tenant) -> Provider:
    response = post(olga, "llm/provider/add/", {**FORM, "api_key": SECRET})
    assert response.status_code == 302, text_of(response)
    with tenant_context(acme.id):
        return Provider.objects.get(slug="openai")


def change(client: Client, provider: Provider, **values: Any) -> Any:
    return post(client, f"llm/provider/{provider.id}/change/", {**FORM, **values})


def secret_of(provider: Provider) -> str | None:
    with tenant_context(provider.tenant_id):
        stored = Provider.objects.get(id=provider.id).secret
    return decrypt(stored, context=f"{provider.tenant_id}:{provider.id}") if stored else None


def test_the_secret_is_in_no_page(olga: Client, provider: Provider) -> None:
    for path in (
        "llm/provider/",
        f"llm/provider/{provider.id}/change/",
        "audit/auditevent/",
        "search/?s=openai&extended=1",
    ):
        assert SECRET not in text_of(page(olga, path)), path
    content = text_of(page(olga, f"llm/provider/{provider.id}/change/"))
    assert "ends in …9fQ2; type to replace" in content
    failed = change(olga, provider, slug="NOT A SLUG", api_key="sk-another-secret-value-xyz")
    assert failed.status_code == 200
    assert "sk-another-secret-value-xyz" not in text_of(failed)


def test_an_empty_field_keeps_the_secret_and_a_switch_removes_it(olga: Client, provider: Provider) -> None:
    assert change(olga, provider, slug="openai-2").status_code == 302
    assert secret_of(provider) == SECRET
    assert change(olga, provider, slug="openai-2", api_key="sk-replaced-000000000000").status_code == 302
    assert secret_of(provider) == "sk-replaced-000000000000"
    both = change(olga, provider, api_key="sk-x", remove_api_key="on")
    assert "Either replace the key or remove it." in text_of(both)


def test_another_host_needs_the_secret_again(olga: Client, provider: Provider) -> None:
    response = change(olga, provider, base_url="https://elsewhere.example.com/v1")
    assert response.status_code == 200
    assert "leads to another host" in text_of(response)


def test_a_preset_fills_in_what_its_service_needs(olga: Client, acme: Tenant) -> None:
    content = text_of(page(olga, "llm/provider/add/?kind=openai:azure"))
    assert 'value="https://YOUR-RESOURCE.openai.azure.com/openai/v1"' in content
    assert "selected>api-key</option>" in content
    form = {"slug": "azure", "kind": "openai:azure", "settings-of": "openai:azure", "settings-key_header": '"api-key"'}
    unnamed = post(olga, "llm/provider/add/", {**form, "base_url": "https://acme.openai.azure.com/openai/v1"})
    assert "This field is required." in text_of(unnamed)
    filled = {**form, "base_url": "https://acme.openai.azure.com/openai/v1", "api_key": SECRET}
    response = post(olga, "llm/provider/add/", filled)
    assert response.status_code == 302, text_of(response)
    with tenant_context(acme.id):
        provider = Provider.objects.get(slug="azure")
    assert (provider.kind, provider.settings["key_header"]) == ("openai", "api-key")
    assert secret_of(provider) == SECRET
    assert "openai:azure" not in text_of(page(olga, f"llm/provider/{provider.id}/change/"))


def test_the_connection_is_tested_by_post_only(olga: Client, acme: Tenant) -> None:
    post(olga, "llm/provider/add/", {"slug": "scripted", "kind": "scripted", "settings-of": "scripted"})
    with tenant_context(acme.id):
        provider = Provider.objects.get(slug="scripted")
    path = f"llm/provider/{provider.id}/test_connection/"
    assert "Test the connection" in text_of(page(olga, path))
    with tenant_context(acme.id):
        assert Provider.objects.get(id=provider.id).health == "unknown"
    response = post(olga, path, {"_form_submitted": "on"})
    assert response["HX-Redirect"].endswith(f"/t/acme/admin/llm/provider/{provider.id}/change/")
    with tenant_context(acme.id):
        assert Provider.objects.get(id=provider.id).health == "healthy"
        assert AuditEvent.objects.filter(action="provider.test").count() == 1
    assert "The provider answers" in text_of(olga.get(response["HX-Redirect"]))


def test_a_viewer_tests_and_changes_nothing(vera: Client, olga: Client, provider: Provider) -> None:
    content = text_of(page(vera, f"llm/provider/{provider.id}/change/"))
    assert re.search(r'name="slug"[^>]*disabled', content)
    assert "Test connection" not in content
    path = f"llm/provider/{provider.id}/test_connection/"
    assert post(vera, path, {"_form_submitted": "on"}).status_code == 403
    assert change(vera, provider, slug="mine").status_code == 403
    assert secret_of(provider) == SECRET


def test_the_kind_decides_the_fields(olga: Client) -> None:
    content = text_of(page(olga, "llm/provider/add/", kind="scripted"))
    assert 'name="api_key"' not in content
    assert 'name="base_url"' not in content
    assert 'name="api_key"' in text_of(page(olga, "llm/provider/add/", kind="openai"))


def test_a_toolset_by_its_schema(olga: Client, acme: Tenant) -> None:
    form = {"name": "Clock", "slug": "clock", "kind": "time", "enabled": "on", "config-of": "time"}
    wrong = post(olga, "toolsets/toolset/add/", {**form, "config-default_timezone": "Mars/Olympus"})
    assert wrong.status_code == 200
    assert "unknown time zone" in text_of(wrong)
    right = post(olga, "toolsets/toolset/add/", {**form, "config-default_timezone": "Europe/Berlin"})
    assert right.status_code == 302, text_of(right)
    with tenant_context(acme.id):
        toolset = Toolset.objects.get(slug="clock")
    assert toolset.config == {"default_timezone": "Europe/Berlin"}
    off = {**form, "config-default_timezone": "Europe/Berlin"}
    del off["enabled"]
    assert post(olga, f"toolsets/toolset/{toolset.id}/change/", off).status_code == 302
    with tenant_context(acme.id):
        assert Toolset.objects.get(slug="clock").enabled is False
    assert post(olga, f"toolsets/toolset/{toolset.id}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(acme.id):
        assert not Toolset.objects.exists()
