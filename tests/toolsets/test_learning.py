"""Tools that a server was asked for."""

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from audit.models import AuditEvent
from core.tenant import tenant_context
from tests.conftest import Actor
from tests.toolsets.far import Server, far
from toolsets import tasks
from toolsets.base import MAX_LEARNED, ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.models import Toolset
from toolsets.registry import toolset_kinds
from toolsets.selectors import granted_toolsets

__all__ = ["far"]
BODY = {"slug": "far", "name": "Far", "kind": "far", "secrets": {"token": "secret-of-far"}}


def row(actor: Actor) -> Toolset:
    with tenant_context(actor.tenant.id):
        return Toolset.objects.get(tenant_id=actor.tenant.id, slug="far")


def queued(actor: Actor) -> list[str]:
    """The toolsets whose learning waits for the worker."""
    jobs = ProcrastinateJob.objects.filter(task_name="toolsets.learn", args__tenant_id=str(actor.tenant.id))
    return [job.args["arguments"]["toolset_id"] for job in jobs]


def told(actor: Actor) -> list[Any]:
    """What the audit knows of the asking."""
    with tenant_context(actor.tenant.id):
        events = AuditEvent.objects.filter(action="toolset.refresh").order_by("created_at", "id")
        return [(event.actor_kind, event.after) for event in events]


def tools(actor: Actor) -> list[str]:
    return [tool["name"] for tool in actor.get("toolsets/far/tools").json()["data"]]


def revision(actor: Actor) -> str:
    with tenant_context(actor.tenant.id):
        (granted,) = granted_toolsets(actor=actor.principal, slugs=["far"])
        return granted.revision


def refresh(actor: Actor) -> Any:
    return actor.post("toolsets/far/refresh")


def worked(toolset: Toolset) -> None:
    """What the worker does with the toolset's job."""
    with tenant_context(toolset.tenant_id):
        async_to_sync(tasks.learn)(str(toolset.id))


@pytest.fixture
def made(far: Server, owner: Actor) -> Toolset:
    response = owner.post("toolsets", BODY)
    assert response.status_code == 201, response.content
    assert response.json().items() >= {"learned_at": None, "learn_error": ""}.items()
    return row(owner)


def fails(server: Server, message: str) -> None:
    async def learn(context: ToolCallContext) -> Any:
        raise ToolError(message)

    server.learn = learn


def test_the_worker_asks_after_the_toolset_was_made(owner: Actor, far: Server, made: Toolset) -> None:
    assert (queued(owner), tools(owner), far.asked) == ([str(made.id)], [], [])
    before = revision(owner)
    worked(made)
    (context,) = far.asked
    assert (context.tenant_id, context.toolset, context.secrets) == (owner.tenant.id, "far", BODY["secrets"])
    assert tools(owner) == ["double"]
    assert revision(owner) != before
    shown = owner.get("toolsets/far").json()
    assert shown["learned_at"] is not None
    assert "learned" not in shown
    assert told(owner) == [("system", {"tools": 1, "added": ["double"], "removed": []})]


def test_the_same_answer_makes_no_agent_anew(owner: Actor, far: Server, made: Toolset) -> None:
    worked(made)
    before, first = revision(owner), row(owner)
    worked(made)
    again = row(owner)
    assert revision(owner) == before
    assert (again.updated_at, again.learned_at > first.learned_at) == (first.updated_at, True)
    assert len(told(owner)) == 1  # nothing to tell


def test_who_may_refresh(owner: Actor, viewer: Actor, stranger: Actor, far: Server, made: Toolset) -> None:
    assert refresh(viewer).status_code == 403
    assert refresh(stranger).status_code == 404
    assert far.asked == []
    far.tools = ["double", "half"]
    answer = refresh(owner)
    assert answer.status_code == 200, answer.content
    assert answer.json().items() >= {"learn_error": "", "tools": ["double", "half"]}.items()
    assert answer.json()["learned_at"] == owner.get("toolsets/far").json()["learned_at"]
    refresh(owner)
    facts = {"tools": 2, "added": ["double", "half"], "removed": []}
    assert told(owner) == [("api_key", facts), ("api_key", {**facts, "added": []})]


