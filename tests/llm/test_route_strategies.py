"""Each strategy by itself: targets and facts in, the order and its reasons out."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from random import Random
from time import perf_counter
from typing import Any

import pytest

from llm.exceptions import RouteEmpty
from llm.providers.base import ProviderConnection
from llm.routing import STRATEGIES
from llm.routing.base import Candidate, Keyed
from llm.routing.cel import MAX_RULE, RuleFault, check_rule, known_to_rules, matches
from llm.routing.features import Features
from llm.routing.routed import MAX_REASON, KeyedTarget, RoutedTarget
from llm.targets import Endpoint, ModelTarget
from llm.wire import ChatRequest


class Known:
    """Facts that a test states, by the name of the model (`p/a`) or of one of its keys (`p/a@key`)."""

    def __init__(self, seed: int = 1, **facts: dict[str, Any]) -> None:
        self._facts = facts
        self._random = Random(seed)

    def _of(self, fact: str, endpoint: Endpoint, default: Any) -> Any:
        found = self._facts.get(fact, {})
        name = f"{endpoint.provider}/{endpoint.model}"
        return found.get(f"{name}@{endpoint.key}", found.get(name, default))

    def cost(self, target: ModelTarget, input_tokens: int, output_tokens: int) -> Decimal | None:
        price = self._facts.get("price", {}).get(target.name)
        if price is None:
            return None
        return (Decimal(price[0]) * input_tokens + Decimal(price[1]) * output_tokens) / 1_000_000

    def first_token_ms(self, endpoint: Endpoint) -> float | None:
        return self._of("first_token_ms", endpoint, None)

    def in_flight(self, endpoint: Endpoint) -> int:
        return self._of("in_flight", endpoint, 0)

    def is_open(self, endpoint: Endpoint) -> bool:
        return self._of("open", endpoint, False)

    def room_left(self, endpoint: Endpoint) -> float:
        return self._of("room", endpoint, 1.0)

    def lacks(self, target: ModelTarget, needs: frozenset[str]) -> str:
        lacking = needs - self._facts.get("takes", {}).get(target.name, needs)
        return min(lacking, default="")

    def roll(self) -> float:
        return self._random.random()


def candidate(model: str, *keys: str, **fields: Any) -> Candidate:
    connections = [ProviderConnection("p", "scripted", key_id=key) for key in keys or ("",)]
    return Candidate(tuple(Keyed(ModelTarget(c, model), c.key_id) for c in connections), **fields)


def features(text: str = "Hello", *, sticky: str = "", metadata: Any = None, **params: Any) -> Features:
    return Features(ChatRequest("", [{"role": "user", "content": text}], params), sticky=sticky, metadata=metadata)


def route(strategy: str, *candidates: Candidate, facts: Any = None, **settings: Any) -> RoutedTarget:
    return RoutedTarget("r", strategy, candidates, facts or Known(), settings)


def order(target: RoutedTarget, asked: Features | None = None) -> list[tuple[str, str]]:
    return [(leg.target.model, leg.reason) for leg in target.legs(asked or features())]


def models(target: RoutedTarget, asked: Features | None = None) -> list[str]:
    return [model for model, _ in order(target, asked)]


A, B, C = candidate("a"), candidate("b"), candidate("c")


def test_fallback_is_the_listed_order() -> None:
    assert order(route("fallback", A, B)) == [("a", "fallback: number 1 of 2"), ("b", "fallback: number 2 of 2")]


def test_weighted_draws_by_weight_and_keeps_the_rest() -> None:
    """Within 1.5 % of 10,000 calls; a target of weight 0 is never first."""
    target = route("weighted", candidate("a", weight=70), candidate("b", weight=30), candidate("c", weight=0))
    firsts: Counter[str] = Counter()
    for _ in range(10_000):
        ordered = models(target)
        assert sorted(ordered) == ["a", "b", "c"]
        assert ordered[2] == "c"
        firsts[ordered[0]] += 1
    assert abs(firsts["a"] / 10_000 - 0.7) < 0.015
    assert order(target)[0][1].startswith("weighted: drawn with weight ")


def test_the_cheapest_for_the_size_of_the_request() -> None:
    """`a` is cheap to ask and dear to hear: the longer the answer, the sooner `b` is the cheaper one."""
    facts = Known(price={"p/a": ("0.1", "10"), "p/b": ("3", "1")})
    target = route("lowest_cost", C, B, A, facts=facts, output_tokens=100)
    assert models(target, features("word " * 8000)) == ["a", "b", "c"]
    assert models(target, features("word")) == ["b", "a", "c"]
    assert models(target, features("word " * 8000, max_tokens=2)) == ["a", "b", "c"]
    reasons = [reason for _, reason in order(target, features("x" * 39_596))]
    assert reasons == [
        "lowest cost: $0.20/M before $2.98/M",
        "lowest cost: $2.98/M before an unknown price",
        "lowest cost: an unknown price",
    ]


def test_unknown_prices_stay_in_their_order() -> None:
    assert models(route("lowest_cost", B, A)) == ["b", "a"]


def test_free_is_cheaper_than_anything() -> None:
    facts = Known(price={"p/a": ("0.000001", "0"), "p/b": ("0", "0")})
    assert order(route("lowest_cost", A, B, facts=facts))[0] == ("b", "lowest cost: $0.00/M before $0.0000/M")


def test_the_soonest_first_token() -> None:
    facts = Known(first_token_ms={"p/a": 900.0, "p/b": 120.4})
    ordered = order(route("lowest_latency", A, B, C, facts=facts, explore=0.0))
    assert ordered == [
        ("b", "lowest latency: first token in about 120 ms"),
        ("a", "lowest latency: first token in about 900 ms"),
        ("c", "lowest latency: its time is not known"),
    ]


def test_unknown_targets_are_explored_at_the_rate() -> None:
    target = route("lowest_latency", A, B, C, facts=Known(first_token_ms={"p/a": 50.0}), explore=0.1)
    firsts = Counter(models(target)[0] for _ in range(10_000))
    assert abs(firsts["a"] / 10_000 - 0.9) < 0.015
    assert abs(firsts["b"] - firsts["c"]) < 200
    explored = next(found for found in (order(target) for _ in range(1000)) if found[0][0] != "a")
    assert explored[0][1] == "lowest latency: tried to learn its time"
    assert models(route("lowest_latency", B, A, explore=1.0)) == ["b", "a"]  # nothing is known: as they are listed


def test_a_target_is_as_fast_as_its_fastest_key() -> None:
    facts = Known(first_token_ms={"p/a": 300.0, "p/b@slow": 500.0, "p/b@fast": 100.0})
    assert models(route("lowest_latency", A, candidate("b", "slow", "fast"), facts=facts))[0] == "b"


def test_the_fewest_calls_under_way_by_key() -> None:
    facts = Known(in_flight={"p/a": 3, "p/b": 1, "p/c@1": 1, "p/c@2": 0})
    ordered = order(route("least_busy", A, B, candidate("c", "1", "2"), facts=facts))
    assert [model for model, _ in ordered] == ["c", "c", "b", "a"]
    assert ordered[2:] == [("b", "least busy: 1 call under way"), ("a", "least busy: 3 calls under way")]


def test_idle_targets_share_the_calls() -> None:
    target = route("least_busy", A, B)
    assert set(Counter(models(target)[0] for _ in range(50))) == {"a", "b"}


# --- rules


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


# --- A/B tests


def variants(**weights: int) -> list[Candidate]:
    return [candidate(name, variant=name.upper(), weight=weight) for name, weight in weights.items()]


@cache
def assigned(salt: str = "", route_id: str = "route-1", **weights: int) -> list[str]:
    target = route("ab_test", *variants(**weights), route=route_id, salt=salt)
    return [target.legs(features(sticky=f"person-{number}"))[0].target.model for number in range(10_000)]


def share(found: list[str], name: str) -> float:
    return found.count(name) / len(found)


def test_people_are_spread_by_weight_and_stay() -> None:
    """10,000 people within 1.5 % of the weights; the same person gets the same variant, whatever the order."""
    found = assigned(a=50, b=30, c=20)
    assert abs(share(found, "a") - 0.5) < 0.015
    assert abs(share(found, "b") - 0.3) < 0.015
    assert abs(share(found, "c") - 0.2) < 0.015
    assert assigned(c=20, a=50, b=30) == found
    assert assigned(a=500, b=300, c=200) == found


def test_a_change_of_weights_moves_as_few_as_it_must() -> None:
    """From 50:50 to 60:40 a tenth of the people must move, all of them from b to a."""
    before, after = assigned(a=50, b=50), assigned(a=60, b=40)
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {("b", "a")}
    assert abs(len(moved) / 10_000 - 0.1) < 0.015


def test_a_new_variant_takes_from_each_by_its_share() -> None:
    before, after = assigned(a=50, b=50), assigned(a=50, b=50, c=100)
    moved = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    assert set(moved) == {("a", "c"), ("b", "c")}
    assert abs(sum(moved.values()) / 10_000 - 0.5) < 0.015


def test_another_salt_or_route_assigns_anew() -> None:
    before = assigned(a=50, b=50)
    for other in (assigned(a=50, b=50, salt="2"), assigned(a=50, b=50, route_id="route-2")):
        same = sum(old == new for old, new in zip(before, other, strict=True))
        assert abs(same / 10_000 - 0.5) < 0.02


def test_fallbacks_count_for_the_assigned_variant() -> None:
    legs = route("ab_test", *variants(a=1, b=1, c=0)).legs(features(sticky="\ud800 olga"))
    first = legs[0].target.model.upper()
    assert [leg.variant for leg in legs] == [first] * 3
    assert [leg.reason for leg in legs] == [f"A/B test: assigned to {first}"] + [f"A/B test: a fallback of {first}"] * 2
    assert legs[2].target.model == "c"


def test_without_somebody_to_stick_to_each_call_is_spread() -> None:
    target = route("ab_test", *variants(a=1, b=1))
    assert len({target.legs(features())[0].target.model for _ in range(50)}) == 2


# --- what every strategy shares


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_in_trouble_comes_last(strategy: str) -> None:
    """Whatever the strategy: the closed and healthy first, then those that failed a test, then the open ones."""
    weights = {"a": 1_000_000, "b": 1000, "c": 1}
    targets = [candidate(name, variant=name, weight=weight, failing=name == "b") for name, weight in weights.items()]
    legs = route(strategy, *targets, facts=Known(open={"p/a": True})).legs(features(sticky="olga"))
    assert [leg.target.model for leg in legs] == ["c", "b", "a"]
    assert legs[1].reason.endswith(", late: its provider failed the last test")
    assert legs[2].reason.endswith(", last: its breaker is open")


def test_what_a_model_does_not_take_comes_late() -> None:
    facts = Known(takes={"p/a": {"tools"}})
    asked = features(tools=[{}], response_format={"type": "json_schema"})
    assert order(route("fallback", A, B, facts=facts), asked) == [
        ("b", "fallback: number 2 of 2"),
        ("a", "fallback: number 1 of 2, late: it takes no json_schema"),
    ]
    assert models(route("fallback", A, B, facts=facts)) == ["a", "b"]


def test_keys_by_what_their_limits_have_left() -> None:
    keys = candidate("a", "main", "eu", "us")
    facts = Known(room={"p/a@main": 0.1, "p/a@eu": 0.8, "p/a@us": 0.9}, open={"p/a@us": True})
    legs = route("fallback", keys, B, facts=facts).legs(features())
    assert [(leg.target.model, leg.target.connection.key_id) for leg in legs] == [
        ("a", "eu"),
        ("a", "main"),
        ("b", ""),
        ("a", "us"),
    ]
    assert legs[0].reason == "fallback: number 1 of 2, key eu"
    assert legs[3].reason == "fallback: number 1 of 2, key us, last: its breaker is open"
    alone = KeyedTarget(keys.keys, facts)
    plan = alone.plan(ChatRequest("a", []), None)  # type: ignore[arg-type]
    assert [leg.target.endpoint.key for leg in plan.legs] == ["eu", "main", "us"]
    assert (alone.name, alone.model, plan.route) == ("p/a", "a", "")


def test_keys_without_limits_share_the_calls() -> None:
    keys = candidate("a", "1", "2")
    facts = Known()
    firsts = Counter(route("fallback", keys, facts=facts).legs(features())[0].target.endpoint.key for _ in range(200))
    assert min(firsts["1"], firsts["2"]) > 50


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_reasons_are_short_and_plans_are_cheap(strategy: str) -> None:
    rule = " || ".join(["tools == 0"] * 30)
    named = [candidate(f"model-{n}" * 20, "k" * 63, variant=f"{n}" * 63, rule=rule) for n in range(20)]
    target = route(strategy, *named, facts=Known(open={candidate.name: True for candidate in named}))
    asked = features("word " * 100)
    started = perf_counter()
    for _ in range(20):
        legs = target.legs(asked)
    assert (perf_counter() - started) / 20 < 0.02
    assert len(legs) == 20
    assert max(len(leg.reason) for leg in legs) <= MAX_REASON


def test_a_route_with_nothing_to_try_says_so() -> None:
    context: Any = type("Context", (), {"sticky": "", "metadata": {}})()
    target = route("by_rule", candidate("a", rule="tools > 0"))
    with pytest.raises(RouteEmpty) as empty:
        target.plan(ChatRequest("", []), context)
    assert (empty.value.status, empty.value.code, empty.value.param) == (503, "route_empty", "model")
    plan = route("fallback", A).plan(ChatRequest("", []), context)
    assert (plan.route, plan.continues, [leg.target.name for leg in plan.legs]) == ("r", False, ["p/a"])
