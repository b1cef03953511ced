"""A/B tests: everybody is assigned by weight, and stays."""

from collections import Counter
from functools import cache

from llm.routing.base import Candidate
from tests.llm.routing import candidate, features, route


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
