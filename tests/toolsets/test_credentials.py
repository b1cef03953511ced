"""Credentials of single persons: who stores them, who may not, and whose calls they go with."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from agents.models import Agent
from agents.services import agent_create, agent_update
from audit.models import AuditEvent
from core.aio import in_db_thread
from core.ids import uuid7
from core.tenant import tenant_context
from runs.models import Run
from tenants.models import Membership, Tenant
from tenants.principal import Principal
from tenants.services import member_add, member_remove
from tests.conftest import Actor, make_actor
from tests.runs.test_chat_completions import chat, script
from tests.toolsets.mcp.server import Server, reachable, serving
from toolsets.base import ToolCallContext
from toolsets.credentials import credential_put
from toolsets.invoke import tool_invoke
from toolsets.learning import toolset_refresh
from toolsets.models import ToolCall, Toolset, ToolsetCredential
from toolsets.selectors import granted_toolsets, toolset_usable
from toolsets.services import toolset_create, toolset_update

__all__ = ["reachable"]
pytestmark = pytest.mark.usefixtures("reachable")
CONFIG = {"url": "https://mcp.example.com/mcp", "auth": "bearer", "credentials": "personal"}
CALL = {"tool": "echo", "args": {"text": "hi"}}


@pytest.fixture
def theirs(owner: Actor, in_acme: Tenant) -> Toolset:
    """A toolset that acts for persons."""
    return toolset_create(actor=owner.principal, slug="theirs", name="Theirs", kind="mcp", config=CONFIG)


def rows(actor: Actor) -> list[tuple[str, list[str]]]:
    with tenant_context(actor.tenant.id):
        return list(ToolsetCredential.objects.order_by("person").values_list("person", "secret_names"))


def audited(actor: Actor) -> list[tuple[str, Any, Any]]:
    with tenant_context(actor.tenant.id):
        found = AuditEvent.objects.filter(action__startswith="toolset.credential").order_by("created_at", "id")
        return [(event.action, event.before, event.after) for event in found]


def put(actor: Actor, user_id: str = "ann", token: str = "of-ann", **body: Any) -> Any:
    return actor.put("toolsets/theirs/credentials", {"secrets": {"token": token}, "user_id": user_id, **body})


def granted(actor: Actor, person: str) -> dict[str, str]:
    with tenant_context(actor.tenant.id):
        (toolset,) = granted_toolsets(actor=actor.principal, slugs=["theirs"], person=person)
    return dict(toolset.secrets)


def member(owner: Actor, username: str, role: str = "member") -> tuple[Membership, Principal]:
    with tenant_context(owner.tenant.id):
        actor = replace(owner.principal, kind="system", role="owner")
        found = member_add(actor=actor, username=username, role=role, email="", password="long-enough-9x")
    return found, Principal(owner.tenant.id, "acme", "user", found.user_id, username, role)


def test_a_key_stores_them_for_its_end_user(owner: Actor, viewer: Actor, stranger: Actor, theirs: Toolset) -> None:
    response = put(owner)
    assert response.status_code == 200, response.content
    assert response.json().items() >= {"names": ["token"]}.items()
    assert "of-ann" not in response.content.decode()
    assert owner.get("toolsets/theirs/credentials", user_id="ann").json() == response.json()
    assert rows(owner) == [("end_user:ann", ["token"])]
    assert granted(owner, "end_user:ann") == {"token": "of-ann"}
    told = {"person": "end_user:ann", "secrets": ["token"]}
    assert audited(owner) == [("toolset.credential.store", {**told, "secrets": []}, told)]
    assert put(viewer).status_code == 403
    for asked in (put(stranger), stranger.get("toolsets/theirs/credentials", user_id="ann")):
        assert (asked.status_code, asked.json()["error"]["code"]) == (404, "toolset_not_found")
    assert stranger.delete("toolsets/theirs/credentials?user_id=ann").status_code == 404
    with tenant_context(owner.tenant.id):
        assert b"of-ann" not in bytes(ToolsetCredential.objects.get().secrets or b"")


def test_a_key_with_the_scope_chat_is_enough(owner: Actor, acme: Tenant, theirs: Toolset) -> None:
    assert put(make_actor(acme, "member", scopes=["chat"])).status_code == 200
    assert put(make_actor(acme, "member", scopes=["read"])).status_code == 403


def test_they_are_replaced_and_deleted(owner: Actor, theirs: Toolset) -> None:
    put(owner)
    put(owner, token="new")
    put(owner, "bob", "of-bob")
    assert granted(owner, "end_user:ann") == {"token": "new"}
    assert owner.delete("toolsets/theirs/credentials?user_id=ann").status_code == 204
    assert rows(owner) == [("end_user:bob", ["token"])]
    assert granted(owner, "end_user:ann") == {}
    assert audited(owner)[-1][0] == "toolset.credential.delete"
    gone = owner.delete("toolsets/theirs/credentials?user_id=ann")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "credentials_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"user_id": None}, "user_id"),
        ({"secrets": {}}, "secrets"),
        ({"secrets": {"token": None}}, "secrets"),
        ({"secrets": {"token": ""}}, "secrets.token"),
        ({"secrets": {"other": "x"}}, "secrets.other"),
        ({"secrets": {"token": "x" * 9000}}, "secrets.token"),
        ({"secrets": "x"}, "secrets"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    owner: Actor, theirs: Toolset, body: dict[str, Any], param: str
) -> None:
    response = put(owner, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.content
    assert (rows(owner), audited(owner)) == ([], [])


def test_a_toolset_that_acts_for_itself_takes_none(owner: Actor, scripted: str, theirs: Toolset) -> None:
    response = owner.put("toolsets/time/credentials", {"secrets": {"token": "x"}, "user_id": "ann"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "credentials_not_personal")
    assert owner.get("toolsets/nope/credentials", user_id="ann").status_code == 404


def test_members_store_their_own_and_they_go_with_the_membership(owner: Actor, theirs: Toolset, client: Client) -> None:
    mary, _ = member(owner, "mary")
    client.force_login(mary.user)
    url, sent = "/v1/toolsets/theirs/credentials", {"content_type": "application/json", "HTTP_X_TENANT": "acme"}
    assert client.put(url, {"secrets": {"token": "of-mary"}}, **sent).status_code == 200
    assert rows(owner) == [(f"user:{mary.user_id}", ["token"])]
    named = client.put(url, {"secrets": {"token": "x"}, "user_id": "ann"}, **sent)
    assert (named.status_code, named.json()["error"]["param"]) == (400, "user_id")
    assert client.get(url, HTTP_X_TENANT="acme").json()["names"] == ["token"]
    with tenant_context(owner.tenant.id):
        member_remove(actor=replace(owner.principal, kind="system"), ref=str(mary.id))
    assert rows(owner) == []
    assert get_user_model().objects.filter(pk=mary.user_id).exists()


def test_they_go_with_the_toolset(owner: Actor, theirs: Toolset) -> None:
    put(owner)
    assert owner.delete("toolsets/theirs").status_code == 204
    assert rows(owner) == []


def test_they_are_of_no_use_at_another_place(owner: Actor, theirs: Toolset) -> None:
    put(owner)
    moved = {**CONFIG, "url": "https://elsewhere.example.com/mcp"}
    with tenant_context(owner.tenant.id):
        toolset_update(actor=owner.principal, ref="theirs", changes={"config": {**CONFIG, "timeout": 5}})
        assert granted(owner, "end_user:ann") == {"token": "of-ann"}
        toolset_update(actor=owner.principal, ref="theirs", changes={"config": moved})
    assert granted(owner, "end_user:ann") == {}
    put(owner, token="for-elsewhere")
    assert granted(owner, "end_user:ann") == {"token": "for-elsewhere"}


def test_a_row_of_somebody_else_cannot_be_used(owner: Actor, theirs: Toolset) -> None:
    """Even who could write the table could not make one person's secret another's."""
    put(owner)
    with tenant_context(owner.tenant.id):
        ToolsetCredential.objects.update(person="end_user:bob")
    assert granted(owner, "end_user:bob") == {}


def test_grants_cost_one_query_more_for_a_person(owner: Actor, theirs: Toolset, django_assert_num_queries: Any) -> None:
    put(owner)
    for person, queries in (("end_user:ann", 2), ("", 1)):
        with django_assert_num_queries(queries):
            granted_toolsets(actor=owner.principal, slugs=["theirs"], person=person)


def test_who_has_none_or_is_nobody_gets_none(owner: Actor, theirs: Toolset) -> None:
    with tenant_context(owner.tenant.id):
        toolset_update(actor=owner.principal, ref="theirs", changes={"secrets": {"token": "of-the-toolset"}})
    put(owner)
    for person in ("end_user:bob", "user:ann", "end_user:", "end_user:Ann", ""):
        assert granted(owner, person) == {}


async def refreshed(owner: Actor, server: Server, **config: Any) -> None:
    with tenant_context(owner.tenant.id):
        changes = {"config": {**CONFIG, "url": server.url, **config}, "secrets": {"token": "of-the-toolset"}}
        await in_db_thread(toolset_update, actor=owner.principal, ref="theirs", changes=changes)
        found = await toolset_refresh(actor=owner.principal, ref="theirs")
    assert (found.learn_error, found.tools) == ("", ["echo"])


async def aput(actor: Actor, user_id: str, token: str) -> None:
    assert (await in_db_thread(put, actor, user_id, token)).status_code == 200


def tokens(server: Server) -> list[str]:
    """Those that the tool was called with."""
    return [asked.headers["authorization"] for asked in server.asked if asked.method == "tools/call"]


@pytest.fixture
def helper(owner: Actor, scripted: str, theirs: Toolset) -> str:
    with tenant_context(owner.tenant.id):
        agent_update(actor=owner.principal, ref=scripted, changes={"toolsets": ["theirs"]})
    return scripted


async def asked_by(owner: Actor, user_id: str | None, session: str, *steps: Any) -> Any:
    metadata = {"session_id": session, **({"user_id": user_id} if user_id else {})}
    response = await chat(owner, script(*(steps or (CALL, {"say": "ok"}))), metadata=metadata)
    assert response.status_code == 200, response.content
    return json.loads(response.content)


async def contents() -> list[str]:
    return await in_db_thread(lambda: list(ToolCall.objects.order_by("created_at").values_list("result", flat=True)))


async def test_each_run_uses_its_own_persons(owner: Actor, helper: str, in_acme: Tenant) -> None:
    async with serving() as server:
        await refreshed(owner, server)
        for name in ("ann", "bob"):
            await aput(owner, name, f"of-{name}")
        for name in ("ann", "bob", "ann"):
            await asked_by(owner, name, f"s-{name}")
        await asked_by(owner, "cy", "s-cy")
        await asked_by(owner, None, "s-nobody")
        ids = [asked.headers["mcp-session-id"] for asked in server.asked if asked.method == "tools/call"]
    assert tokens(server) == ["Bearer of-ann", "Bearer of-bob", "Bearer of-ann"]
    assert ids[0] == ids[2] != ids[1]
    *_, of_cy, of_nobody = await contents()
    assert "PUT /v1/toolsets/theirs/credentials" in of_cy
    assert "this run is for nobody" in of_nobody


async def test_two_persons_in_one_session_share_nothing(owner: Actor, helper: str, in_acme: Tenant) -> None:
    """Not even a session of the server, and not even where they have the same secret."""
    async with serving() as server:
        await refreshed(owner, server)
        for name in ("ann", "bob"):
            await aput(owner, name, "the-same")
        toolset = await in_db_thread(lambda: Toolset.objects.get(slug="theirs"))
        (tool,) = toolset_usable(toolset).tools
        session = uuid7()
        for person in ("end_user:ann", "end_user:bob", "end_user:ann"):
            context = ToolCallContext(
                owner.tenant.id, run_id=uuid7(), session_id=session, person=person, secrets={"token": "the-same"}
            )
            await tool.call(tool.arguments.model_validate({"text": "x"}), context)
        ids = [asked.headers["mcp-session-id"] for asked in server.asked if asked.method == "tools/call"]
    assert ids[0] == ids[2] != ids[1]


async def test_a_new_secret_is_a_new_session(owner: Actor, helper: str, in_acme: Tenant) -> None:
    async with serving() as server:
        await refreshed(owner, server)
        for token in ("old", "new"):
            await aput(owner, "ann", token)
            await asked_by(owner, "ann", "s")
        ids = [asked.headers["mcp-session-id"] for asked in server.asked if asked.method == "tools/call"]
    assert tokens(server) == ["Bearer old", "Bearer new"]
    assert ids[0] != ids[1]


async def test_an_agent_that_another_asks_acts_for_the_same_person(owner: Actor, helper: str, in_acme: Tenant) -> None:
    def team() -> None:
        toolset_create(actor=owner.principal, slug="team", name="Team", kind="agents", config={"agents": [helper]})
        agent = Agent.objects.select_related("version").get(slug=helper)
        assert agent.version
        agent_create(
            actor=owner.principal,
            slug="boss",
            name="Boss",
            template=agent.version.template,
            model=agent.version.model,
            toolsets=["team"],
            status="active",
        )

    await in_db_thread(team)
    async with serving() as server:
        await refreshed(owner, server)
        for name in ("ann", "bob"):
            await aput(owner, name, f"of-{name}")
            asks = {"tool": f"ask_{helper}", "args": {"message": script(CALL, {"say": "ok"})[0]["content"]}}
            response = await chat(
                owner, script(asks, {"say": "done"}), model="boss", metadata={"session_id": name, "user_id": name}
            )
            assert response.status_code == 200, response.content
    assert tokens(server) == ["Bearer of-ann", "Bearer of-bob"]


async def test_who_tries_a_tool_uses_their_own(owner: Actor, theirs: Toolset, in_acme: Tenant) -> None:
    _, mary = await in_db_thread(member, owner, "mary", "operator")
    async with serving() as server:
        await refreshed(owner, server)
        asks = {"ref": "theirs", "name": "echo", "arguments": {"text": "hi"}}
        before = await tool_invoke(actor=mary, **asks)
        await in_db_thread(credential_put, actor=mary, ref="theirs", secrets={"token": "of-mary"})
        after = await tool_invoke(actor=mary, **asks)
        key = await tool_invoke(actor=owner.principal, **asks)
    assert (before["is_error"], after["is_error"], key["is_error"]) == (True, False, True)
    assert tokens(server) == ["Bearer of-mary"]


def test_a_member_cannot_speak_for_an_end_user() -> None:
    run = Run(actor_kind="user", actor_id=UUID(int=5), end_user="ann")
    assert run.person == f"user:{UUID(int=5)}"
    assert Run(actor_kind="api_key", actor_id=UUID(int=5), end_user="ann").person == "end_user:ann"
    assert Run(actor_kind="api_key", actor_id=UUID(int=5), end_user="").person == ""
