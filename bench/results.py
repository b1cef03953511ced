"""What was measured: quartiles, beside what was promised, as a table and as a file."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("Django", "djangorestframework", "uvicorn", "aiohttp", "psycopg")


@dataclass(frozen=True)
class Result:
    """`goal` is an upper bound of the median; the verdict is inconclusive while the quartiles lie on both its sides."""

    name: str
    unit: str
    lower: float
    median: float
    upper: float
    goal: float | None

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.upper <= self.goal:
            return "kept"
        return "BROKEN" if self.lower > self.goal else "inconclusive"

    def line(self) -> str:
        values = " ".join(f"{value:9.3g}" for value in (self.lower, self.median, self.upper))
        promised = "" if self.goal is None else f"  {self.goal:<6.3g} {self.verdict}"
        return f"{self.name:<72} {self.unit:<6} {values}{promised}"


@dataclass
class Results:
    found: list[Result] = field(default_factory=list)

    def add(self, name: str, values: Sequence[float], unit: str, *, goal: float | None = None) -> None:
        """Prints a row: several values of one figure, or its only one."""
        if not self.found:
            print(f"{'':<72} {'':<6} {'lower':>9} {'median':>9} {'upper':>9}  {'goal':<6}")
        lower, median, upper = statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3
        self.found.append(Result(name, unit, lower, median, upper, goal))
        print(self.found[-1].line(), flush=True)

    def write(self, path: Path, versions: dict[str, str]) -> None:
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "versions": {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}, **versions},
            "results": [
                {name: _short(value) for name, value in asdict(each).items()} | {"verdict": each.verdict}
                for each in self.found
            ],
        }
        path.write_text(json.dumps(facts, indent=1) + "\n")


def _short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def machine() -> dict[str, Any]:
    """What a figure depends on, and nothing that names the machine."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
    }
