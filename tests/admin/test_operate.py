"""Overview, runs, sessions and the palette: what is shown, what stays within the tenant, and what it costs."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent
from core.tenant import tenant_context
from runs.models import Run, RunEvent
from runs.timeline import rows, spans
from sessions_app.models import ChatSession, Message, Participant
from tenants.models import Tenant, User
from tests.admin.conftest import browser_of, make_member, page, post, text_of

MANY = """
INSERT INTO run (id, tenant_id, created_at, model, status, source, actor_kind, actor_label, end_user, prompt_tokens,
                 completion_tokens, finish_reason, error_code, error_message, last_seq, agent_version_id)
SELECT gen_random_uuid(), %(tenant)s, now() - n * interval '1 second', 'scripted/default', 'succeeded', 'api',
       'api_key', 'load', 'u' || n %% 100, 10, 5, 'stop', '', '', 0, %(version)s FROM generate_series(1, %(count)s) AS n
"""


def make_run(tenant: Tenant, **values: Any) -> Run:
    now = timezone.now().replace(microsecond=0)  # events tell whole milliseconds
    agent = Agent.objects.select_related("version").first()
    given = {"status": "succeeded", "started_at": now, "finished_at": now + timedelta(seconds=2), **values}
    return Run.objects.create(
        tenant=tenant,
        agent_version=agent.version if agent else None,
        model="scripted/default",
        source="api",
        actor_kind="api_key",
        actor_label="Website",
        **given,
    )


def make_events(run: Run, *events: tuple[int, str, dict[str, Any]]) -> list[RunEvent]:
    assert run.started_at is not None
    found = [
        RunEvent(
            tenant_id=run.tenant_id,
            run_id=run.id,
            day=run.day,
            seq=seq,
            fence=1,
            type=kind,
            at_ms=round(run.started_at.timestamp() * 1000) + ms,
            data=data,
        )
        for seq, (ms, kind, data) in enumerate(events, start=1)
    ]
    RunEvent.objects.bulk_create(found)
    Run.objects.filter(id=run.id).update(last_seq=len(found))
    return found


@pytest.fixture
def talked(scripted: str, acme: Tenant) -> Run:
    """A run that called a tool and then answered, in a session with its transcript."""
    with tenant_context(acme.id):
        agent = Agent.objects.get(slug=scripted)
        session = ChatSession.objects.create(
            tenant=acme, agent=agent, title="A trip to Rome", external_id="chat-7", end_user="Ulla", last_seq=4
        )
        run = make_run(acme, session=session, end_user="Ulla")
        calls = [
            {"id": "c", "type": "function", "function": {"name": "current_time", "arguments": '{"timezone": "UTC"}'}}
        ]
        said: list[dict[str, Any]] = [
            {"role": "user", "content": "When does <b>the train</b> go?"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "12:00", "tool_call_id": "c"},
            {"role": "assistant", "content": [{"type": "text", "text": "At noon."}, {"type": "image_url"}]},
        ]
        for seq, message in enumerate(said, start=1):
            Message.objects.create(tenant=acme, session=session, seq=seq, run_id=run.id, **message)
        make_events(
            run,
            (0, "RUN_STARTED", {}),
            (200, "TOOL_CALL_START", {"toolCallId": "c", "toolCallName": "current_time"}),
            (210, "TOOL_CALL_ARGS", {"toolCallId": "c", "delta": '{"timezone":'}),
            (220, "TOOL_CALL_ARGS", {"toolCallId": "c", "delta": ' "UTC"}'}),
            (230, "TOOL_CALL_END", {"toolCallId": "c"}),
            (400, "TOOL_CALL_RESULT", {"toolCallId": "c", "content": "no", "metadata": {"ms": 150, "error": True}}),
            (900, "TEXT_MESSAGE_START", {"messageId": "m"}),
            (910, "TEXT_MESSAGE_CONTENT", {"messageId": "m", "delta": "At "}),
            (990, "TEXT_MESSAGE_CONTENT", {"messageId": "m", "delta": "noon."}),
            (1000, "TEXT_MESSAGE_END", {"messageId": "m"}),
            (1000, "RUN_FINISHED", {}),
        )
        return Run.objects.get(id=run.id)


@pytest.fixture
def there(vera: Client, talked: Run, acme: Tenant) -> None:
    """Vera takes part in the session, without which it is not hers to see."""
    with tenant_context(acme.id):
        user = User.objects.get(username="vera")
        Participant.objects.create(
            tenant=acme,
            session_id=talked.session_id,
            person_kind="user",
            person_id=user.id,
            label="vera",
            role="viewer",
        )


def test_where_the_time_of_a_run_went(talked: Run, acme: Tenant) -> None:
    with tenant_context(acme.id):
        events = list(RunEvent.objects.filter(run_id=talked.id, day=talked.day).order_by("seq"))
    found = [(span.kind, span.label, span.start, span.ms, span.failed) for span in spans(talked, events)]
    assert found == [
        ("wait", "Waiting for the model", 0, 200, False),
        ("model", "Model calls current_time", 200, 30, False),
        ("tool", "Tool current_time", 250, 150, True),
        ("wait", "Waiting for the model", 400, 500, False),
        ("model", "Model answers", 900, 100, False),
    ]
    assert [span.left for span in spans(talked, events)] == [0, 10, 12.5, 20, 45]
    joined = {row.type: (row.count, row.text) for row in rows(talked, events)}
    assert joined["TEXT_MESSAGE_CONTENT"] == (2, "At noon.")
    assert joined["TOOL_CALL_ARGS"] == (2, '{"timezone": "UTC"}')


def test_what_never_ended_lasts_until_the_last_event(scripted: str, acme: Tenant) -> None:
    with tenant_context(acme.id):
        run = make_run(acme, finished_at=None)
        events = make_events(
            run,
            (0, "STEP_STARTED", {"stepName": "plan"}),
            (50, "REASONING_START", {"messageId": "r"}),
            (70, "REASONING_END", {"messageId": "r"}),
            (80, "TEXT_MESSAGE_START", {"messageId": "m"}),
            (300, "RUN_ERROR", {"message": "cut"}),
        )
    found = {span.label: (span.start, span.ms) for span in spans(run, events)}
    assert found["plan"] == (0, 300)
    assert found["Model reasons"] == (50, 20)
    assert found["Model answers"] == (80, 220)


@pytest.mark.usefixtures("there")
def test_the_pages_of_a_run_and_its_session(vera: Client, talked: Run) -> None:
    content = text_of(page(vera, f"runs/run/{talked.id}/change/"))
    for part in (
        "Waiting for the model",
        "Tool current_time",
        "TEXT_MESSAGE_CONTENT ×2",
        "At noon.",
        "Website over api",
    ):
        assert part in content, part
    content = text_of(page(vera, f"sessions_app/chatsession/{talked.session_id}/change/"))
    assert "When does &lt;b&gt;the train&lt;/b&gt; go?" in content
    assert "calls current_time" in content
    assert "[image_url]" in content
    assert f"/t/acme/admin/runs/run/{talked.id}/change/" in content


def test_nobody_changes_what_happened(olga: Client, talked: Run) -> None:
    for path in (f"runs/run/{talked.id}", f"sessions_app/chatsession/{talked.session_id}"):
        assert post(olga, f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert page(olga, "runs/run/add/").status_code == 403
    assert page(olga, "sessions_app/chatsession/add/").status_code == 403


def test_a_stranger_meets_neither(stan: Client, talked: Run) -> None:
    for path in (f"runs/run/{talked.id}/change/", f"sessions_app/chatsession/{talked.session_id}/change/"):
        assert page(stan, path, tenant="globex").status_code == 302
    for path in ("runs/run/", "sessions_app/chatsession/"):
        assert page(stan, path, tenant="globex", since="all").context_data["cl"].result_count == 0


@pytest.mark.usefixtures("there")
def test_a_long_transcript_comes_in_pages(vera: Client, talked: Run, acme: Tenant) -> None:
    with tenant_context(acme.id):
        more = [
            Message(tenant=acme, session_id=talked.session_id, seq=seq, role="user", content=f"message {seq}.")
            for seq in range(5, 151)
        ]
        Message.objects.bulk_create(more)
        ChatSession.objects.update(last_seq=150)
    path = f"sessions_app/chatsession/{talked.session_id}/change/"
    first, second = text_of(page(vera, path)), text_of(page(vera, path, after="100"))
    assert "message 100." in first
    assert "message 101." not in first
    assert "message 101." in second
    assert "Earlier messages" in second
    assert page(vera, path, after="x").status_code == 200


def test_cancelling_a_run_that_is_no_longer_here(olga: Client, vera: Client, scripted: str, acme: Tenant) -> None:
    with tenant_context(acme.id):
        run = make_run(acme, status="running", finished_at=None)
    path = f"runs/run/{run.id}/cancel/"
    assert "Stop this run?" in text_of(page(olga, path))
    assert post(vera, path, {"_form_submitted": "on"}).status_code == 403
    assert "HX-Redirect" in post(olga, path, {"_form_submitted": "on"})
    with tenant_context(acme.id):
        assert Run.objects.get(id=run.id).cancel_requested_at is not None


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("text", "count"), [("Ulla", 1), ("nobody", 0), ("{id}", 1), ("{session}", 1), ("%' OR 1=1", 0)]
)
def test_runs_are_found_by_whole_ids_and_users(vera: Client, talked: Run, text: str, count: int) -> None:
    text = text.format(id=talked.id, session=talked.session_id)
    assert page(vera, "runs/run/", q=text).context_data["cl"].result_count == count


def test_pages_say_where_one_is(olga: Client, scripted: str, acme: Tenant) -> None:
    with tenant_context(acme.id):
        run, agent = make_run(acme), Agent.objects.get()
    assert "Audit | Agentsite" in text_of(page(olga, "audit/auditevent/"))
    assert 'title="Add member"' in text_of(page(olga, "tenants/membership/"))
    assert "Add member</span>" in text_of(page(olga, "tenants/membership/add/"))
    content = text_of(page(olga, f"runs/run/{run.id}/change/"))
    assert '<a href="/t/acme/admin/runs/run/" class="block h-[18px] mr-3" title="Back">' in content
    for below in (f"agents/agent/{agent.id}/versions/", f"agents/agent/{agent.id}/delete/"):
        content = text_of(page(olga, below))
        assert f'<a href="/t/acme/admin/agents/agent/{agent.id}/change/" class="block' in content
        assert f'class="crumb">{agent}</a>' in content


def test_empty_lists_say_what_to_do(olga: Client, vera: Client, acme: Tenant) -> None:
    assert "Nothing in the last 7 days" in text_of(page(olga, "runs/run/"))
    assert "No row fits the search and the filters." in text_of(page(olga, "runs/run/", since="all"))
    assert "Add the first one" in text_of(page(olga, "toolsets/toolset/"))
    assert "Add " not in text_of(page(vera, "toolsets/toolset/"))


@pytest.mark.usefixtures("there")
def test_filters_narrow(vera: Client, talked: Run, acme: Tenant) -> None:
    with tenant_context(acme.id):
        Run.objects.filter(id=talked.id).update(created_at=timezone.now() - timedelta(days=20))
        agent = Agent.objects.get()
    assert page(vera, "runs/run/").context_data["cl"].result_count == 0
    for query in (
        {"since": "30d"},
        {"since": "all", "status__in": "succeeded"},
        {"since": "all", "agent_version__agent__id__exact": agent.id},
    ):
        assert page(vera, "runs/run/", **query).context_data["cl"].result_count == 1, query
    assert page(vera, "runs/run/", since="all", status__in="failed").context_data["cl"].result_count == 0


def test_agents_are_completed_within_the_tenant(vera: Client, stan: Client, scripted: str) -> None:
    query = {"app_label": "agents", "model_name": "agentversion", "field_name": "agent", "term": "help"}
    assert len(page(vera, "autocomplete/", **query).json()["results"]) == 1
    assert page(stan, "autocomplete/", tenant="globex", **query).json()["results"] == []


def test_first_steps_until_something_ran(olga: Client, vera: Client, acme: Tenant) -> None:
    content = text_of(page(olga, ""))
    assert "First steps" in content
    assert "/t/acme/admin/llm/provider/add/" in content
    assert "/llm/provider/add/" not in text_of(page(vera, ""))


def test_the_overview_adds_up(olga: Client, talked: Run, acme: Tenant) -> None:
    with tenant_context(acme.id):
        make_run(acme, status="failed", error_message="The provider answered 503.", prompt_tokens=1200)
        make_run(acme, status="running", finished_at=None, first_token_ms=120)
    content = text_of(page(olga, ""))
    for part in (
        "First token",
        "120 <small>ms</small>",
        "1,200",
        "33.3 %",
        "The provider answered 503.",
        "Busiest agents",
    ):
        assert part in content, part
    assert "card-alarm" in content
    assert "hx-trigger" in text_of(page(olga, "live/"))


def test_the_palette_keeps_tenants_apart(olga: Client, talked: Run, globex: Tenant) -> None:
    first = text_of(page(olga, "search/", s="help", extended="1"))
    assert "/t/acme/admin/agents/agent/" in first
    second = text_of(page(olga, "search/", tenant="globex", s="help", extended="1"))
    assert "Helper" not in second
    assert "acme" not in second
    assert text_of(page(olga, "search/", s="help", extended="1")).count("Helper") == first.count("Helper")


@pytest.mark.parametrize("term", ["helper", "scripted", "time", "olga", "chat-7", "Ulla", "{run}", "{session}"])
def test_the_palette_finds(olga: Client, talked: Run, term: str) -> None:
    term = term.format(run=talked.id, session=talked.session_id)
    assert "/change/" in text_of(page(olga, "search/", s=term, extended="1"))


def test_the_palette_shows_no_more_than_the_role(vera: Client, talked: Run) -> None:
    content = text_of(page(vera, "search/", s="audit", extended="1"))
    assert "auditevent" not in content


def queries(client: Client, path: str, **query: Any) -> int:
    page(client, "live/")  # the first visit writes the session
    cache.clear()
    with CaptureQueriesContext(connection) as captured:
        assert page(client, path, **query).status_code == 200
    return len(captured)


@pytest.mark.slow
def test_a_hundred_thousand_runs_cost_as_many_queries_as_one(olga: Client, talked: Run, acme: Tenant) -> None:
    before = queries(olga, "runs/run/"), queries(olga, ""), queries(olga, f"runs/run/{talked.id}/change/")
    with tenant_context(acme.id), connection.cursor() as cursor:
        cursor.execute(MANY, {"tenant": acme.id, "version": talked.agent_version_id, "count": 100_000})
        cursor.execute("ANALYZE run")
    assert (queries(olga, "runs/run/"), queries(olga, ""), queries(olga, f"runs/run/{talked.id}/change/")) == before
    content = text_of(page(olga, "runs/run/"))
    assert content.count('class="data-row') == 50
    assert "More than 1000 runs" in content
    last = text_of(page(olga, "runs/run/", p="20"))
    assert "narrow the time or the filters" in last
    beyond = page(olga, "runs/run/", p="21")
    assert beyond.status_code == 302


@pytest.mark.parametrize(
    "path", ["agents/agent/", "sessions_app/chatsession/", "tenants/membership/", "audit/auditevent/", "runs/run/"]
)
def test_lists_cost_the_same_however_many_rows_they_show(
    olga: Client, talked: Run, acme: Tenant, path: str, stan: Client
) -> None:
    before = queries(olga, path)
    with tenant_context(acme.id):
        for number in range(5):
            make_member(acme, f"m{number}", "member")
            make_run(acme)
            agent = Agent.objects.create(tenant=acme, slug=f"a{number}")
            ChatSession.objects.create(tenant=acme, agent=agent, created_by="x")
    assert queries(olga, path) == before


def test_an_operator_reads_the_trail(acme: Tenant) -> None:
    otto = browser_of(make_member(acme, "otto", "operator"))
    assert page(otto, "audit/auditevent/").status_code == 200
    assert page(otto, "llm/provider/add/").status_code == 403
    assert page(otto, "agents/agent/add/").status_code == 200


def test_markup_in_names_is_text_everywhere(olga: Client, scripted: str, acme: Tenant) -> None:
    evil = "<img src=x onerror=alert(1)>"
    form = {"name": evil, "slug": "evil", "kind": "time", "enabled": "on", "config-of": "time"}
    added = post(olga, "toolsets/toolset/add/", {**form, "config-default_timezone": "UTC", "_continue": "1"})
    assert added.status_code == 302
    with tenant_context(acme.id):
        agent = Agent.objects.get(slug=scripted)
        session = ChatSession.objects.create(tenant=acme, agent=agent, title=evil, created_by=evil, end_user=evil)
        run = make_run(acme, session=session, status="failed", error_message=evil, end_user=evil)
        make_events(run, (0, "TOOL_CALL_START", {"toolCallId": "c", "toolCallName": evil}))
    for path in (
        added["Location"].partition("/admin/")[2],
        "toolsets/toolset/",
        f"agents/agent/{agent.id}/change/",
        "sessions_app/chatsession/",
        f"sessions_app/chatsession/{session.id}/change/",
        f"runs/run/{run.id}/change/",
        "",
        "audit/auditevent/",
        "search/?s=%3Cimg&extended=1",
    ):
        content = text_of(page(olga, path))
        assert "<img src=x" not in content, path
        assert path.startswith("audit") or "&lt;img src=x" in content, path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("audit/auditevent/", "actor"),
        ("audit/auditevent/", "action"),
        ("audit/auditevent/", "object"),
        ("audit/auditevent/", "since"),
        ("audit/auditevent/", "q"),
        ("runs/run/", "status__in"),
        ("runs/run/", "agent_version__agent__id__exact"),
        ("runs/run/", "p"),
        ("agents/agent/", "q"),
        ("agents/agent/", "nonsense"),
        ("agents/agent/add/", "template"),
        ("llm/provider/add/", "kind"),
        ("search/", "s"),
        ("autocomplete/", "term"),
    ],
)
def test_strange_queries_are_answered(olga: Client, path: str, name: str) -> None:
    model = (
        {"app_label": "agents", "model_name": "agentversion", "field_name": "agent"} if path == "autocomplete/" else {}
    )
    for value in ("\0", "\ufffd", "%", "'", "9" * 40, "x" * 5000):
        status = page(olga, path, **{name: value, **model}).status_code
        assert status in (200, 302, 400, 403, 404), f"{name}={value[:40]!r}"


@pytest.mark.parametrize(
    "kind", ["agents/agent", "runs/run", "sessions_app/chatsession", "llm/provider", "tenants/apikey"]
)
def test_strange_ids_lead_back(olga: Client, kind: str) -> None:
    for ref in ("x", "0" * 36, "%00", "..", "01a1fbf2-8cc7-76e0-96c4-8944be3c3aed"):
        assert page(olga, f"{kind}/{ref}/change/").status_code in (302, 404), ref
