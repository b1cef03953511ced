"""The strategies of routes. One more is a file with a `STRATEGY`, and its name in the line below."""

from llm.routing import ab_test, by_rule, fallback, least_busy, lowest_cost, lowest_latency, weighted
from llm.routing.base import Strategy

_MODULES = (fallback, weighted, lowest_cost, lowest_latency, least_busy, by_rule, ab_test)

STRATEGIES: dict[str, Strategy] = {module.STRATEGY.slug: module.STRATEGY for module in _MODULES}