def test_a_failure_keeps_what_is_known(owner: Actor, far: Server, made: Toolset) -> None:
    refresh(owner)
    before = revision(owner)
    fails(far, "The server is away.\0")
    answer = refresh(owner)
    assert answer.status_code == 200
    assert answer.json()["learn_error"] == "The server is away.\N{REPLACEMENT CHARACTER}"
    assert (answer.json()["tools"], tools(owner)) == (["double"], ["double"])
    assert revision(owner) == before
    assert owner.get("toolsets/far").json()["learn_error"].startswith("The server is away.")
    far.learn = None
    assert refresh(owner).json()["learn_error"] == ""


def test_who_fails_is_asked_less_and_less_often(owner: Actor, far: Server, made: Toolset, settings: Any) -> None:
    settings.TOOLS_LEARN_HOURS = 0.1
    fails(far, "No.")
    waits = []
    for _ in range(5):
        refresh(owner)
        waits.append(round((row(owner).learn_due - timezone.now()) / timedelta(minutes=1)))
    assert waits == [1, 2, 4, 6, 6]
    far.learn = None
    refresh(owner)
    assert row(owner).learn_failures == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"tools": ["x" * MAX_LEARNED]}, "3,000,"),
        ({"names": []}, "Asking for the tools failed on this server."),
        (ToolError(""), "The server gave no tools."),
        (TimeoutError(), "The server did not tell its tools within 60 s."),
        (ValueError("password=hunter2"), "Asking for the tools failed on this server."),
    ],
)
def test_answers_that_are_not_kept(owner: Actor, far: Server, made: Toolset, answer: Any, error: str) -> None:
    async def learn(context: ToolCallContext) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    refresh(owner)
    far.learn = learn
    assert error in refresh(owner).json()["learn_error"]
    assert tools(owner) == ["double"]


def test_what_cannot_be_stored_as_it_is(owner: Actor, far: Server, made: Toolset) -> None:
    async def learn(context: ToolCallContext) -> Any:
        return {"tools": ("a",), "large": 2**70, "text": "a\0b\ud800"}

    far.learn = learn
    assert refresh(owner).json()["tools"] == ["a"]
    assert row(owner).learned["large"] == str(2**70)


def test_what_was_stored_by_another_version_is_replaced(owner: Actor, far: Server, made: Toolset) -> None:
    with tenant_context(owner.tenant.id):
        Toolset.objects.filter(id=made.id).update(learned={"old": 1})
    assert refresh(owner).json()["tools"] == ["double"]


def test_another_config_or_secret_is_asked_again(owner: Actor, far: Server, made: Toolset) -> None:
    refresh(owner)
    ProcrastinateJob.objects.all().delete()
    assert owner.patch("toolsets/far", {"name": "Other"}).status_code == 200
    assert queued(owner) == []
    for change in ({"config": {"note": "x"}}, {"secrets": {"token": "other-secret"}}):
        assert owner.patch("toolsets/far", change).status_code == 200
        assert queued(owner) == [str(made.id)]
        assert tools(owner) == ["double"]  # until the answer comes
        ProcrastinateJob.objects.all().delete()
    moved = {"config": {"host": "b.example.com"}, "secrets": {"token": "other-secret"}}
    assert owner.patch("toolsets/far", moved).json()["learned_at"] is None
    assert (queued(owner), tools(owner)) == ([str(made.id)], [])


def test_who_needs_no_learning_is_not_asked(owner: Actor, far: Server, made: Toolset) -> None:
    refresh(owner)
    change = {"config": {"here": True}, "secrets": {"token": None}}
    assert owner.patch("toolsets/far", change).json()["learned_at"] is None
    assert (tools(owner), row(owner).learned, row(owner).learn_due) == (["near"], None, None)
    error = refresh(owner).json()["error"]
    assert error["code"] == "nothing_to_learn"
    owner.post("toolsets", {"slug": "clock", "name": "Clock", "kind": "time"})
    assert owner.post("toolsets/clock/refresh").status_code == 409


def test_an_answer_to_an_older_config_is_not_kept(owner: Actor, far: Server, made: Toolset) -> None:
    async def learn(context: ToolCallContext) -> Any:
        changed = await sync_to_async(owner.patch)("toolsets/far", {"secrets": {"token": "newer-secret"}})
        assert changed.status_code == 200
        return {"tools": ["old"]}

    far.learn = learn
    answer = refresh(owner)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "toolset_changed")
    assert (row(owner).learned, row(owner).learned_at) == (None, None)
    due = row(owner).learn_due
    worked(made)
    assert row(owner).learn_due >= due  # changed once more, and to be asked at once
    assert row(owner).learn_due <= timezone.now()


