"""Secrets, policies and calls of toolsets in the pages."""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.services import agent_create
from core.ids import uuid7
from core.tenant import tenant_context
from llm.services.providers import provider_create
from runs.models import Run
from tenants.models import Tenant
from tenants.principal import system_principal
from tests.admin.conftest import page, post, text_of
from tests.toolsets.far import Server, far
from tests.toolsets.vault import vault
from toolsets.exceptions import ToolError
from toolsets.models import ToolCall, Toolset
from toolsets.secrets import secrets_of

__all__ = ["far", "vault"]
pytestmark = pytest.mark.usefixtures("vault")
FORM = {
    "name": "Safe",
    "slug": "safe",
    "kind": "vault",
    "enabled": "on",
    "config-of": "vault",
    "config-host": "vault.example.com",
    "policy_approval": "default",
}
SECRET = "hunter2hunter2"


def toolset(acme: Tenant) -> Toolset:
    with tenant_context(acme.id):
        return Toolset.objects.get(slug="safe")


@pytest.fixture
def safe(olga: Client, acme: Tenant) -> Toolset:
    added = post(olga, "toolsets/toolset/add/", {**FORM, "secret_token": SECRET})
    assert added.status_code == 302, text_of(added)
    return toolset(acme)


def change(olga: Client, safe: Toolset, **values: Any) -> Any:
    return post(olga, f"toolsets/toolset/{safe.id}/change/", {**FORM, **values})


def test_a_secret_is_in_no_page(olga: Client, acme: Tenant, safe: Toolset) -> None:
    path = f"toolsets/toolset/{safe.id}/change/"
    failed = change(olga, safe, secret_token=SECRET, policy_timeout="0")
    for content in (text_of(page(olga, path)), text_of(failed), text_of(page(olga, "toolsets/toolset/"))):
        assert SECRET not in content
    assert failed.status_code == 200
    assert "stored; type to replace" in text_of(page(olga, path))
    assert change(olga, safe).status_code == 302
    assert secrets_of(toolset(acme)) == {"token": SECRET}  # an empty field keeps it
    assert change(olga, safe, secret_pin="4711", remove_token="on").status_code == 302
    assert secrets_of(toolset(acme)) == {"pin": "4711"}


def test_a_secret_is_replaced_or_removed(olga: Client, acme: Tenant, safe: Toolset) -> None:
    both = change(olga, safe, secret_token="new", remove_token="on")
    assert "Either replace it or remove it." in text_of(both)
    moved = change(olga, safe, **{"config-host": "elsewhere.example.com"})
    assert "give token again" in text_of(moved)
    assert secrets_of(toolset(acme)) == {"token": SECRET}


def test_a_policy_by_its_fields(olga: Client, acme: Tenant, safe: Toolset) -> None:
    fields = {"only": "put, look", "prefix": "v_", "approval": "always", "calls_per_run": "5", "timeout": "2.5"}
    assert change(olga, safe, **{f"policy_{name}": value for name, value in fields.items()}).status_code == 302
    expected = {"only": ["put", "look"], "prefix": "v_", "approval": "always", "calls_per_run": 5, "timeout": 2.5}
    assert toolset(acme).policy == expected
    content = text_of(page(olga, f"toolsets/toolset/{safe.id}/change/"))
    assert ">put\nlook</textarea>" in content.replace("\r", "").replace(">\nput", ">put")
    assert re.search(r"v_look</th>\s*<td[^>]*>read</td>", content)
    assert change(olga, safe, policy_approval="default").status_code == 302
    assert toolset(acme).policy == {}
    wrong = change(olga, safe, policy_prefix="a b", policy_calls_per_run="0")
    assert wrong.status_code == 200
    assert toolset(acme).policy == {}


def test_the_fields_of_a_kind_are_its_own(olga: Client) -> None:
    assert 'name="secret_token"' in text_of(page(olga, "toolsets/toolset/add/", kind="vault"))
    assert 'name="secret_token"' not in text_of(page(olga, "toolsets/toolset/add/", kind="time"))


def test_calls_are_listed_and_shown_as_text(olga: Client, stan: Client, acme: Tenant) -> None:
    with tenant_context(acme.id):
        run = Run.objects.create(tenant=acme, model="m", source="api", actor_kind="x", actor_label="x")
        call = ToolCall.objects.create(
            tenant=acme,
            created_at=timezone.now(),
            key=str(uuid7()),
            toolset="safe",
            tool="put",
            risk="write",
            status="started",
            arguments="<script>alert(1)</script>",
            run_id=run.id,
        )
    listed = text_of(page(olga, "toolsets/toolcall/"))
    assert "put" in listed
    assert "&lt;script&gt;alert(1)" in listed
    assert f"runs/run/{call.run_id}/change/" in listed
    content = text_of(page(olga, f"toolsets/toolcall/{call.id}/change/"))
    assert "&lt;script&gt;alert(1)" in content
    assert "<script>alert(1)" not in content
    assert "it may have been done or not" in content
    assert "0 bytes in all." in content
    with tenant_context(acme.id):
        ToolCall.objects.filter(id=call.id).update(result="abc", size=1)
    assert "1 byte in all." in text_of(page(olga, f"toolsets/toolcall/{call.id}/change/"))
    with tenant_context(acme.id):
        ToolCall.objects.filter(id=call.id).update(result="abc", size=5000)
    assert "stored are the first 3 characters" in text_of(page(olga, f"toolsets/toolcall/{call.id}/change/"))
    assert page(stan, f"toolsets/toolcall/{call.id}/change/").status_code in (302, 403, 404)


