"""Approvals of tool calls in the pages: who sees them, who decides, and that each is decided once."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import AuditEvent
from core.tenant import tenant_context
from runs.models import Run, ToolApproval
from tenants.models import Tenant
from tests.admin.conftest import browser_of, make_member, page, post, text_of
from tests.admin.test_operate import make_run

HOSTILE = '{"path":"<script>alert(1)</script>"}'


def make_approval(acme: Tenant, run: Run, **values: Any) -> ToolApproval:
    given = {"key": "k", "reason": "policy", "agent": "helper", "toolset": "safe", "tool": "delete_file"}
    given |= {"risk": "write", "role": "member", "arguments": HOSTILE}
    given |= {"expires_at": timezone.now() + timedelta(hours=1), **values}
    return ToolApproval.objects.create(tenant=acme, run=run, **given)


@pytest.fixture
def run(acme: Tenant) -> Run:
    with tenant_context(acme.id):
        return make_run(acme, status="waiting", finished_at=None)


@pytest.fixture
def approval(acme: Tenant, run: Run) -> ToolApproval:
    with tenant_context(acme.id):
        return make_approval(acme, run)


def stored(acme: Tenant, approval: ToolApproval) -> ToolApproval:
    with tenant_context(acme.id):
        return ToolApproval.objects.get(id=approval.id)


def decide(client: Client, approval: ToolApproval, **values: Any) -> Any:
    given = {"arguments": HOSTILE, "comment": "", "decision": "approve", **values}
    return post(client, f"runs/toolapproval/{approval.id}/change/", given)


def test_what_waits_is_seen(olga: Client, run: Run, approval: ToolApproval) -> None:
    listed = text_of(page(olga, "runs/toolapproval/"))
    assert "delete_file" in listed
    assert f"{approval.id}/change/" in text_of(page(olga, f"runs/run/{run.id}/change/"))
    shown = text_of(page(olga, f"runs/toolapproval/{approval.id}/change/"))
    assert "<script>alert(1)" not in shown
    assert "&lt;script&gt;" in shown


def test_an_operator_approves_once(olga: Client, acme: Tenant, run: Run, approval: ToolApproval) -> None:
    answer = decide(olga, approval, arguments='{"path": "/b"}', comment="fine")
    assert answer.status_code == 302, text_of(answer)
    found = stored(acme, approval)
    assert (found.status, found.edited, found.comment) == ("approved", '{"path":"/b"}', "fine")
    again = decide(olga, approval, decision="deny")
    assert again.status_code == 302
    assert stored(acme, approval).status == "approved"
    with tenant_context(acme.id):
        run.refresh_from_db()
        assert run.status == "running"
        assert AuditEvent.objects.filter(action="tool_approval.approve").count() == 1
    assert 'name="decision"' not in text_of(page(olga, f"runs/toolapproval/{approval.id}/change/"))


def test_an_operator_denies(olga: Client, acme: Tenant, approval: ToolApproval) -> None:
    assert decide(olga, approval, decision="deny", arguments="{}").status_code == 302
    assert (stored(acme, approval).status, stored(acme, approval).edited) == ("denied", "")


@pytest.mark.parametrize(
    "values", [{"arguments": "[]"}, {"arguments": "{"}, {"arguments": ""}, {"decision": ""}, {"decision": "maybe"}]
)
def test_odd_forms_decide_nothing(olga: Client, acme: Tenant, approval: ToolApproval, values: dict[str, str]) -> None:
    assert decide(olga, approval, **values).status_code == 200
    assert stored(acme, approval).status == "pending"


def test_who_may_not_decide(acme: Tenant, stan: Client, vera: Client, run: Run) -> None:
    with tenant_context(acme.id):
        approval = make_approval(acme, run, role="admin")
    operator = browser_of(make_member(acme, "otto", "operator"))
    assert "You may look and not decide" in text_of(page(operator, f"runs/toolapproval/{approval.id}/change/"))
    for client in (operator, vera):
        decide(client, approval)
    assert decide(stan, approval).status_code in (302, 403, 404)
    assert page(stan, f"runs/toolapproval/{approval.id}/change/", "globex").status_code == 302
    assert stored(acme, approval).status == "pending"


def test_a_call_of_unknown_end_is_not_edited(olga: Client, acme: Tenant, run: Run) -> None:
    with tenant_context(acme.id):
        approval = make_approval(acme, run, reason="unknown")
    decide(olga, approval, arguments='{"path": "/else"}')
    assert (stored(acme, approval).status, stored(acme, approval).edited) == ("approved", "")


def test_arguments_that_nest_too_deeply_are_refused(olga: Client, acme: Tenant, approval: ToolApproval) -> None:
    answer = decide(olga, approval, arguments='{"path": ' + "[" * 300 + "]" * 300 + "}")
    assert (answer.status_code, "The arguments are a JSON object" in text_of(answer)) == (200, True)
    assert stored(acme, approval).status == "pending"
