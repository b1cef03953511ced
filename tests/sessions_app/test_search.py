"""Search in what was said, over REST."""

from typing import Any

import pytest
from django.db import connections

from core.ids import uuid7
from core.tenant import tenant_context
from sessions_app.models import ChatSession, Message
from sessions_app.selectors import search
from sessions_app.selectors.search import CHECKED, message_search
from sessions_app.services.sessions import messages_append, session_create
from sessions_app.tasks import tidy_search
from tenants.models import Tenant
from tenants.principal import Principal
from tests.conftest import Actor

pytestmark = pytest.mark.django_db


def talk(actor: Actor, *contents: Any, role: str = "user", title: str = "") -> ChatSession:
    with tenant_context(actor.tenant.id):
        session = session_create(actor=actor.principal, title=title)
        messages = [{"role": role, "content": content} for content in contents]
        messages_append(session=session, messages=messages, run_id=uuid7())
    return session


def found(actor: Actor, q: str, **query: Any) -> list[str]:
    return [row["snippet"] for row in rows(actor, q, **query)["data"]]


def rows(actor: Actor, q: str, **query: Any) -> Any:
    answer = actor.get("search", q=q, **query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_words_are_found_newest_first_with_their_places(owner: Actor, viewer: Actor, stranger: Actor) -> None:
    first = talk(owner, "The invoice of May is late.", title="Money")
    talk(owner, "Where is the INVOICE?", [{"type": "text", "text": "An invoice in a part"}])
    talk(stranger, "An invoice of theirs")
    assert found(owner, "invoice") == ["An invoice in a part", "Where is the INVOICE?", "The invoice of May is late."]
    assert found(viewer, "invoice late") == ["The invoice of May is late."]
    assert found(stranger, "invoice") == ["An invoice of theirs"]
    hit = rows(owner, "late")["data"][0]
    assert hit["session"] == {"id": str(first.id), "external_id": None, "title": "Money"}
    assert (hit["seq"], hit["role"], hit["hits"]) == (1, "user", [[22, 26]])
    assert hit["message_id"] == str(message_of(first).id)


def message_of(session: ChatSession) -> Message:
    with tenant_context(session.tenant_id):
        return Message.objects.get(tenant_id=session.tenant_id, session_id=session.id, seq=1)


@pytest.mark.parametrize(
    ("q", "hits"),
    [
        ("inv", ["paid the invoice at once"]),
        ("inv paid", []),  # only of the last word a beginning is enough
        ("paid inv", ["paid the invoice at once"]),
        ('"the invoice"', ["paid the invoice at once"]),
        ('"invoice the"', []),
        ("paid -invoice", ["paid nothing"]),
        ('paid -"invoice the"', ["paid nothing", "paid the invoice at once"]),
        ('paid -"the invoice"', ["paid nothing"]),
        ("nothing or invoice", ["paid nothing", "paid the invoice at once"]),
        ("Straße", ["Die straße nach Ägypten"]),
        ("ägyp", ["Die straße nach Ägypten"]),
        ("東京", ["私は東京に行きました"]),
        ("京都", []),
        ("привет", ["Скажи: ПРИВЕТ, мир"]),
        ("p", []),  # nor is one letter a beginning
        ("paid n", []),
        ("jane@e", []),
        ("東", ["私は東京に行きました"]),
        ("jane@example.com", ["Mail jane@example.com today"]),
        ("don't panic", ["Now don't panic!"]),
        ("-paid", []),
        ("!!! & | ( :*", []),
        ("'; DROP TABLE message; --", []),
        ("", []),
        ('"', []),
    ],
)
def test_what_a_query_may_say(owner: Actor, q: str, hits: list[str]) -> None:
    talk(
        owner,
        "paid the invoice at once",
        "paid nothing",
        "Die straße nach Ägypten",
        "私は東京に行きました",
        "Скажи: ПРИВЕТ, мир",
        "Mail jane@example.com today",
        "Now don't panic!",
    )
    assert found(owner, q) == hits


def test_only_text_is_searched_and_any_message_can_be_stored(owner: Actor) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo"}}
    many = " ".join(f"w{number}" for number in range(200_000))
    odd = ["x" * 1_500_000, many, "😀-é-" * 200_000, "a.b/c?d " * 100_000, "東京" * 400_000]
    talk(owner, [picture, {"type": "text", "text": "a cat"}, "loose"], None, 7, {"a": 1}, *odd)
    assert found(owner, "cat") == ["a cat"]
    for q in ("iVBORw0KGgo", "base64", "image_url", "loose", "w199999"):
        assert found(owner, q) == []
    assert found(owner, "w1000")[0].startswith("w")


def test_a_word_cannot_name_another_tenant_or_session(owner: Actor, stranger: Actor) -> None:
    session = talk(stranger, "secret")
    for q in (f"t {session.tenant_id}", f"'t {session.tenant_id}'", f'"s {session.id}"', f"{session.id}"):
        assert found(owner, q) == []
    assert found(owner, f"secret or {session.tenant_id}") == []


def test_replaced_messages_are_left_out_and_archived_sessions_are_not(owner: Actor) -> None:
    session = talk(owner, "old plan", "new plan")
    with tenant_context(owner.tenant.id):
        Message.objects.filter(session=session, seq=1).update(replaced_by=uuid7())
        ChatSession.objects.update(status="archived")
    assert found(owner, "plan") == ["new plan"]


def test_pages_follow_each_other(owner: Actor, django_assert_num_queries: Any) -> None:
    session = talk(owner, *[f"plan {number}" for number in range(7)])
    rows(owner, "plan")  # which looks the key up
    with django_assert_num_queries(1):
        page = rows(owner, "plan", limit=3)
    said = [row["snippet"] for row in page["data"]]
    while page["has_more"]:
        page = rows(owner, "plan", limit=3, cursor=page["next_cursor"])
        said += [row["snippet"] for row in page["data"]]
    assert said == [f"plan {number}" for number in reversed(range(7))]
    assert (page["next_cursor"], session.last_seq) == (None, 7)


def test_a_phrase_is_looked_for_page_by_page(owner: Actor) -> None:
    talk(owner, "red fox", *["fox red"] * (CHECKED + 10))
    page = rows(owner, '"red fox"')
    assert (page["data"], page["has_more"]) == ([], True)
    page = rows(owner, '"red fox"', cursor=page["next_cursor"])
    assert ([row["snippet"] for row in page["data"]], page["has_more"]) == (["red fox"], False)


def test_of_long_messages_fewer_are_checked_for_a_phrase(owner: Actor) -> None:
    talk(owner, "red fox", *["fox or red or " * 3_500] * 30)
    page = rows(owner, '"red fox"')
    assert (page["data"], page["has_more"]) == ([], True)
    page = rows(owner, '"red fox"', cursor=page["next_cursor"])
    assert ([row["snippet"] for row in page["data"]], page["has_more"]) == (["red fox"], False)


def test_a_query_has_few_words(owner: Actor) -> None:
    talk(owner, "red fox")
    for many in ("z " * 17, f'"{"z " * 17}"', "z-" * 17, "z_" * 17, "-z " * 17, "東" * 17, "red or " * 17):
        answer = owner.get("search", q=many)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "query_too_long"), many
        assert "at most 16 words" in answer.json()["error"]["message"]
    assert found(owner, " or ".join(["fox"] * 8)) == ["red fox"]


