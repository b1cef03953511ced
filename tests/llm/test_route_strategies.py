"""Each strategy by itself: targets and facts in, the order and its reasons out."""

from collections import Counter
from time import perf_counter
from typing import Any

import pytest

from llm.exceptions import RouteEmpty
from llm.routing import STRATEGIES
from llm.routing.routed import MAX_REASON, KeyedTarget
from llm.wire import ChatRequest
from tests.llm.routing import A, B, C, Known, candidate, features, models, order, route


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
