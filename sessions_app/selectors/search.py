"""Search in what was said, in any language: words, phrases in quotes, and a beginning for the last word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction

from core.errors import InvalidRequest, Unavailable
from tenants.permissions import authorize, is_confined
from tenants.principal import Principal

LONGEST, MOST_WORDS = 400, 16  # characters and words of a query
CHECKED = 300  # hits of a phrase's words that are checked for the phrase at once, unless they are long
TIMEOUT = 2000  # milliseconds of the statement
SNIPPET, BEFORE = 240, 60  # characters, and those of them before the first hit
MOST_HITS = 20  # marked in a snippet
# As in the migration that has the function message_words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_RUN = re.compile(f"[{_UNSPACED}]+")
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_COUNTED = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")  # PostgreSQL parts words at underscores
_LETTER = rf"[^\W{_UNSPACED}]"
# Blanks and signs, for RE2: its class of all that are no letters is 25 times as large, and many make no automaton.
_SIGNS = (
    r"\x00-/:-@\[-^`{-\x{a9}\x{ab}-\x{b1}\x{b4}\x{b6}-\x{b8}\x{bb}\x{bf}\x{d7}\x{f7}\x{5be}\x{60c}\x{61b}\x{61f}\x{6d4}"
    r"\x{964}\x{965}\x{1361}-\x{1368}\x{2000}-\x{206f}\x{20a0}-\x{20cf}\x{2190}-\x{2bff}\x{3000}-\x{3004}"
    r"\x{3008}-\x{3020}\x{ff00}-\x{ff0f}\x{1f000}-\x{1faff}"
)
_EDGE = rf"(?:^|$|[{_SIGNS}{_UNSPACED}])"
_SQL = """
    SELECT found.id, found.hit, message.seq, message.role,
        CASE WHEN found.hit THEN message_text(message.content) END, message.created_at,
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

    Replaced messages are left out. Raises InvalidRequest for a query that is too long, Unavailable for one that takes
    too much time. In a transaction TIMEOUT holds for its rest as well.
    """
    authorize(actor, "session.view")
    _check(q)
    query = _Query.of(q)
    kind, person = (actor.kind, actor.id) if is_confined(actor) else (None, None)
    given = [query.sought, query.beginning, kind, person, before, limit + 1, CHECKED, actor.tenant_id]
    rows = _rows(given)
    found = [row for row in rows if row[1]]
    looked_at = next((row[0] for row in rows if row[1] is None), None)  # of a phrase, and older ones may have it
    before = found[limit - 1][0] if len(found) > limit else looked_at
    return HitPage([_hit(query, row) for row in found[:limit]], before)


def _check(q: str) -> None:
    if len(q) > LONGEST:
        raise InvalidRequest(f"q has at most {LONGEST} characters.", code="query_too_long", param="q")
    if len(_COUNTED.findall(q)) > MOST_WORDS:
        message = (
            f"q has at most {MOST_WORDS} words, counting the parts of an address or a number with signs in it, and "
            "each character of a language that writes no blanks between words. Search for fewer of them."
        )
        raise InvalidRequest(message, code="query_too_long", param="q")


def _rows(given: Sequence[Any]) -> list[tuple[Any, ...]]:
    try:
        with transaction.atomic(savepoint=False), connection.cursor() as cursor:
            connection.send_later(f"SET LOCAL statement_timeout = {TIMEOUT}")  # type: ignore[attr-defined]  # core.db's
            cursor.execute(_SQL, given)
            return list(cursor.fetchall())
    except OperationalError as error:
        if not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise
        message = f"The search took more than {TIMEOUT / 1000:g} s: ask for fewer or rarer words, or for no phrase."
        raise Unavailable(message, code="search_timeout") from None


def _hit(query: "_Query", row: Sequence[object]) -> Hit:
    id_, _, seq, role, text, created_at, session_id, external_id, title = row
    snippet, hits = _snippet(str(text or ""), query)
    return Hit(id_, seq, role, created_at, session_id, external_id, title, snippet, hits)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Query:
    """`sought` is in the language of websearch_to_tsquery; words begin with `beginning`, which may be empty.

    `place` finds in a text the first of what is sought, about as PostgreSQL does and in linear time; `pattern` finds
    all of it in something as short as a snippet.
    """

    sought: str
    beginning: str
    place: Any  # RE2's
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, q: str) -> "_Query":
        sought, beginning = _split(q)
        given = [(_PIECE.findall(part), False) for part in _wanted(sought)] + [(_PIECE.findall(beginning), True)]
        phrases = [(phrase, is_open) for phrase, is_open in given if phrase]
        pattern = "|".join(_exact(*each) for each in phrases) or "(?!)"
        place = _linear("|".join(_rough(*each) for each in phrases))
        return cls(_spaced(sought), beginning, place, re.compile(pattern))


def _linear(pattern: str) -> Any:
    import re2  # here: 10 ms and memory that only some servers need

    options = re2.Options()
    options.never_capture = True  # so that the linear automaton suffices
    options.case_sensitive = options.log_errors = False
    try:
        return re2.compile(pattern, options)
    finally:
        re2.purge()  # its cache would keep some megabytes for each of 128 patterns


def _split(q: str) -> tuple[str, str]:
    """The last word apart, of which a beginning is enough; not within quotes, after a minus or an OR, nor of one
    letter: the index has the words of all tenants, and would gather most of them.
    """
    head, _, last = q.rstrip().rpartition(" ")
    whole = q.count('"') % 2 or '"' in last or last.startswith("-") or q != q.rstrip() or _RUN.search(last)
    if whole or not re.search(r"[^\W_]{2}[\W_]*$", last) or head.lower().split()[-1:] == ["or"]:
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


def _exact(phrase: Sequence[str], is_open: bool) -> str:
    """Python's pattern of a phrase; behind one that is open its last word may go on.

    Only the words ignore case: to make classes as large as _LETTER do so takes twice as long.
    """
    edge = rf"(?!{_LETTER})"
    words = [piece if _RUN.match(piece) else rf"(?<!{_LETTER})(?i:{piece}){edge}" for piece in phrase]
    return r"\W*".join(words).removesuffix(edge if is_open else "")


def _rough(phrase: Sequence[str], is_open: bool) -> str:
    """RE2's pattern of the same, which may have a character before and behind it too."""
    first, last = (not _RUN.match(piece) for piece in (phrase[0], phrase[-1]))
    return f"{_EDGE * first}{f'[{_SIGNS}]*'.join(phrase)}{_EDGE * (last and not is_open)}"


def _snippet(text: str, query: _Query) -> tuple[str, list[tuple[int, int]]]:
    """A piece of the text from before its first hit, in one line, and the places of hits in it."""
    first = query.place.search(text)
    near = first.start() if first else 0
    begin = query.pattern.search(text, near, near + SNIPPET)
    start = max(0, (begin.start() if begin else near) - BEFORE)
    piece = re.sub(r"\s", " ", text[start : start + SNIPPET])
    return piece, [found.span() for found in islice(query.pattern.finditer(piece), MOST_HITS)]
