"""What a search costs: `make bench-search`, or python -m bench.search.

Two tenants have MESSAGES messages each, in sessions of SAID, with words as rare as those of a language. A search is a
whole `GET /v1/search` in this process, its key looked up and row-level security on; the reference, by turns, is a list
of sessions. "all messages of the other tenant" is a word that this one hardly has. What the index adds to the writing
of messages is measured at `messages_append`.
"""

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any
from uuid import UUID

import orjson

from bench.database import admin, postmaster, prepared_database
from bench.processes import cpu_of_tree, spent
from bench.report import figure, goal, percentiles

MESSAGES, SAID, VOCABULARY = 100_000, 50, 20_000
SEARCHES, APPENDS = 40, 300
LIMIT = 200.0  # milliseconds at p95
RARE, THEIRS = "heliotrope", "zeppelin"
_chance = random.Random(7)
_words = ["".join(_chance.choices("aeioulnrst", k=_chance.randint(3, 9))) for _ in range(VOCABULARY)]
_weights = list(accumulate(1 / place for place in range(1, VOCABULARY + 1)))
COMMON, FREQUENT, USUAL = _words[0], _words[20], _words[400]
QUERIES = {
    "a rare word (10 messages)": RARE,
    "a word that most messages have": COMMON,
    "a word of many messages": FREQUENT,
    "a word of some messages": USUAL,
    "no hit": "nowhere",
    "all messages of the other tenant": THEIRS,
    "two words": f"{FREQUENT} {USUAL}",
    "the beginning of a word": f"{USUAL} {COMMON[:2]}",
    "a phrase of common words": f'"{_words[0]} {_words[1]}"',
    "a phrase that nobody said": f'"{_words[30]} {RARE}"',
}


def main() -> None:
    with prepared_database() as cluster, admin(cluster) as database:
        tenants = dict(database.execute("SELECT slug, id FROM tenant WHERE slug IN ('acme', 'globex')").fetchall())
        began = time.monotonic()
        fill(database, tenants["acme"], theirs=False)
        fill(database, tenants["globex"], theirs=True)
        database.execute("VACUUM ANALYZE message")
        figure(f"{2 * MESSAGES:,} messages were written in", time.monotonic() - began, "s")
        sizes = "SELECT pg_relation_size('message_search') / 1e6, pg_total_relation_size('message') / 1e6"
        found = database.execute(sizes).fetchone() or ()
        for name, size in zip(("the index", "the table with all its indexes"), found, strict=True):
            figure(name, float(size), "MB")
        demo = orjson.loads((cluster.home.path / "demo.json").read_bytes())
        of_searches(
            asking(next(each["api_key"] for each in demo["tenants"] if each["slug"] == "acme")), postmaster(cluster)
        )
        of_a_member(tenants["acme"])
        of_writing(tenants["acme"], database)


