"""What a search costs: `make bench-search`, or python -m bench.search.

Two tenants have MESSAGES messages each, in sessions of SAID, with words as rare as those of a language. A search is a
whole `GET /v1/search` in this process, its key looked up and row-level security on; the reference is `GET /v1/sessions`,
by turns. "all messages of the other tenant" is a word that this one hardly has. What the index adds to the writing of
messages is measured at `messages_append`, with the index and without it.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any
from uuid import UUID

import orjson

from bench.database import admin, prepared_database
from bench.report import figure, goal

MESSAGES, SAID, VOCABULARY = 100_000, 50, 20_000
SEARCHES, APPENDS = 60, 300
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
        tenants = [row[0] for row in database.execute("SELECT id FROM tenant WHERE slug IN ('acme', 'globex')")]
        began = time.monotonic()
        for tenant in tenants:
            fill(database, tenant)
        database.execute("VACUUM ANALYZE message")
        figure("filling", time.monotonic() - began, "s")
        (size,) = database.execute("SELECT pg_relation_size('message_search') / 1e6").fetchone() or (0,)
        figure("the index", float(size), "MB")
        of_searches(database)
        of_a_member(database)
        of_writing(database)


def fill(database: Any, tenant: UUID) -> None:
    """The words of `THEIRS` are in all messages of the second tenant that is filled, and in one of the first."""
    from core.ids import uuid7

    other = not database.execute("SELECT count(*) FROM message").fetchone()[0]
    sessions = [uuid7() for _ in range(MESSAGES // SAID)]
    columns = "id, created_at, tenant_id, title, status, end_user, metadata, created_by, last_seq, updated_at"
    with database.cursor() as cursor, cursor.copy(f"COPY chat_session ({columns}) FROM STDIN") as rows:
        for id in sessions:
            rows.write_row((id, "2026-01-01", tenant, "Bench", "open", "", "{}", "bench", SAID, "2026-01-01"))
    columns = "id, created_at, tenant_id, session_id, seq, role, content, tool_call_id, name, status, end_user"
    with database.cursor() as cursor, cursor.copy(f"COPY message ({columns}) FROM STDIN") as rows:
        for number in range(MESSAGES):
            session, seq = sessions[number % len(sessions)], number // len(sessions) + 1
            text = said(number, rare=number % (MESSAGES // 10) == 0, theirs=not other or number == 0)
            content = orjson.dumps(text).decode()
            rows.write_row((uuid7(), "2026-01-01", tenant, session, seq, "user", content, "", "", "complete", ""))


def said(number: int, *, rare: bool = False, theirs: bool = False) -> str:
    words = _chance.choices(_words, cum_weights=_weights, k=(10, 40, 80, 160)[number % 4])
    return " ".join([*words, *([RARE] if rare else []), *([THEIRS] if theirs else [])])


def of_searches(database: Any) -> None:
    from bench.client import get

    ask = get("acme")
    for name, q in QUERIES.items():
        found = ask("search", q=q)
        times, others = by_turns(lambda q=q: ask("search", q=q), lambda: ask("sessions"))  # type: ignore[misc]
        cuts = statistics.quantiles(times, n=20)
        goal(f"{name} ({len(found['data'])} shown): p95", cuts[18], LIMIT, "ms")
        ratio = statistics.median(times) / statistics.median(others)
        figure(f"    p50 {cuts[9]:.1f} ms; to a list of sessions", ratio, "times")


def by_turns(*calls: Callable[[], Any]) -> Iterator[list[float]]:
    """Milliseconds of each call, SEARCHES times."""
    times: Sequence[list[float]] = [[] for _ in calls]
    for _ in range(SEARCHES):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append((time.perf_counter() - began) * 1000)
    return iter(times)
