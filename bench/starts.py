"""How long servers take until they listen, and their memory while they idle: ours and LiteLLM's proxy. `make bench`.

One after the other, in shuffled rounds. Memory is the proportional set size of the process tree.
"""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.processes import cpu_of_tree, environment, free_port, proportional_set_size, spent, tree
from bench.results import Results
from bench.site import Site
from bench.targets import LITELLM, Target, litellm_proxy, served

ROUNDS = 5
IDLE = 2.0  # seconds
SERVER = "server"


class Cost(NamedTuple):
    """Seconds by the clock and of processor time, and megabytes."""

    start: float
    cpu: float
    memory: float


MEASURES = (("start", "s"), ("CPU of a start", "s"), ("idle memory", "MB"))


def main(results: Results, where: Site, upstream: Target, *, litellm: bool) -> None:
    starts: dict[str, Callable[[], AbstractContextManager[int]]] = {SERVER: lambda: server(where)}
    if litellm:
        starts[LITELLM] = lambda: litellm_server(upstream)
    rounds = [one_round(starts) for _ in range(1 + ROUNDS)][1:]
    for index, (measure, unit) in enumerate(MEASURES):
        for name in starts:
            results.add(f"{name}: {measure}", [costs[name][index] for costs in rounds], unit)
        if litellm:
            ratios = [costs[SERVER][index] / costs[LITELLM][index] for costs in rounds]
            results.add(f"{SERVER} to {LITELLM}: {measure}", ratios, "ratio")


def one_round(starts: dict[str, Callable[[], AbstractContextManager[int]]]) -> dict[str, Cost]:
    return {name: cost(starts[name]) for name in random.sample(list(starts), len(starts))}


def cost(start: Callable[[], AbstractContextManager[int]]) -> Cost:
    began = time.perf_counter()
    with start() as pid:
        taken, cpu = time.perf_counter() - began, spent({}, cpu_of_tree(pid))
        time.sleep(IDLE)
        return Cost(taken, cpu, sum(proportional_set_size(each) for each in tree(pid)) / 1024)


@contextmanager
def server(where: Site) -> Iterator[int]:
    """The site's server once more, on a port of its own."""
    command = Path(f"/proc/{where.server}/cmdline").read_text()
    words, port = command.rstrip("\0").split("\0"), free_port()
    words[words.index("--port") + 1] = str(port)
    with served(words, port, env=environment(where.server), output=subprocess.DEVNULL) as pid:
        yield pid


@contextmanager
def litellm_server(upstream: Target) -> Iterator[int]:
    with litellm_proxy(upstream) as target:
        yield target.server
