"""The goals of the event log, measured in the product: `make bench-stream`.

The generator of the load, the writer, the followers and PostgreSQL share this machine's cores. Times are wall-clock
milliseconds here: compare only figures of one run.
"""

import statistics
import sys
from collections.abc import Sequence

from bench.database import prepared_database
from bench.log_load import Measured, measure

SECONDS = 10.0


def main(parts: Sequence[str]) -> None:
    with prepared_database(TENANT_CONCURRENT_RUNS="100000", LOG_LEVEL="WARNING") as cluster:
        if "rates" in parts:
            rates(cluster)


def rates(cluster: object) -> None:
    for streams, rate in ((100, 20), (400, 20), (1000, 20), (1000, 50)):
        show(f"{streams} x {rate}", measure(cluster, streams, rate, SECONDS))
    show("400 x 20, second process", measure(cluster, 400, 20, SECONDS, afar=True))


def show(name: str, found: Measured) -> None:
    times = found.here or found.afar
    cuts = statistics.quantiles(times, n=100)
    per_token = 1e6 / found.load.due
    print(
        f"{name:<26} p50 {cuts[49]:6.1f} p95 {cuts[94]:6.1f} p99 {cuts[98]:6.1f} ms;"
        f" CPU {found.load.cpu * per_token:5.1f} + {found.database_cpu * per_token:5.1f} us a token"
        f" (afar {found.afar_cpu * per_token:5.1f}); {found.bytes_per_row:.0f} B WAL a row;"
        f" {len(times) / found.load.due:.2%} of the rate, late {found.load.lag:.2f} s",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["rates"])
