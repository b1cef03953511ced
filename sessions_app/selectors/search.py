"""Search in what was said, in any language: words, phrases in quotes, and a beginning for the last word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from core.errors import InvalidRequest
from tenants.permissions import authorize, is_confined
from tenants.principal import Principal

LONGEST = 400  # characters of a query
CHECKED = 300  # hits of a phrase's words that are checked for the phrase at once
SNIPPET, BEFORE = 240, 60  # characters, and those of them before the first hit
MOST_HITS = 20  # marked in a snippet
# As in the migration that has the function message_words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_RUN = re.compile(f"[{_UNSPACED}]+")
_SQL = """
    SELECT found.id, found.hit, message.seq, message.role, message_text(message.content), message.created_at,
        session.id, session.external_id, session.title
    FROM message_search(%s, %s, %s, %s, %s, %s, %s) AS found
    JOIN message ON message.tenant_id = %s AND message.id = found.id
    JOIN chat_session AS session ON session.tenant_id = message.tenant_id AND session.id = message.session_id
    ORDER BY found.id DESC
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found. `hits` are the places in the snippet, first and behind the last character."""

    message_id: UUID
    seq: int
    role: str
    created_at: datetime
    session_id: UUID
    external_id: str | None
    title: str
    snippet: str
    hits: Sequence[tuple[int, int]]


class HitPage(NamedTuple):
    """`before` is where the next page begins, None after the last. A page of a phrase may have few hits, or none, and
    one that follows.
    """

    hits: Sequence[Hit]
    before: UUID | None


def message_search(*, actor: Principal, q: str, before: UUID | None = None, limit: int = 20) -> HitPage:
    """The messages that have all words of `q`, newest first, of the sessions that the actor may see.

    Replaced messages are left out. Raises InvalidRequest for a query that is too long.
    """
    authorize(actor, "session.view")
    if len(q) > LONGEST:
        raise InvalidRequest(f"q has at most {LONGEST} characters.", code="query_too_long", param="q")
    query = _Query.of(q)
    kind, person = (actor.kind, actor.id) if is_confined(actor) else (None, None)
    given = [query.sought, query.beginning, kind, person, before, limit + 1, CHECKED, actor.tenant_id]
    with connection.cursor() as cursor:
        cursor.execute(_SQL, given)
        rows = cursor.fetchall()
    found = [row for row in rows if row[1]]
    looked_at = rows[-1][0] if len(rows) >= CHECKED else None  # of a phrase, and older ones may have it
    before = found[limit - 1][0] if len(found) > limit else looked_at
    return HitPage([_hit(query, row) for row in found[:limit]], before)


def _hit(query: "_Query", row: Sequence[object]) -> Hit:
    id_, _, seq, role, text, created_at, session_id, external_id, title = row
    snippet, hits = _snippet(str(text or ""), query.pattern)
    return Hit(id_, seq, role, created_at, session_id, external_id, title, snippet, hits)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Query:
    """`sought` is in the language of websearch_to_tsquery; words begin with `beginning`, which may be empty.

    `pattern` finds in a text what is sought, about as PostgreSQL does.
    """

    sought: str
    beginning: str
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, q: str) -> "_Query":
        sought, beginning = _split(q)
        words = [_phrase(part) for part in _wanted(sought)] + ([_word(beginning, "")] if beginning else [])
        pattern = re.compile("|".join(word for word in words if word) or "(?!)", re.IGNORECASE)
        return cls(_spaced(sought), beginning, pattern)


def _split(q: str) -> tuple[str, str]:
    """The last word apart, of which a beginning is enough; not within quotes, after a minus or an OR."""
    head, _, last = q.rstrip().rpartition(" ")
    whole = q.count('"') % 2 or '"' in last or last.startswith("-") or q != q.rstrip() or _RUN.search(last)
    if whole or not re.search(r"\w", last) or head.lower().split()[-1:] == ["or"]:
        return q, ""
    return head, last


def _spaced(sought: str) -> str:
    """Characters that are words each make phrases."""
    parts = sought.split('"')
    for place, part in enumerate(parts):
        edge = "" if place % 2 else '"'
        parts[place] = _RUN.sub(partial(_apart, edge), part)
    return '"'.join(parts)


def _apart(edge: str, run: re.Match[str]) -> str:
    return f" {edge}{' '.join(run[0])}{edge} "


def _wanted(sought: str) -> list[str]:
    """Words and phrases that a hit has; not those with a minus."""
    found = re.findall(r'(-?)(?:"([^"]*)"|([^\s"]+))', sought)
    return [phrase or word for minus, phrase, word in found if not minus and word.lower() != "or"]


def _phrase(text: str) -> str:
    pieces = re.findall(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+", text)
    return r"\W*".join(_word(piece) for piece in pieces)


def _word(piece: str, end: str = r"(?!\w)") -> str:
    return re.escape(piece) if _RUN.match(piece) else rf"(?<!\w){re.escape(piece)}{end}"


def _snippet(text: str, pattern: re.Pattern[str]) -> tuple[str, list[tuple[int, int]]]:
    """A piece of the text from before its first hit, in one line, and the places of hits in it."""
    first = pattern.search(text)
    start = max(0, first.start() - BEFORE) if first else 0
    piece = re.sub(r"\s", " ", text[start : start + SNIPPET])
    return piece, [found.span() for found in islice(pattern.finditer(piece), MOST_HITS)]
