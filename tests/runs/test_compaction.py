"""Finished runs are kept with one event for each stretch of a message; events end with their partition."""

import datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from core.tenant import tenant_context
from runs.models import Run, RunEvent, utc_today
from runs.services.compact import run_compact
from runs.services.lease import lease_create
from runs.tasks import compact, partitions
from sessions_app.models import ChatSession
from sessions_app.tasks import close_idle
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_runs import events_of

pytestmark = pytest.mark.django_db
ALL = ["default", "owner", "ops"]


def told(run: Run, *events: tuple[str, dict[str, Any]]) -> None:
    for seq, (kind, data) in enumerate(events, start=1):
        fields = {"run_id": run.id, "tenant_id": run.tenant_id, "day": run.day, "fence": 1}
        RunEvent.objects.create(**fields, seq=seq, type=kind, at_ms=seq, data=data)


def said(message: str, delta: str) -> tuple[str, dict[str, Any]]:
    return "TEXT_MESSAGE_CONTENT", {"messageId": message, "delta": delta}


@pytest.fixture
def ended(in_acme: Tenant) -> Run:
    """Two messages that were said at once, a tool call between two of their stretches."""
    now = timezone.now()
    run = Run.objects.create(
        tenant=in_acme, model="m", status="succeeded", source="api", actor_kind="x", actor_label="x", finished_at=now
    )
    told(
        run,
        ("RUN_STARTED", {}),
        said("a", "A1"),
        said("b", "B1"),
        said("a", "A2"),
        said("b", "B2"),
        ("TOOL_CALL_START", {"toolCallId": "c", "toolCallName": "n"}),
        ("TOOL_CALL_ARGS", {"toolCallId": "c", "delta": "{"}),
        ("TOOL_CALL_ARGS", {"toolCallId": "c", "delta": "}"}),
        ("TOOL_CALL_END", {"toolCallId": "c"}),
        said("a", "A3"),
        ("RUN_FINISHED", {}),
    )
    Run.objects.filter(id=run.id).update(last_seq=11)
    return run


def rows(run: Run) -> list[tuple[int, str, Any]]:
    found = RunEvent.objects.filter(run_id=run.id).order_by("seq")
    return [(row.seq, row.type, row.data.get("delta")) for row in found]


async def timeline(owner: Actor, run: Run, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
    response = await owner.aget(f"runs/{run.id}/events", after=after)
    assert response.status_code == 200, response.content
    return [(row["seq"], row["event"]) for row in response.json()["data"]]


def test_stretches_are_merged_and_the_timeline_stays(ended: Run) -> None:
    run_compact(tenant_id=ended.tenant_id, run_id=ended.id)
    expected = [
        (1, "RUN_STARTED", None),
        (4, "TEXT_MESSAGE_CONTENT", "A1A2"),
        (5, "TEXT_MESSAGE_CONTENT", "B1B2"),
        (6, "TOOL_CALL_START", None),
        (8, "TOOL_CALL_ARGS", "{}"),
        (9, "TOOL_CALL_END", None),
        (10, "TEXT_MESSAGE_CONTENT", "A3"),
        (11, "RUN_FINISHED", None),
    ]
    assert rows(ended) == expected
    run_compact(tenant_id=ended.tenant_id, run_id=ended.id)
    assert rows(ended) == expected
    ended.refresh_from_db()
    assert ended.compacted_at is not None


async def test_a_cursor_inside_a_stretch_gets_snapshots(owner: Actor, ended: Run) -> None:
    await sync_to_async(run_compact)(tenant_id=ended.tenant_id, run_id=ended.id)
    whole = await timeline(owner, ended)
    assert [seq for seq, _ in whole] == [1, 4, 5, 6, 8, 9, 10, 11]
    assert whole[1][1]["metadata"]["merged"] == {"first": 2, "since": 2, "start": 0}
    assert (await timeline(owner, ended, after=1))[0] == whole[1]
    for after in (2, 3):
        first, second, *rest = await timeline(owner, ended, after=after)
        assert [first[1]["value"], second[1]["value"]] == [
            {"messageId": "a", "type": "TEXT_MESSAGE_CONTENT", "start": 0, "text": "A1A2"},
            {"messageId": "b", "type": "TEXT_MESSAGE_CONTENT", "start": 0, "text": "B1B2"},
        ]
        assert rest == whole[3:]
    assert (await timeline(owner, ended, after=4))[0][1]["name"] == "message_snapshot"
    arguments = (await timeline(owner, ended, after=7))[0][1]
    assert arguments["value"] == {"toolCallId": "c", "type": "TOOL_CALL_ARGS", "start": 0, "text": "{}"}
    assert (await timeline(owner, ended, after=9))[0] == whole[6]
    accept = {**owner.headers, "Accept": "text/event-stream", "Last-Event-ID": "3"}
    streamed = await owner.ahttp.get(f"/v1/runs/{ended.id}/events", headers=accept)
    assert events_of(await frames(streamed)) == await timeline(owner, ended, after=3)


async def test_a_cursor_that_cannot_be_served_is_an_error(owner: Actor, ended: Run) -> None:
    for accept in ("application/json", "text/event-stream"):
        headers = {**owner.headers, "Accept": accept}
        path = f"/v1/runs/{ended.id}/events"
        ahead = await owner.ahttp.get(path, {"after": 12}, headers=headers)
        assert (ahead.status_code, ahead.json()["error"]["code"]) == (400, "unknown_cursor")
    assert await timeline(owner, ended, after=11) == []
    await sync_to_async(RunEvent.objects.filter(run_id=ended.id, seq__lt=6).delete)()
    for after, status in ((0, 404), (3, 404), (5, 200), (6, 200)):
        assert (await owner.aget(f"runs/{ended.id}/events", after=after)).status_code == status
    await sync_to_async(RunEvent.objects.filter(run_id=ended.id).delete)()
    for accept in ("application/json", "text/event-stream"):
        gone = await owner.ahttp.get(f"/v1/runs/{ended.id}/events", headers={**owner.headers, "Accept": accept})
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "events_expired")
        assert "EVENT_RETENTION_DAYS" in gone.json()["error"]["message"]


