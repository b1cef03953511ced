"""Secrets and policies of toolsets, their validation, and calls that a person makes."""

from typing import Any

import pytest

from audit.models import AuditEvent
from core.tenant import tenant_context
from tests.conftest import Actor
from tests.toolsets.vault import DONE, WITH, vault
from toolsets.models import ToolCall, Toolset
from toolsets.secrets import secrets_of

__all__ = ["vault"]
pytestmark = pytest.mark.usefixtures("vault")
BODY = {"slug": "safe", "name": "Safe", "kind": "vault", "secrets": {"token": "hunter2hunter2"}}


@pytest.fixture
def safe(owner: Actor) -> dict[str, Any]:
    response = owner.post("toolsets", BODY)
    assert response.status_code == 201, response.content
    created: dict[str, Any] = response.json()
    return created


def stored(actor: Actor) -> dict[str, str]:
    with tenant_context(actor.tenant.id):
        return secrets_of(Toolset.objects.get(slug="safe"))


def faults_of(response: Any) -> list[tuple[str, str]]:
    return [(fault["path"], fault["code"]) for fault in response.json()["error"]["details"]]


def test_a_secret_goes_in_and_never_comes_out(owner: Actor, safe: dict[str, Any]) -> None:
    assert safe["secrets"] == ["token"]
    assert stored(owner) == {"token": "hunter2hunter2"}
    owner.patch("toolsets/safe", {"secrets": {"pin": "4711", "token": None}})
    assert owner.get("toolsets/safe").json()["secrets"] == ["pin"]
    assert stored(owner) == {"pin": "4711"}
    answers = [owner.get(path).content for path in ("toolsets/safe", "toolsets", "toolsets/safe/tools")]
    with tenant_context(owner.tenant.id):
        told = str(list(AuditEvent.objects.values())).encode()
        row = Toolset.objects.get(slug="safe")
    assert not any(b"hunter2" in answer or b"4711" in answer for answer in (*answers, told))
    assert row.secrets is not None
    assert b"4711" not in bytes(row.secrets)
    assert b"'secrets': ['pin']" in told


