"""Routes, further keys and model health in Chromium, at each look."""

import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.admin.browser.conftest import Operator
from tests.outside.site import CHECKOUT, Server

LEFT_ALONE = """
from datetime import timedelta
from django.utils import timezone
from core.tenant import tenant_context
from llm.models import EndpointHealth
from tenants.models import Tenant

tenant, now = Tenant.objects.using("ops").get(slug="acme"), timezone.now()
times = {"opened_at": now, "updated_at": now, "failures": 10, "last_error_code": "provider_unavailable"}
with tenant_context(tenant.id):
    for model in ("light", "dark", "phone"):
        for name, until in ((model, now + timedelta(hours=1)), (f"{model}-over", now)):
            EndpointHealth.objects.create(
                tenant=tenant, provider="vendor", model=name, state="open", until=until, **times
            )
"""


@pytest.fixture(scope="module")
def keyed(server: Server) -> str:
    """A provider that takes keys; its id."""
    with server.client() as http:
        body = {"slug": "vendor", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-vendor-000000"}
        return str(http.post("providers", json=body).json()["id"])


def test_a_route_is_made_and_previewed(operator: Operator, keyed: str) -> None:
    page, slug = operator.page, f"best-{operator.look}"
    operator.open("llm/route/add/")
    page.fill("[name=slug]", slug)
    page.fill("[name=name]", "Best model")
    page.select_option("[name=strategy]", "ab_test")
    expect(page.locator("[name=plan-targets-1-variant]")).to_have_value("B")
    page.select_option("[name=strategy]", "by_rule")
    expect(page.locator("[name=plan-targets-0-rule]")).to_be_visible()
    page.fill("[name=plan-targets-0-model]", "vendor/large")
    page.fill("[name=plan-targets-0-rule]", "images > 0 || colour == 'red'")
    page.get_by_role("button", name="Add another").click()
    page.fill("[name=plan-targets-1-model]", "scripted/default")
    second = page.locator(".schema-row").nth(1)
    second.get_by_role("button", name="Move up").press("Enter")
    expect(page.locator(".schema-row [name$=-model]").first).to_have_value("scripted/default")
    second = page.locator(".schema-row").nth(0)
    expect(second.get_by_role("button", name="Move up")).not_to_be_visible()
    second.get_by_role("button", name="Move down").click()
    second = page.locator(".schema-row").nth(1)
    expect(page.locator(".schema-row [name$=-model]").first).to_have_value("vendor/large")
    expect(second.get_by_role("button", name="Move up")).to_be_focused()
    operator.shot("route-form")
    page.click("button[name=_continue]")
    expect(page.get_by_text("The name 'colour' is not known at line 1, column 15.")).to_be_visible()
    page.fill("[name=plan-targets-0-rule]", "images > 0 || input_tokens > 4000")
    page.click("button[name=_continue]")
    expect(page.get_by_text("was added.")).to_be_visible()
    operator.shot("route")
    assert operator.serious() == []
    operator.action("Preview")
    page.fill("[name=message]", "What is on this picture?")
    page.fill("[name=images]", "1")
    page.get_by_role("button", name="Show where it goes").click()
    expect(page.get_by_text("by rule: images > 0 || input_tokens > 4000")).to_be_visible()
    operator.shot("route-preview")
    assert operator.serious() == []
    operator.open("llm/route/")
    expect(page.get_by_text("vendor/large, scripted/default").first).to_be_visible()
    operator.shot("routes")


def test_a_further_key_is_added(operator: Operator, keyed: str) -> None:
    page = operator.page
    operator.open(f"llm/provider/{keyed}/change/")
    operator.shot("provider-form")
    operator.action("Further keys")
    page.locator("a.addlink").first.click()
    page.fill("[name=label]", f"eu-{operator.look}")
    page.fill("[name=api_key]", "sk-further-secret-4321")
    page.fill("[name=rpm]", "60")
    operator.shot("provider-key")
    assert operator.serious() == []
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added.")).to_be_visible()
    expect(page.get_by_text(f"eu-{operator.look}").first).to_be_visible()
    operator.shot("provider-keys")
    assert operator.serious() == []


@pytest.fixture(scope="module")
def left_alone(server: Server, keyed: str) -> None:
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", LEFT_ALONE]
    done = subprocess.run(command, env=server.site.env, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_is_asked_again(operator: Operator, left_alone: None) -> None:
    page, name = operator.page, f"vendor/{operator.look}"
    operator.open("llm/endpointhealth/")
    row = page.locator("#result_list tr").filter(has=page.get_by_text(name, exact=True))
    expect(row.get_by_text("Left alone")).to_be_visible()
    expect(page.get_by_text("May be tried").first).to_be_visible()
    operator.shot("health")
    assert operator.serious() == []
    row.get_by_role("button", name="More actions").press("Enter")
    page.get_by_role("link", name="Ask again").locator("visible=true").click()
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_text(f"Calls go through to {name} again.")).to_be_visible()
    expect(row.get_by_text("Working")).to_be_visible()
