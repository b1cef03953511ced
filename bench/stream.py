"""The goals of the event log, measured in the product: `make bench-stream`.

The generator of the load, the writer, the followers and PostgreSQL (fsync on) share this machine's cores. Times are
wall-clock milliseconds here: compare only figures of one run. `python -m bench.stream rates` measures a part alone.

The goals are of the design notes' machine. The floor (bench/log_floor.py), measured in the same run, says what the same
statement takes alone on this one at the moment; how many times that the product may take is a goal as well.
"""

import sys
from collections.abc import Sequence
from typing import Any

from bench import log_floor, log_safety
from bench.database import prepared_database
from bench.log_load import Measured, measure
from bench.report import figure, goal, percentiles

SECONDS = 10.0
KILLS, PAUSES, CRASHES, CONTROLS = 50, 10, 5, 20
NOTED = {(400, 20): 16.0, (1000, 50): 20.0}  # p95 in milliseconds of the writer that the design notes measured
PARTS = ("rates", "stall", "safety")


def main(parts: Sequence[str]) -> None:
    settings = {"TENANT_CONCURRENT_RUNS": "100000", "MAX_CONCURRENT_RUNS": "100000", "LOG_LEVEL": "ERROR"}
    with prepared_database(**settings) as cluster:
        for part in parts:
            {"rates": rates, "stall": stall, "safety": safety}[part](cluster)


def rates(cluster: Any) -> None:
    alone = floor(cluster, 400, 20)
    near = measure(cluster, 400, 20, SECONDS)
    show("400 x 20", near)
    for (name, limit), value in zip({"p50": 15, "p95": 30, "p99": 60}.items(), percentiles(near.here), strict=True):
        goal(name, value, limit, "ms")
    goal("p95 beside the floor's", percentiles(near.here)[1] / alone, 30 / NOTED[400, 20], "times")
    for name, seconds in (("Python", near.load.cpu), ("PostgreSQL", near.database_cpu)):
        goal(f"processor time, {name}", seconds * 1e6 / near.load.due, 40, "us a token")
    goal("WAL", near.bytes_per_row, 400, "bytes a row")
    afar = measure(cluster, 400, 20, SECONDS, afar=True)
    show("400 x 20, from a second process", afar)
    goal("p95", percentiles(afar.afar)[1], 45, "ms")
    alone = floor(cluster, 1000, 50)
    many = measure(cluster, 1000, 50, SECONDS)
    show("1000 x 50", many)
    goal("p95", percentiles(many.here)[1], 60, "ms")
    goal("p95 beside the floor's", percentiles(many.here)[1] / alone, 60 / NOTED[1000, 50], "times")
    goal("tokens that did not come", 100 - 100 * len(many.here) / many.load.due, 1, "%")


def floor(cluster: Any, streams: int, rate: int) -> float:
    """Its p95 in milliseconds."""
    found = measure(cluster, streams, rate, SECONDS, work=log_floor.produce)
    show(f"the floor of {streams} x {rate}", found)
    figure("processor time, PostgreSQL", found.database_cpu * 1e6 / found.load.due, "us a token")
    return percentiles(found.here)[1]


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
