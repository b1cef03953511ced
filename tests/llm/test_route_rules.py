"""Rules of routes: what they see, what they may be, and what hostile ones cost."""

import random
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
    found = Features(request, metadata={"user_id": "u-1", "agent": "support", "plan": "vip"}, now=now)
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
        "metadata": {"user_id": "u-1", "agent": "support", "plan": "vip"},
    }
    for rule in (
        "metadata.plan in ['gold', 'vip']",
        "'plan' in metadata && metadata['plan'].startsWith('v')",
        "user != 'metadata' && user != 'all'",
        "hour >= 22 || weekday > 5",
        "!has(metadata.tier)",
    ):
        check_rule(rule)
        assert matches(rule, known_to_rules(found)), rule


@pytest.mark.parametrize(
    "rule",
    [
        "1 / 0 == 1",
        "int(metadata.n) / int(metadata.zero) > 1",
        "metadata.missing == 1",
        "'text'",
        "messages",
        "'a' < 1",
        "null",
    ]
    + ["9223372036854775807 + messages > 0", "[1][7] == 1", "metadata.n.x.y == 1"],
)
def test_a_rule_that_fails_is_not_met(rule: str) -> None:
    check_rule(rule)
    asked = features(metadata={"n": "1", "zero": "0"})
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
        ("[1].all(x, true)", "'all' is not possible at line 1, column 5"),
        ("[1].map // (\n (x, x) == []", "'map' is not possible"),
        ("metadata.exists_one(k, k == 'tier')", "goes through no list"),
        ("[" + "0," * 225 + "0].map(x,metadata)==[]", "goes through no list"),
        ("metadata.a.map(x, metadata)==[]", "goes through no list"),
        (f"metadata.a.all(x, {' && '.join(['metadata.a == metadata.a'] * 16)})", "goes through no list"),
        ("metadata.a.filter(x, x in metadata.a) == []", "goes through no list"),
        ("[metadata] + [metadata] == []", "for single keys"),
        ("metadata == metadata", "for single keys"),
        ("'a' in dyn(metadata)", "for single keys"),
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


PAIRS = {f"{name:x<64}": "a" * 511 + name for name in "cdefghijklmnop"} | {"a": "a" * 512, "b": "a" * 511 + "b"}
WORST = (
    "!" * 490 + "(hour>0)",
    "1+" * 245 + "1 > 0",
    "metadata" + ".a" * 245,
    "+".join(["metadata.a"] * 44) + "==''",
    "||".join(["metadata.a.contains(metadata.b)"] * 15),
    "||".join(["metadata.a<metadata.b"] * 21),
    "+".join(["[metadata.a]"] * 37) + "==[]",
    "+".join(["[{1:user}]"] * 44) + "==[]",
    "+".join(["[[0]]"] * 82) + "==[]",
    "+".join(["[{1:1}]"] * 62) + "==[]",
    "||".join(["user in metadata"] * 25),
    f"user in [{','.join(['agent'] * 80)}]",
    "+".join(["string(user)"] * 37) + "==''",
    "[" + "0," * 245 + "0]==[]",
)


def costs(rule: str, known: dict[str, Any]) -> float:
    """The least seconds of some tries."""
    took = []
    for _ in range(5):
        began = perf_counter()
        matches(rule, known)
        took.append(perf_counter() - began)
    return min(took)


def test_the_worst_rules_cost_little_more_than_the_plainest() -> None:
    known = known_to_rules(features(metadata={**PAIRS, "user_id": "u" * 512, "agent": "u" * 512}))
    plain = costs("hour >= 0", known)
    for rule in WORST:
        check_rule(rule)
        assert costs(rule, known) < 40 * plain, rule


def test_no_rule_that_is_taken_costs_much() -> None:
    """Rules put together by chance from what is dear, each as long as may be."""
    chance = random.Random(4)
    known = known_to_rules(features(metadata={**PAIRS, "user_id": "u" * 512, "agent": "u" * 512}))
    plain = costs("hour >= 0", known)
    taken = [rule for rule in (any_rule(chance) for _ in range(200)) if is_taken(rule)]
    assert len(taken) > 40
    for rule in taken:
        assert costs(rule, known) < 40 * plain, rule


def any_rule(chance: random.Random) -> str:
    atoms = ["metadata", "metadata.a", "metadata['b']", "user", "'x'", "hour", "1", "[0,1]", "{1:user}"]
    forms = ["[{}]", "({}+{})", "{}+{}", "{}=={}", "{} in {}", "{}.contains({})", "string({})", "{}||{}", "{}&&{}"]
    forms += ["{}.map(x,{})", "{}.all(x,{})", "[{},{}]", "{{1:{}}}", "{}<{}", "({}?{}:{})", "size({})", "has({}.a)"]
    form = chance.choice(forms)
    part = chance.choice(atoms)
    for _ in range(chance.randint(1, 3)):
        part = form.replace("{{", "\0").replace("}}", "\1").replace("{}", part).replace("\0", "{").replace("\1", "}")
        form = chance.choice(forms)
    join = chance.choice(["+", "||", "&&", "==", ","])
    rule = join.join([part] * max(1, (MAX_RULE - 8) // (len(part) + len(join))))
    return f"[{rule}]==[]" if join == "," else rule


def is_taken(rule: str) -> bool:
    try:
        check_rule(rule)
    except RuleFault:
        return False
    return True


def test_metadata_is_what_a_chat_may_send() -> None:
    """Whoever asks: a preview takes any JSON, and shows what the rules see of it."""
    sent = {"big": "a" * 513, "list": ["a"] * 490, "number": 1, "n" * 65: "x", "session_id": "s", "when_busy": "queue"}
    sent |= {"bad": "\ud800\0", "agent": "a" * 600} | {f"k{n}": "x" for n in range(20)}
    known = known_to_rules(features(metadata=sent, response_format={"type": "x" * 600}))
    assert len(known["response_format"]) == 512
    kept = [f"k{n}" for n in range(15)]
    assert list(known["metadata"]) == ["bad", *kept, "user_id", "agent"]
    assert known["metadata"]["agent"] == known["agent"] == "a" * 512
    assert matches("metadata.bad != '' && metadata.bad != 'x' && metadata.user_id == ''", known)