@pytest.mark.django_db(transaction=True, databases=ALL)
async def test_an_answer_is_the_same_after_compaction(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script(*[{"say": word, "delay_ms": 80} for word in ("one", "two", "three")])
    done = await chat(owner, steps)
    run = await Run.objects.aget()
    before = await timeline(owner, run)
    await sync_to_async(compact)()
    assert await timeline(owner, run) == before  # it ended just now
    old = timezone.now() - datetime.timedelta(days=1, hours=1)
    await Run.objects.aupdate(finished_at=old)
    await sync_to_async(compact)()
    after = await timeline(owner, run)
    assert len(after) < len(before)
    texts = ["".join(event.get("delta", "") for _, event in events) for events in (before, after)]
    assert texts == [done.json()["choices"][0]["message"]["content"]] * 2


@pytest.mark.django_db(transaction=True, databases=ALL)
def test_partitions_are_made_ahead_and_dropped_when_old(settings: Any) -> None:
    def days() -> list[str]:
        with connections["owner"].cursor() as cursor:
            cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'run_event'::regclass")
            return sorted(row[0] for row in cursor.fetchall())

    try:
        partitions()
        partitions()
        ahead = [utc_today() + datetime.timedelta(days=number) for number in range(8)]
        assert {f"run_event_{day:%Y%m%d}" for day in ahead} <= set(days())
        settings.EVENT_RETENTION_DAYS = 0
        kept = days()
        partitions()
        assert days() == kept  # today's stays
        with connections["ops"].cursor() as cursor:
            cursor.execute("SELECT run_event_drop_days(current_date + 7)")
        assert days() == [f"run_event_{ahead[7]:%Y%m%d}"]
    finally:
        partitions()


def test_a_run_finds_its_day_though_no_worker_made_it(in_acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.services.lease._known_days", set())
    run = Run(tenant=in_acme, model="m", source="api", actor_kind="x", actor_label="x")
    run.day = utc_today() + datetime.timedelta(days=20)
    run.save(force_insert=True)
    lease_create(run, None)
    told(run, ("RUN_STARTED", {}))
    assert rows(run) == [(1, "RUN_STARTED", None)]


@pytest.mark.django_db(transaction=True, databases=ALL)
async def test_a_deleted_session_takes_its_events_along(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    done = await chat(owner, user("hi"))
    assert await RunEvent.objects.aexists()
    await owner.ahttp.generic("DELETE", f"/v1/sessions/{done['X-Session-Id']}", headers=owner.headers)
    assert not await RunEvent.objects.using("owner").aexists()


@pytest.mark.django_db(transaction=True, databases=ALL)
def test_idle_sessions_are_closed(acme: Tenant, settings: Any) -> None:
    now = timezone.now()
    with tenant_context(acme.id):
        for name, days in (("old", 40), ("new", 1)):
            session = ChatSession.objects.create(tenant=acme, external_id=name, created_by="x")
            ChatSession.objects.filter(id=session.id).update(last_message_at=now - datetime.timedelta(days=days))
        close_idle()
        assert not ChatSession.objects.filter(status="closed").exists()
        settings.SESSION_IDLE_DAYS = 30
        close_idle()
        assert [session.external_id for session in ChatSession.objects.filter(status="closed")] == ["old"]
