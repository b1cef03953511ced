"""The models of providers in the pages."""

from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEvent
from core.tenant import tenant_context
from llm.models import Provider, ProviderModel
from tenants.models import Tenant
from tests.admin.conftest import page, post, text_of

FORM = {"provider": "main", "overrides-of": "main", "name": "gpt-4o", "enabled": "on"}


@pytest.fixture
def main(olga: Client, acme: Tenant) -> Provider:
    form = {"slug": "main", "kind": "openai", "base_url": "", "settings-of": "openai"}
    assert post(olga, "llm/provider/add/", form).status_code == 302
    with tenant_context(acme.id):
        return Provider.objects.get(slug="main")


@pytest.fixture
def model(olga: Client, main: Provider, acme: Tenant) -> ProviderModel:
    response = post(olga, "llm/providermodel/add/", FORM)
    assert response.status_code == 302, text_of(response)
    with tenant_context(acme.id):
        return ProviderModel.objects.get()


def stored(model: ProviderModel) -> tuple[bool, dict[str, Any]]:
    with tenant_context(model.tenant_id):
        row = ProviderModel.objects.get(id=model.id)
    return row.enabled, row.overrides


def test_the_list_shows_what_a_model_can(olga: Client, main: Provider, model: ProviderModel) -> None:
    leads_to = page(olga, f"llm/provider/{main.id}/models/")
    assert leads_to["Location"] == "/t/acme/admin/llm/providermodel/?provider=main"
    content = text_of(olga.get(leads_to["Location"]))
    for shown in ("gpt-4o", '<span class="badge">vision</span>', "128,000", "16,384", "2.5 in, 10 out", "entered"):
        assert shown in content
    assert '<span class="badge">audio</span>' not in content
    assert "gpt-4o" not in text_of(page(olga, "llm/providermodel/", provider="other"))
    assert "gpt-4o" not in text_of(page(olga, "llm/providermodel/", q="claude"))


def test_the_list_costs_the_same_for_many(
    olga: Client, main: Provider, model: ProviderModel, acme: Tenant, django_assert_max_num_queries: Any
) -> None:
    with tenant_context(acme.id):
        for number in range(20):
            ProviderModel.objects.create(tenant=acme, provider=main, name=f"m-{number}", overrides={"tools": True})
    with django_assert_max_num_queries(12):
        assert page(olga, "llm/providermodel/").status_code == 200


def test_the_form_says_what_counts_otherwise_and_stores_what_was_corrected(olga: Client, model: ProviderModel) -> None:
    path = f"llm/providermodel/{model.id}/change/"
    content = text_of(page(olga, path))
    assert "It takes images. Known now: yes. Leave empty to keep that." in content
    assert "The longest answer, in tokens. Known now: 16,384. Leave empty to keep that." in content
    form = {"provider": "main", "overrides-of": "main", "overrides-vision": "false", "overrides-output_tokens": "500"}
    assert post(olga, path, form).status_code == 302
    assert stored(model) == (False, {"vision": False, "output_tokens": 500})
    refused = post(olga, path, {**form, "overrides-output_tokens": "0"})
    assert "greater than or equal to 1" in text_of(refused)
    assert stored(model) == (False, {"vision": False, "output_tokens": 500})
    assert post(olga, f"llm/providermodel/{model.id}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(model.tenant_id):
        assert not ProviderModel.objects.exists()
        actions = AuditEvent.objects.filter(action__startswith="provider_model.").order_by("id")
        assert [event.action for event in actions] == [
            "provider_model.create",
            "provider_model.update",
            "provider_model.delete",
        ]


def test_a_model_that_is_there_is_told_at_its_field(olga: Client, model: ProviderModel) -> None:
    assert "has the model &#x27;gpt-4o&#x27; already" in text_of(post(olga, "llm/providermodel/add/", FORM))


def test_a_viewer_looks_and_a_stranger_sees_nothing(
    vera: Client, stan: Client, olga: Client, model: ProviderModel
) -> None:
    path = f"llm/providermodel/{model.id}/change/"
    assert page(vera, path).status_code == 200
    assert post(vera, path, {**FORM, "enabled": ""}).status_code == 403
    assert page(stan, path).status_code == 404
    assert "gpt-4o" not in text_of(page(stan, "llm/providermodel/", tenant="globex"))
    elsewhere = olga.get(f"/t/globex/admin/{path}")
    assert elsewhere.status_code == 302
    assert stored(model) == (True, {})
