"""The goals of the event log, measured in the product: `make bench-stream`.

The generator of the load, the writer, the followers and PostgreSQL (fsync on) share this machine's cores. Times are
wall-clock milliseconds here: compare only figures of one run. `python -m bench.stream rates` measures a part alone.
"""

import sys
from collections.abc import Sequence
from typing import Any

from bench import log_safety
from bench.database import prepared_database
from bench.log_load import Measured, measure
from bench.report import goal, percentiles

SECONDS = 10.0
KILLS, PAUSES, CRASHES, CONTROLS = 50, 10, 5, 20
PARTS = ("rates", "stall", "safety")


def main(parts: Sequence[str]) -> None:
    settings = {"TENANT_CONCURRENT_RUNS": "100000", "MAX_CONCURRENT_RUNS": "100000", "LOG_LEVEL": "ERROR"}
    with prepared_database(**settings) as cluster:
        for part in parts:
            {"rates": rates, "stall": stall, "safety": safety}[part](cluster)


def rates(cluster: Any) -> None:
    near = measure(cluster, 400, 20, SECONDS)
    show("400 x 20", near)
    p50, p95, p99 = percentiles(near.here)
    goal("p50", p50, 15, "ms")
    goal("p95", p95, 30, "ms")
    goal("p99", p99, 60, "ms")
    goal("processor time, Python", near.load.cpu * 1e6 / near.load.due, 40, "us a token")
    goal("processor time, PostgreSQL", near.database_cpu * 1e6 / near.load.due, 40, "us a token")
    goal("WAL", near.bytes_per_row, 400, "bytes a row")
    afar = measure(cluster, 400, 20, SECONDS, afar=True)
    show("400 x 20, from a second process", afar)
    goal("p95", percentiles(afar.afar)[1], 45, "ms")
    many = measure(cluster, 1000, 50, SECONDS)
    show("1000 x 50", many)
    goal("p95", percentiles(many.here)[1], 60, "ms")
    goal("tokens that did not come", 100 - 100 * len(many.here) / many.load.due, 1, "%")


def stall(cluster: Any) -> None:
    lost, most, seconds = log_safety.stall(cluster)
    streams, rate = log_safety.STALLED
    print(f"\nthe table locked for {log_safety.LOCKED_SECONDS:g} s under {streams} x {rate}")
    goal("streams that lost something", lost, 0)
    goal("most that waited", most / 1024 / 1024, 32, "MB")
    goal("back to the usual after", seconds, 2, "s")


def safety(cluster: Any) -> None:
    harmed, seen = log_safety.killed(cluster, KILLS)
    print(f"\n{KILLS} processes killed, {seen} events seen by their readers")
    goal("processes that had shown what is not stored", harmed, 0)
    print(f"\n{PAUSES} processes paused while their runs were taken")
    goal("processes that showed what is not stored", log_safety.paused(cluster, PAUSES), 0)
    violations, lost = log_safety.crashed(cluster, CRASHES)
    print(f"\n{CRASHES} crashes of the database")
    goal("events seen and not stored", violations, 0)
    goal("runs of which something is lost", lost, 0)
    control, _ = log_safety.killed(cluster, CONTROLS, deliver_first=True)
    found = "as it must" if control else "BROKEN: this measurement finds nothing"
    print(f"\ncontrol, events shown before they are stored: {control} of {CONTROLS} killed processes harmed, {found}")


def show(name: str, found: Measured) -> None:
    p50, p95, p99 = percentiles(found.here or found.afar)
    print(
        f"\n{name}: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms; the load came {found.load.lag:.2f} s late",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:] or PARTS)