@pytest.mark.parametrize("late", ["good", "bad"])
def test_of_two_answers_the_one_asked_for_last_is_kept(owner: Actor, far: Server, made: Toolset, late: str) -> None:
    async def learn(context: ToolCallContext) -> Any:
        if len(far.asked) > 1:
            return {"tools": ["new"]}
        await owner.apost("toolsets/far/refresh", {})
        if late == "bad":
            raise ToolError("Late.")
        return {"tools": ["old"]}

    far.learn = learn
    assert refresh(owner).status_code == 200
    assert (row(owner).learned, row(owner).learn_error) == ({"tools": ["new"]}, "")


def test_a_toolset_that_is_deleted_meanwhile(owner: Actor, far: Server, made: Toolset) -> None:
    async def learn(context: ToolCallContext) -> Any:
        await sync_to_async(owner.delete)("toolsets/far")
        return {"tools": []}

    far.learn = learn
    assert refresh(owner).status_code == 404
    worked(made)  # nothing is left to do


def test_a_kind_that_is_gone(owner: Actor, far: Server, made: Toolset) -> None:
    del toolset_kinds()["far"]
    assert refresh(owner).status_code == 503
    worked(made)
    assert row(owner).learn_due > timezone.now() + timedelta(hours=5)


@pytest.mark.parametrize("broken", [{"config": {"host": 5}}, {"policy": {"only": 5}}])
def test_a_toolset_that_no_longer_fits_is_not_asked(owner: Actor, far: Server, made: Toolset, broken: Any) -> None:
    with tenant_context(owner.tenant.id):
        Toolset.objects.filter(id=made.id).update(**broken)
    assert refresh(owner).status_code == 503
    worked(made)
    assert (far.asked, row(owner).learn_due > timezone.now()) == ([], True)


def test_validation_asks_nobody(owner: Actor, far: Server, made: Toolset) -> None:
    def validated(changes: Any) -> Any:
        return owner.post("toolsets/far/validate", changes).json()

    assert validated({})["tools"] == []
    assert validated({"policy": {"only": ["any"]}})["valid"]  # nobody knows yet
    refresh(owner)
    far.asked.clear()
    assert validated({})["tools"] == ["double"]
    assert validated({"policy": {"only": ["any"]}})["errors"][0]["code"] == "unknown_tool"
    assert owner.patch("toolsets/far", {"policy": {"only": ["any"]}}).status_code == 400
    moved = {"config": {"host": "b.example.com"}, "secrets": {"token": "x"}}
    assert validated(moved) == {"valid": True, "errors": [], "warnings": [], "tools": []}
    assert far.asked == []


def test_a_tool_that_the_server_took_away_bars_no_change(owner: Actor, far: Server, made: Toolset) -> None:
    refresh(owner)
    assert owner.patch("toolsets/far", {"policy": {"only": ["double"]}}).status_code == 200
    far.tools = ["half"]
    refresh(owner)
    assert tools(owner) == []
    assert owner.patch("toolsets/far", {"name": "Other"}).status_code == 200


def test_lists_do_not_load_what_was_learned(owner: Actor, made: Toolset, django_assert_num_queries: Any) -> None:
    refresh(owner)
    owner.get("toolsets")
    with django_assert_num_queries(1) as found:
        owner.get("toolsets")
    with django_assert_num_queries(1) as one:
        owner.get("toolsets/far")
    assert '"learned"' not in found[0]["sql"] + one[0]["sql"]
    with django_assert_num_queries(1):
        assert tools(owner) == ["double"]


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
@pytest.mark.parametrize("why", ["due", "later", "off", "suspended"])
def test_whose_turn_it_is(owner: Actor, made: Toolset, why: str) -> None:
    ProcrastinateJob.objects.all().delete()
    with tenant_context(owner.tenant.id):
        due = timezone.now() + timedelta(minutes=1 if why == "later" else -1)
        Toolset.objects.filter(id=made.id).update(learn_due=due, enabled=why != "off")
        if why == "suspended":
            owner.tenant.status = "suspended"
            owner.tenant.save()
    tasks.learn_due()
    tasks.learn_due()
    assert queued(owner) == ([str(made.id)] if why == "due" else [])
    ProcrastinateJob.objects.all().delete()
