"""The platform's site: superusers only, every tenant, read-only but for tenants; the tenant is told of each look."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from audit.models import AuditEvent
from core.tenant import tenant_context
from runs.models import Run
from tenants.models import Tenant, User
from tenants.services import tenant_create
from tests.admin.conftest import browser_of, make_member, page, text_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
PAGES = ["", "tenants/tenant/", "runs/run/", "charge-back/", "procrastinate/procrastinatejob/", "audit/auditevent/"]


@pytest.fixture
def tenants() -> list[Tenant]:
    found = [tenant_create(slug=slug, name=slug.title()) for slug in ("acme", "globex")]
    for tenant in found:
        with tenant_context(tenant.id):
            Run.objects.create(tenant=tenant, model=f"m/{tenant.slug}", source="api", actor_kind="x", actor_label="x")
    return found


@pytest.fixture
def staff() -> Client:
    return browser_of(User.objects.create_superuser("root"))


def looks(tenant: Tenant) -> list[str]:
    with tenant_context(tenant.id):
        events = AuditEvent.objects.filter(action__startswith="platform.").order_by("created_at")
        assert {event.actor_label for event in events} <= {"platform: root"}
        return [event.action for event in events]


def run_of(tenant: Tenant) -> Run:
    with tenant_context(tenant.id):
        return Run.objects.get()


def get(client: Client, path: str) -> Any:
    return client.get(f"/platform/{path}")


@pytest.mark.parametrize("path", PAGES)
def test_staff_open_every_page(staff: Client, tenants: list[Tenant], path: str) -> None:
    response = get(staff, path)
    assert response.status_code == 200
    assert "Each look is written" in text_of(response)


@pytest.mark.parametrize("path", PAGES)
def test_a_tenants_owner_opens_none(tenants: list[Tenant], path: str) -> None:
    owner = browser_of(make_member(tenants[0], "olga", "owner"))
    response = get(owner, path)
    assert response.status_code == 403
    assert "The platform&#x27;s pages are for superusers" in text_of(response)
    assert 'href="/platform/"' not in text_of(page(owner, ""))


def test_nobody_is_led_to_the_login(client: Client, tenants: list[Tenant]) -> None:
    assert get(client, "")["Location"].startswith("/platform/login/")


def test_staff_find_the_platform_from_a_tenant(tenants: list[Tenant]) -> None:
    user = make_member(tenants[0], "olga", "owner")
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    assert 'href="/platform/"' in text_of(page(browser_of(user), ""))


def test_a_job_shows_when_it_was_enqueued(staff: Client) -> None:
    app.configure_task("agentsite.nothing").defer()
    content = text_of(get(staff, "procrastinate/procrastinatejob/"))
    assert f"{timezone.now():%Y-%m-%d}" in content
    assert "Jobs | Agentsite" in content
    job = ProcrastinateJob.objects.using("ops").get(task_name="agentsite.nothing")
    assert get(staff, f"procrastinate/procrastinatejob/{job.id}/change/").status_code == 200


def test_lists_reach_every_tenant_and_tell_it(staff: Client, tenants: list[Tenant]) -> None:
    content = text_of(get(staff, "runs/run/?since=all"))
    assert "m/acme" in content
    assert "m/globex" in content
    assert [looks(tenant) for tenant in tenants] == [["platform.list_run"]] * 2


def test_one_look_is_told_to_one_tenant(staff: Client, tenants: list[Tenant]) -> None:
    content = text_of(get(staff, f"runs/run/{run_of(tenants[0]).id}/change/"))
    assert "m/acme" in content
    assert [looks(tenant) for tenant in tenants] == [["platform.view_run"], []]


def test_runs_are_read_only(staff: Client, tenants: list[Tenant]) -> None:
    run = run_of(tenants[0])
    assert staff.post(f"/platform/runs/run/{run.id}/change/", {"status": "failed"}).status_code == 403
    assert staff.post(f"/platform/runs/run/{run.id}/delete/", {"post": "yes"}).status_code == 403
    assert staff.get("/platform/tenants/tenant/add/").status_code == 403
    assert run_of(tenants[0]).status == "running"


def test_a_tenant_is_suspended_by_its_service(staff: Client, tenants: list[Tenant]) -> None:
    acme, globex = tenants
    path = f"/platform/tenants/tenant/{acme.id}/change/"
    assert staff.get(path).status_code == 200
    response = staff.post(path, {"name": "Acme", "status": "suspended"})
    assert response.status_code == 302, text_of(response)
    assert [Tenant.objects.using("ops").get(id=tenant.id).status for tenant in tenants] == ["suspended", "active"]
    with tenant_context(acme.id):
        event = AuditEvent.objects.get(action="tenant.update")
    assert (event.actor_label, event.after["status"]) == ("platform: root", "suspended")
    assert looks(globex) == []


def test_a_tenants_limit_is_set_and_taken_away(staff: Client, tenants: list[Tenant]) -> None:
    acme, globex = tenants
    path, form = f"/platform/tenants/tenant/{acme.id}/change/", {"name": "Acme", "status": "active"}
    assert "the platform's default, 200." in text_of(staff.get(path))
    for sent, stored in (("1", 1), ("100000", 100_000), ("", None)):
        response = staff.post(path, {**form, "max_concurrent_runs": sent})
        assert response.status_code == 302, text_of(response)
        found = [Tenant.objects.using("ops").get(id=tenant.id).max_concurrent_runs for tenant in tenants]
        assert found == [stored, None]
    with tenant_context(acme.id):
        events = AuditEvent.objects.filter(action="tenant.update").order_by("created_at", "id")
        limits = [(event.before["max_concurrent_runs"], event.after["max_concurrent_runs"]) for event in events]
    assert limits == [(None, 1), (1, 100_000), (100_000, None)]
    assert {event.actor_label for event in events} == {"platform: root"}
    assert looks(globex) == []


@pytest.mark.parametrize("limit", ["0", "-1", "100001", "1.5", "many"])
def test_a_wrong_limit_is_told_at_its_field(staff: Client, tenants: list[Tenant], limit: str) -> None:
    form = {"name": "Other", "status": "active", "max_concurrent_runs": limit}
    response = staff.post(f"/platform/tenants/tenant/{tenants[0].id}/change/", form)
    assert response.status_code == 200
    assert list(response.context["adminform"].form.errors) == ["max_concurrent_runs"]
    assert Tenant.objects.using("ops").get(id=tenants[0].id).name == "Acme"


@pytest.mark.parametrize("query", ["action=%00", "since=%00", "q=%00", "p=x", "p=99", "e=1"])
def test_strange_queries_are_answered(staff: Client, tenants: list[Tenant], query: str) -> None:
    assert get(staff, f"audit/auditevent/?{query}").status_code in (200, 302, 400)