def test_a_secret_is_bound_to_its_row(owner: Actor, safe: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    owner.post("toolsets", {**BODY, "slug": "other", "secrets": {}})
    with tenant_context(owner.tenant.id):
        copied = Toolset.objects.get(slug="safe").secrets
        Toolset.objects.filter(slug="other").update(secrets=copied)
    owner.post("toolsets/other/tools/put/invoke", {"arguments": {"name": "a"}})
    assert WITH == ["none"]
    assert "The secrets of a toolset cannot be read" in caplog.text


def test_secrets_of_another_master_key_are_given_again(owner: Actor, safe: dict[str, Any], settings: Any) -> None:
    settings.MASTER_KEY = "another"
    refused = owner.patch("toolsets/safe", {"secrets": {"pin": "4711"}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "secrets_unreadable")
    assert owner.patch("toolsets/safe", {"name": "Renamed"}).status_code == 200
    assert owner.patch("toolsets/safe", {"secrets": {"token": "new"}}).status_code == 200
    assert stored(owner) == {"token": "new"}


def test_a_stored_secret_does_not_go_to_another_place(owner: Actor, safe: dict[str, Any]) -> None:
    moved = {"config": {"host": "elsewhere.example.com"}}
    refused = owner.patch("toolsets/safe", moved)
    assert (refused.status_code, faults_of(refused)) == (400, [("config.host", "secret_needed")])
    assert owner.patch("toolsets/safe", {**moved, "secrets": {"token": "new"}}).status_code == 200
    assert stored(owner) == {"token": "new"}
    owner.patch("toolsets/safe", {"secrets": {"token": None}})
    assert owner.patch("toolsets/safe", {"config": {}}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"secrets": {"nothing": "x"}}, "secrets.nothing", "unknown_secret"),
        ({"secrets": {"token": 7}}, "secrets.token", "invalid"),
        ({"secrets": {"token": ""}}, "secrets.token", "invalid"),
        ({"secrets": {"token": "x" * 8193}}, "secrets.token", "invalid"),
        ({"policy": {"colour": "red"}}, "policy.colour", "extra_forbidden"),
        ({"policy": {"only": ["put", "nothing"]}}, "policy.only.1", "unknown_tool"),
        ({"policy": {"prefix": "a b"}}, "policy.prefix", "string_pattern_mismatch"),
        ({"policy": {"approval": "sometimes"}}, "policy.approval", "literal_error"),
        ({"policy": {"calls_per_run": 0}}, "policy.calls_per_run", "greater_than_equal"),
        ({"policy": {"timeout": 601}}, "policy.timeout", "less_than_equal"),
        ({"policy": {"max_result_kb": 1001}}, "policy.max_result_kb", "less_than_equal"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    owner: Actor, safe: dict[str, Any], changes: dict[str, Any], path: str, code: str
) -> None:
    assert faults_of(owner.patch("toolsets/safe", changes)) == [(path, code)]
    report = owner.post("toolsets/safe/validate", changes).json()
    assert (report["valid"], [(fault["path"], fault["code"]) for fault in report["errors"]]) == (False, [(path, code)])
    assert faults_of(owner.post("toolsets", {**BODY, "slug": "b", **changes})) == [(path, code)]
    assert owner.get("toolsets/safe").json() == safe


def test_validate_tells_every_fault_and_the_tools_that_there_would_be(
    owner: Actor, viewer: Actor, stranger: Actor, safe: dict[str, Any]
) -> None:
    wrong = {"config": {"host": 1}, "policy": {"timeout": 0}, "secrets": {"x": "y"}, "slug": "Bad Slug"}
    report = owner.post("toolsets/safe/validate", wrong).json()
    assert sorted(fault["path"] for fault in report["errors"]) == ["config.host", "policy.timeout", "secrets.x", "slug"]
    unknown = {"policy": {"only": ["put", "fly", 5], "timeout": 0}, "slug": "Bad Slug"}
    report = owner.post("toolsets/safe/validate", unknown).json()
    assert sorted((fault["path"], fault["code"]) for fault in report["errors"]) == [
        ("policy.only.1", "unknown_tool"),
        ("policy.only.2", "string_type"),
        ("policy.timeout", "greater_than_equal"),
        ("slug", "invalid"),
    ]
    report = owner.post("toolsets/safe/validate", {"policy": {"only": ["put"], "prefix": "safe_"}}).json()
    assert report == {"valid": True, "errors": [], "warnings": [], "tools": ["safe_put"]}
    assert owner.get("toolsets/safe").json() == safe
    assert viewer.post("toolsets/safe/validate", {}).status_code == 403
    assert stranger.post("toolsets/safe/validate", {}).status_code == 404


def test_a_policy_filters_renames_and_bounds_the_tools(owner: Actor, safe: dict[str, Any]) -> None:
    policy = {"only": ["look", "put"], "prefix": "v_", "timeout": 2.5, "approval": "side_effects"}
    owner.patch("toolsets/safe", {"policy": policy})
    tools = owner.get("toolsets/safe/tools").json()["data"]
    told = [(tool["name"], tool["timeout"], tool["approval"]) for tool in tools]
    assert told == [("v_look", 2.5, False), ("v_put", 2.5, True)]
    for approval, asked in (("always", [True, True]), ("never", [False, False]), ("default", [False, False])):
        owner.patch("toolsets/safe", {"policy": {**policy, "approval": approval}})
        assert [tool["approval"] for tool in owner.get("toolsets/safe/tools").json()["data"]] == asked


def test_kinds_tell_their_secrets_and_the_policys_schema(owner: Actor) -> None:
    found = {kind["kind"]: kind for kind in owner.get("toolsets/kinds").json()["data"]}
    assert found["vault"]["secrets"] == {"token": "Token", "pin": "PIN"}
    assert found["time"]["secrets"] == {}
    assert "calls_per_minute" in found["time"]["policy_schema"]["properties"]


async def test_a_person_tries_a_tool(owner: Actor, viewer: Actor, stranger: Actor, safe: dict[str, Any]) -> None:
    path = "toolsets/safe/tools/ask/invoke"
    answer = (await owner.apost(path, {"arguments": {"name": "a"}})).json()
    assert (answer["content"], answer["is_error"]) == ("put a", False)
    assert (DONE, WITH) == (["a"], ["hunter2hunter2"])
    wrong = (await owner.apost(path, {"arguments": {"nam": "a"}})).json()
    assert wrong["is_error"]
    assert "name: Field required" in wrong["content"]
    assert (await viewer.apost(path, {"arguments": {"name": "a"}})).status_code == 403
    assert (await stranger.apost(path, {"arguments": {"name": "a"}})).status_code == 404
    missing = await owner.apost("toolsets/safe/tools/nothing/invoke", {})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "tool_not_found")
    assert DONE == ["a"]


def test_what_a_person_tried_is_kept(owner: Actor, safe: dict[str, Any]) -> None:
    for name in ("look", "put"):
        answer = owner.post(f"toolsets/safe/tools/{name}/invoke", {"arguments": {"name": "b"}}).json()
        with tenant_context(owner.tenant.id):
            row = ToolCall.objects.get(id=answer["id"])
        assert (row.tool, row.status, row.run_id) == (name, "succeeded", None)
        assert (row.arguments, row.result, row.size) == ('{"name":"b"}', answer["content"], len(answer["content"]))
        assert (row.toolset, row.actor_label, row.ms) == ("safe", owner.principal.label, answer["ms"])
    with tenant_context(owner.tenant.id):
        events = list(AuditEvent.objects.filter(action="toolset.invoke").values_list("after", flat=True))
    assert sorted(event["tool"] for event in events) == ["look", "put"]
