"""Model health in the pages: who is left alone, by which key, and asking again."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from core.tenant import tenant_context
from llm.models import EndpointHealth, Provider
from tenants.models import Tenant
from tests.admin.conftest import page, post, text_of
from tests.conftest import Actor

pytestmark = pytest.mark.django_db
SENT = {"_form_submitted": "on"}
LIST = "llm/endpointhealth/"


@pytest.fixture
def key_id(owner: Actor) -> str:
    url = "http://127.0.0.1:9/v1"
    owner.post("providers", {"slug": "main", "kind": "openai", "base_url": url, "api_key": "sk-main-0000000"})
    return str(owner.post("providers/main/keys", {"label": "eu", "api_key": "sk-further-4321"}).json()["id"])


def left_alone(tenant: Tenant, key: str = "", seconds: float = 60, **fields: Any) -> EndpointHealth:
    now = timezone.now()
    times = {"opened_at": now, "until": now + timedelta(seconds=seconds), "updated_at": now}
    row = {"provider": "main", "model": "gpt", "key": key, "state": "open", "failures": 5, **times, **fields}
    with tenant_context(tenant.id):
        return EndpointHealth.objects.create(tenant_id=tenant.id, **row)


def test_a_key_is_called_by_its_label(olga: Client, acme: Tenant, key_id: str) -> None:
    left_alone(acme, key_id)
    left_alone(acme, "0198b7a0-0000-7000-8000-000000000000", model="other")
    content = text_of(page(olga, LIST))
    assert "main/gpt (eu)" in content
    assert "main/other (a removed key)" in content
    assert key_id not in content


def test_what_may_be_tried_is_not_said_to_be_tried(olga: Client, acme: Tenant, key_id: str) -> None:
    left_alone(acme)
    assert "Left alone" in text_of(page(olga, LIST))
    left_alone(acme, model="over", seconds=-1)
    content = text_of(page(olga, LIST))
    assert "May be tried" in content
    assert "Being tried" not in content
    left_alone(acme, model="now", state="half_open")
    assert "Being tried" in text_of(page(olga, LIST))


def test_one_is_asked_again(olga: Client, vera: Client, stan: Client, acme: Tenant, key_id: str) -> None:
    health, other = left_alone(acme, key_id), left_alone(acme, key_id, model="other")
    path = f"{LIST}{health.id}/ask_again/"
    assert path in text_of(page(olga, LIST))
    assert path not in text_of(page(vera, LIST))
    assert post(vera, path, SENT).status_code == 403
    post(stan, path, SENT, tenant="globex")
    assert states(acme) == {health.id: "open", other.id: "open"}
    assert post(olga, path, SENT)["HX-Redirect"].endswith(LIST)
    assert states(acme) == {health.id: "closed", other.id: "open"}
    assert "Calls go through to main/gpt again." in text_of(page(olga, LIST))
    with tenant_context(acme.id):
        Provider.objects.filter(slug="main").delete()
    assert post(olga, f"{LIST}{other.id}/ask_again/", SENT)["HX-Redirect"].endswith(LIST)  # which says that it is gone


def states(tenant: Tenant) -> dict[Any, str]:
    with tenant_context(tenant.id):
        return dict(EndpointHealth.objects.values_list("id", "state"))