def test_the_tools_are_refreshed_by_post_only(
    olga: Client, vera: Client, stan: Client, acme: Tenant, far: Server
) -> None:
    form = {"name": "Safe", "slug": "safe", "kind": "far", "enabled": "on", "config-of": "far", "config-host": "a.com"}
    added = post(olga, "toolsets/toolset/add/", {**form, "policy_approval": "default"})
    assert added.status_code == 302, text_of(added)
    made = toolset(acme)
    path, change = f"toolsets/toolset/{made.id}/refresh_tools/", f"toolsets/toolset/{made.id}/change/"
    assert text_of(page(olga, change)).count("Its server has not told its tools yet.") == 1
    assert "See what a migration changes" not in text_of(page(olga, change))
    assert "Refresh the tools" in text_of(page(olga, path))
    assert post(vera, path, {"_form_submitted": "on"}).status_code == 403
    assert post(stan, path, {"_form_submitted": "on"}).status_code in (302, 403, 404)
    assert far.asked == []
    done = post(olga, path, {"_form_submitted": "on"})
    assert "The server told 1 tool: double." in text_of(olga.get(done["HX-Redirect"]))
    assert "Its tools were told by its server on" in text_of(page(olga, change))

    async def learn(context: Any) -> Any:
        raise ToolError("The server is away.")

    far.learn = learn
    refused = text_of(olga.get(post(olga, path, {"_form_submitted": "on"})["HX-Redirect"]))
    assert "The last time it could not be asked: The server is away." in refused
    assert "failing" in text_of(page(olga, "toolsets/toolset/"))
    assert toolset(acme).learned == {"tools": ["double"]}


def test_who_asks_no_server_has_nothing_to_refresh(olga: Client, safe: Toolset) -> None:
    assert "Refresh tools" not in text_of(page(olga, f"toolsets/toolset/{safe.id}/change/"))
    assert post(olga, f"toolsets/toolset/{safe.id}/refresh_tools/", {"_form_submitted": "on"}).status_code == 403


def test_a_granted_toolset_is_not_deleted(olga: Client, acme: Tenant, safe: Toolset) -> None:
    with tenant_context(acme.id):
        actor = system_principal(acme.id, acme.slug)
        provider_create(actor=actor, slug="scripted", kind="scripted")
        agent_create(
            actor=actor,
            slug="guard",
            name="Guard",
            template="conversation",
            model="scripted/default",
            toolsets=["safe"],
        )
    refused = post(olga, f"toolsets/toolset/{safe.id}/delete/", {"post": "yes"})
    assert "is in use by the agent guard: change these first." in text_of(olga.get(refused["Location"]))
    assert toolset(acme).slug == "safe"


def test_all_faults_of_a_form_are_shown_at_once(olga: Client, acme: Tenant) -> None:
    form = {"slug": "kinds", "config-host": "", "policy_only": "fly", "policy_timeout": "0", "policy_prefix": "a b"}
    content = text_of(post(olga, "toolsets/toolset/add/", {**FORM, **form}))
    for fault in ("a meaning of its own", "String should match", "greater than or equal to 0.1"):
        assert fault in content
    form["config-host"] = "a.example.com"
    content = text_of(post(olga, "toolsets/toolset/add/", {**FORM, **form}))
    assert "The toolset has no such tool" in content
    assert "greater than or equal to 0.1" in content


def test_a_toolset_for_code_is_added_as_its_form_stands(olga: Client, acme: Tenant) -> None:
    content = text_of(page(olga, "toolsets/toolset/add/", kind="code"))
    assert len(re.findall(r'name="config-languages"[^>]* checked', content)) == 3


def test_what_a_schema_says_is_shown_as_text(olga: Client, acme: Tenant) -> None:
    content = text_of(page(olga, "toolsets/toolset/add/", kind="agents"))
    assert "each becomes a tool ask_&lt;slug&gt;." in content


def test_a_wrong_slug_is_told_by_the_rule_for_slugs(olga: Client, acme: Tenant) -> None:
    content = text_of(post(olga, "toolsets/toolset/add/", {**FORM, "slug": "no_slug"}))
    assert "beginning with a letter or digit" in content
    assert "underscore" not in content
