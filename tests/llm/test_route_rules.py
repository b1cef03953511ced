"""Rules of routes: what they see, what they may be, and what hostile ones cost."""

from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest

from llm.routing.cel import MAX_RULE, RuleFault, check_rule, known_to_rules, matches
from llm.routing.features import Features
from llm.wire import ChatRequest
from tests.llm.routing import B, candidate, features, models, order, route


def test_the_first_rule_that_is_met() -> None:
    target = route(
        "by_rule",
        candidate("vision", rule="images > 0"),
        candidate("long", rule="input_tokens > 1000 && metadata.tier == 'gold'"),
        candidate("other"),
    )
    assert order(target) == [("other", "by rule: takes what no rule before it took")]
    long = features("x" * 8000, metadata={"tier": "gold"})
    assert order(target, long)[0] == ("long", "by rule: input_tokens > 1000 && metadata.tier == 'gold'")
    picture = [{"type": "image_url", "image_url": {"url": "data:"}}]
    asked = Features(ChatRequest("", [{"role": "user", "content": picture}]))
    assert models(target, asked) == ["vision", "other"]


def test_what_rules_see() -> None:
    content = [
        {"type": "text", "text": "x" * 400},
        {"type": "input_audio", "input_audio": {}},
        {"type": "file", "file": {}},
    ]
    request = ChatRequest(
        "",
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": content}],
        {"tools": [{}, {}], "max_tokens": 50, "response_format": {"type": "json_schema"}},
    )
    now = datetime(2026, 11, 27, 23, 5, tzinfo=UTC)  # a Friday
    found = Features(request, metadata={"user_id": "u-1", "agent": "support", "tags": ["vip"]}, now=now)
    assert known_to_rules(found) == {
        "messages": 2,
        "input_tokens": 103,
        "max_tokens": 50,
        "tools": 2,
        "images": 0,
        "audio": 1,
        "documents": 1,
        "response_format": "json_schema",
        "user": "u-1",
        "agent": "support",
        "hour": 23,
        "weekday": 5,
        "metadata": {"user_id": "u-1", "agent": "support", "tags": ["vip"]},
    }
    for rule in (
        "'vip' in metadata.tags",
        "metadata.tags.exists(t, t.startsWith('v'))",
        "hour >= 22 || weekday > 5",
        "!has(metadata.tier)",
    ):
        check_rule(rule)
        assert matches(rule, known_to_rules(found)), rule


@pytest.mark.parametrize(
    "rule",
    ["1 / 0 == 1", "metadata.n / metadata.zero > 1", "metadata.missing == 1", "'text'", "messages", "'a' < 1", "null"]
    + ["9223372036854775807 + messages > 0", "metadata.list[7] == 1", "metadata.n.x.y == 1"],
)
def test_a_rule_that_fails_is_not_met(rule: str) -> None:
    check_rule(rule)
    asked = features(metadata={"n": 1, "zero": 0, "list": []})
    assert matches(rule, known_to_rules(asked)) is False
    assert models(route("by_rule", candidate("a", rule=rule), B), asked) == ["b"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("messages >", "at line 1, column 11"),
        ("tools > 0 &&\n  || images", "at line 2, column 3"),
        ("mesages > 1", "'mesages' is not known at line 1, column 1"),
        ("tools > 0\n  && colour == 'red'", "'colour' is not known at line 2, column 6"),
        ("user.matches('(a+)+$')", "'matches' is not known at line 1, column 6"),
        ("[1].all(x, [2].all(y, true))", "through a list once"),
        ("[metadata.l + metadata.l].all(x, true)", "adds nothing"),
        ("1" * (MAX_RULE + 1), f"at most {MAX_RULE} characters; this one has {MAX_RULE + 1}"),
        ("(" * 40_000 + "1" + ")" * 40_000, "this one has 80001"),
        ("[" * 249 + "]" * 249, "no CEL expression"),
        ("f(" * 160 + ")" * 160, "no CEL expression"),
    ],
)
def test_what_no_rule_may_be(rule: str, said: str) -> None:
    with pytest.raises(RuleFault) as refused:
        check_rule(rule)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "rule",
    [
        "!" * 494 + "images",
        "1+" * 249 + "1 > 0",
        "metadata" + ".a" * 245,
        "metadata.big.contains('b') || metadata.big.endsWith('c')",
        f"metadata.many.all(x, !({' || '.join(['x in metadata.many'] * 18)}))",
        f"metadata.deep.all(x, {' && '.join(['x in metadata.deep'] * 18)})",
    ],
)
def test_hostile_rules_and_metadata_cost_little(rule: str) -> None:
    """A pass over what a hostile client sends, by the worst that a hostile rule may do with it."""
    check_rule(rule[:MAX_RULE])
    deep = [["a" * 1000] * 22] * 22
    asked = features(metadata={"big": "a" * 10_000_000, "many": list(map(str, range(100_000))), "deep": deep})
    started = perf_counter()
    matches(rule[:MAX_RULE], known_to_rules(asked))
    assert perf_counter() - started < 0.5


def test_metadata_of_a_hostile_client_is_cut() -> None:
    nested: Any = "end"
    for _ in range(60):
        nested = {"x": nested}
    asked = features(metadata={"big": "a" * 10_000_000, "nested": nested, "huge": 2**70, "bad": "\ud800\0"})
    known = known_to_rules(asked)["metadata"]
    assert len(known["big"]) == 1000
    assert known["nested"] == {"x": {"x": {"x": None}}}
    assert known["huge"] is None
    assert matches("metadata.bad != '' && metadata.bad != 'x'", {"metadata": known})