def fill(database: Any, tenant: UUID, *, theirs: bool) -> None:
    """`theirs`: each message has the word THEIRS, of which the other tenant has a single one."""
    from core.ids import uuid7

    sessions = [uuid7() for _ in range(MESSAGES // SAID)]
    columns = "id, created_at, tenant_id, title, status, end_user, metadata, created_by, last_seq, updated_at"
    with database.cursor() as cursor, cursor.copy(f"COPY chat_session ({columns}) FROM STDIN") as rows:
        for id in sessions:
            rows.write_row((id, "2026-01-01", tenant, "Bench", "open", "", "{}", "bench", SAID, "2026-01-01"))
    columns = "id, created_at, tenant_id, session_id, seq, role, content, tool_call_id, name, status, end_user"
    with database.cursor() as cursor, cursor.copy(f"COPY message ({columns}) FROM STDIN") as rows:
        for number in range(MESSAGES):
            session, seq = sessions[number % len(sessions)], number // len(sessions) + 1
            text = said(number, rare=number % (MESSAGES // 10) == 0, theirs=theirs or number == 0)
            content = orjson.dumps(text).decode()
            rows.write_row((uuid7(), "2026-01-01", tenant, session, seq, "user", content, "", "", "complete", ""))


def said(number: int, *, rare: bool = False, theirs: bool = False) -> str:
    words = _chance.choices(_words, cum_weights=_weights, k=(10, 40, 80, 160)[number % 4])
    return " ".join([*words, *([RARE] if rare else []), *([THEIRS] if theirs else [])])


def of_searches(ask: Callable[..., Any], server: int) -> None:
    for name, q in QUERIES.items():
        shown = len(ask("search", q)["data"])
        times, others = by_turns(partial(ask, "search", q), partial(ask, "sessions", ""))
        tell(f"{name}: {shown} shown", times)
        figure("    p50, as so many lists of sessions", statistics.median(times) / statistics.median(others))
        figure("    processor time, here and in the database", processor(partial(ask, "search", q), server), "ms")


def processor(call: Callable[[], Any], server: int) -> float:
    """Milliseconds of the processor that a call takes, by the scheduler's count: a busy machine changes it little."""
    here, there = time.process_time(), cpu_of_tree(server)
    for _ in range(SEARCHES):
        call()
    return (time.process_time() - here + spent(there, cpu_of_tree(server))) * 1000 / SEARCHES


def of_a_member(tenant: UUID) -> None:
    """Somebody who takes part in a tenth of the sessions, and finds words in these alone."""
    from core.ids import uuid7
    from core.tenant import tenant_context
    from sessions_app.models import ChatSession, Participant
    from sessions_app.selectors.search import message_search
    from tenants.principal import Principal

    member = Principal(tenant, "acme", "user", uuid7(), "member", "member")
    with tenant_context(tenant):
        joined = ChatSession.objects.filter(tenant_id=tenant)[: MESSAGES // SAID // 10]
        who = {"tenant_id": tenant, "person_kind": "user", "person_id": member.id, "label": "member", "role": "owner"}
        Participant.objects.bulk_create(Participant(session=session, **who) for session in joined)
        for name, q in {"a common word": COMMON, "a rare one": RARE}.items():
            (times,) = by_turns(partial(message_search, actor=member, q=q))
            tell(f"{name}, by a member of {len(joined)} sessions", times)


def of_writing(tenant: UUID, database: Any) -> None:
    """A question and an answer of usual length, by turns in the table and in one as large without the index."""
    from core.tenant import tenant_context

    database.execute("CREATE TABLE bare (LIKE message INCLUDING ALL)")
    (index,) = database.execute(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'bare' AND indexdef LIKE '%message_words%'"
    ).fetchone()
    database.execute(f'DROP INDEX "{index}"')
    for statement in ("INSERT INTO bare SELECT * FROM message", "GRANT ALL ON bare TO app_user", "ANALYZE bare"):
        database.execute(statement)
    with tenant_context(tenant):
        tables = [partial(append, tenant, table) for table in ("message", "bare")]
        found, without = by_turns(*tables, rounds=APPENDS)
    for name, times in {"with the index": found, "without it": without}.items():
        cuts = percentiles(times)
        figure(f"messages_append of two messages, {name}: p50", cuts[0], "ms")
        figure("    p95", cuts[1], "ms")
        figure("    the longest", max(times), "ms")
    figure("    p50, as so many of those without", statistics.median(found) / statistics.median(without))


def append(tenant: UUID, table: str) -> None:
    from django.db import transaction

    from core.ids import uuid7
    from sessions_app.models import ChatSession, Message
    from sessions_app.services.sessions import messages_append

    Message._meta.db_table = table
    with transaction.atomic():
        session = ChatSession.objects.select_for_update(of=("self",)).filter(tenant_id=tenant)[0]
        asked, answer = ({"role": role, "content": said(2)} for role in ("user", "assistant"))
        messages_append(session=session, messages=[asked, answer], run_id=uuid7())


def by_turns(*calls: Callable[[], Any], rounds: int = SEARCHES) -> list[list[float]]:
    """Milliseconds of each call in each round."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append((time.perf_counter() - began) * 1000)
    return times


def tell(name: str, times: list[float]) -> None:
    p50, p95, _ = percentiles(times)
    figure(f"{name}: p50", p50, "ms")
    goal("    p95", p95, LIMIT, "ms")


def asking(key: str) -> Callable[..., Any]:
    from django.test import Client

    client = Client(headers={"Authorization": f"Bearer {key}"})

    def ask(path: str, q: str) -> Any:
        answer = client.get(f"/v1/{path}", {"q": q} if q else {})
        assert answer.status_code == 200, answer.content
        return answer.json()

    return ask


if __name__ == "__main__":
    main()