@pytest.mark.slow
def test_the_longest_questions_of_the_longest_messages_are_answered(owner: Actor) -> None:
    """Patterns that try each of their words at each place of a text, or go on from each anew, would take minutes."""
    words = [f"{'z' * 20}{number}" for number in range(15)]
    text = "z  " * 16_000 + f"y {' '.join(words)} end"
    talk(owner, *[text] * 100)
    queries = {" ".join([*words, "en"]): words[0], f'"{" ".join(["y", *words])}"': " ".join(["y", *words])[:170]}
    for q, sought in queries.items():
        page, data = rows(owner, q, limit=100), []
        while page["has_more"]:
            data += page["data"]
            page = rows(owner, q, limit=100, cursor=page["next_cursor"])
        data += page["data"]
        assert len(data) == 100
        assert all(sought in hit["snippet"] for hit in data)


def test_a_search_that_takes_too_long_is_ended(owner: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TIMEOUT", 50)
    monkeypatch.setattr(search, "_SQL", f"SELECT pg_sleep(600){', %s' * 8}")
    answer = owner.get("search", q="plan")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "search_timeout")
    assert "fewer or rarer words" in answer.json()["error"]["message"]


def test_one_letter_is_no_beginning_in_the_database_either(owner: Actor, acme: Tenant) -> None:
    talk(owner, "plan")
    with tenant_context(acme.id), connections["default"].cursor() as cursor:
        for beginning, hits in (("p", 0), ("pl", 1)):
            cursor.execute("SELECT count(*) FROM message_search('', %s, NULL, NULL, NULL, 10, 10)", [beginning])
            assert cursor.fetchone() == (hits,)


def test_bad_questions(owner: Actor) -> None:
    for query in ({"q": "x" * 401}, {"q": "x", "limit": 0}, {"q": "x", "cursor": "bm9uc2Vuc2U"}, {"q": "a\0b"}):
        assert owner.get("search", **query).status_code == 400
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM message_search('x', '', NULL, NULL, NULL, 10, 10)")  # in no tenant
        assert cursor.fetchone() == (0,)


def test_confined_people_find_what_they_take_part_in(owner: Actor, acme: Tenant) -> None:
    mine, theirs = talk(owner, "my plan"), talk(owner, "their plan")
    person = uuid7()
    member = Principal(acme.id, acme.slug, "user", person, "Ann", "member")
    assert search_as(member, "plan") == []
    with tenant_context(acme.id):
        mine.participants.create(tenant=acme, person_kind="user", person_id=person, label="Ann", role="viewer")
        theirs.participants.create(tenant=acme, person_kind="guest", person_id=person, label="Ann", role="viewer")
    assert search_as(member, "plan") == ["my plan"]
    assert search_as(Principal(acme.id, acme.slug, "guest", person, "Ann", "member"), '"their plan"') == ["their plan"]
    operator = Principal(acme.id, acme.slug, "user", person, "Ann", "operator")
    assert search_as(operator, "plan") == ["their plan", "my plan"]


def search_as(actor: Principal, q: str) -> list[str]:
    with tenant_context(actor.tenant_id):
        return [hit.snippet for hit in message_search(actor=actor, q=q).hits]


def test_the_index_is_used(owner: Actor, acme: Tenant) -> None:
    """By the function's role, since the policies of others keep it from the index."""
    talk(owner, *["plan"] * 300)
    words = "message_words(tenant_id, session_id, content) @@ websearch_to_tsquery('simple', 'plan')"
    with tenant_context(acme.id), connections["default"].cursor() as cursor:
        cursor.execute("SET LOCAL ROLE app_owner; SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
        cursor.execute(f"EXPLAIN SELECT id FROM message WHERE {words}")  # noqa: S608
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Bitmap Index Scan on message_search" in plan, plan


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_new_words_are_sorted_in_by_a_job(owner: Actor) -> None:
    talk(owner, "a late plan")
    tidy_search()
    tidy_search()
    assert found(owner, "plan") == ["a late plan"]
