"""How figures are printed beside their goals."""

import statistics
from collections.abc import Sequence


def percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95, p99."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[94], cuts[98]


def goal(name: str, value: float, limit: float, unit: str = "") -> None:
    verdict = "kept" if value <= limit else "BROKEN"
    print(f"  {name:<44} {value:8.1f} {unit} (goal {limit:.3g}: {verdict})", flush=True)


def figure(name: str, value: float, unit: str = "") -> None:
    """One without a goal."""
    print(f"  {name:<44} {value:8.1f} {unit}", flush=True)
