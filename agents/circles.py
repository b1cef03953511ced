"""Agents that ask each other by toolsets of the kind `agents`: who could never be asked, since it would be a circle."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q

from agents.models import Agent
from templates_app.validation import Fault, fault
from toolsets.models import Toolset

ASKER = "agents"  # the kind of toolset that asks agents


class _Others(NamedTuple):
    """Of a tenant: whom each toolset asks, and what toolsets each agent has that is asked or may ask."""

    asks: Mapping[str, list[str]]
    granted: Mapping[str, list[str]]


def asking_faults(tenant_id: UUID, slug: str, toolsets: Sequence[str], found: Mapping[str, Toolset]) -> list[Fault]:
    """Warnings for an agent with these toolsets: calls that are refused when they are made. At most two queries.

    They are no errors, since one toolset may well be that of a whole team, whose agents are all in it.
    """
    asking = [(index, name) for index, name in enumerate(toolsets) if name in found and found[name].kind == ASKER]
    if not asking:
        return []
    others = _others(tenant_id, [found[name] for _, name in asking])
    faults = []
    for index, name in asking:
        for asked in others.asks[name]:
            if message := _fault(slug, asked, others):
                faults.append(fault(f"toolsets.{index}", *message))
    return faults


def _fault(slug: str, asked: str, others: _Others) -> tuple[str, str] | None:
    if asked == slug:
        return "asks_itself", f"The agent '{slug}' would ask itself: it is refused when it tries."
    if asked not in others.granted:
        return "unknown_agent", f"There is no agent '{asked}' to ask."
    chain = _way_back(slug, asked, others)
    if not chain:
        return None
    shown = " → ".join((slug, *chain))
    return "asks_in_circle", f"The agents would ask each other in a circle, which is refused: {shown}."


def _way_back(slug: str, first: str, others: _Others) -> tuple[str, ...]:
    """The shortest way from `first` by which agents come to ask `slug`; empty when there is none."""
    ways: list[tuple[str, ...]] = [(first,)]
    seen = {first}
    for way in ways:  # grows while it is gone through
        for asked in _asked_by(way[-1], others):
            if asked == slug:
                return (*way, slug)
            if asked not in seen:
                seen.add(asked)
                ways.append((*way, asked))
    return ()


def _asked_by(agent: str, others: _Others) -> Iterator[str]:
    for toolset in others.granted.get(agent, ()):
        yield from others.asks.get(toolset, ())


def _others(tenant_id: UUID, granted: Sequence[Toolset]) -> _Others:
    rows = Toolset.objects.filter(tenant_id=tenant_id, kind=ASKER, enabled=True).values_list("slug", "config")
    asks = {slug: _named(config) for slug, config in rows} | {each.slug: _named(each.config) for each in granted}
    named = [name for each in granted for name in asks[each.slug]]
    asking = Q(version__toolsets__has_any_keys=list(asks))
    agents = Agent.objects.filter(asking | Q(slug__in=named), tenant_id=tenant_id).exclude(version=None)
    return _Others(asks, dict(agents.values_list("slug", "version__toolsets")))


def _named(config: Any) -> list[str]:
    named = config.get("agents") if isinstance(config, dict) else None
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
