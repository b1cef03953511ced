"""What a turn costs, beside a bare proxy, LiteLLM's, and the provider itself: `make bench`, or python -m bench.turns.

Each round asks every target for every workload, TURNS times each, in a shuffled order; a ratio is of two targets in the
same round. Processor time is of the server's process tree, by the scheduler's count, until SETTLE seconds after the
last answer; PostgreSQL's is a figure of its own (LiteLLM has no database). What a target adds to the first token's time
is beyond the provider's own, by the medians of a round; what a switch adds is beyond a call of its second target. Every
turn of ours is recorded, and held of a hard budget. `--beside CHECKOUT` measures another checkout's site as well.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import NamedTuple

import aiohttp
import orjson

from bench import hits
from bench.processes import cpu_of_tree, spent
from bench.provider import TOKEN, TOKENS
from bench.results import Results
from bench.site import CHECKOUT, Site, site
from bench.targets import (
    AGENT,
    BARE,
    BESIDE,
    HIT,
    LITELLM,
    PASS_THROUGH,
    PROVIDER,
    SWITCH,
    Target,
    of_site,
    provider,
    references,
)

ROUNDS, TURNS = 24, 10
SETTLE = 0.1
OWN, REFERENCES = (PASS_THROUGH, AGENT), (BARE, LITELLM, BESIDE)


class Workload(NamedTuple):
    """What bench.provider is asked: `at_once` turns at a time, answered whole or as a stream."""

    name: str
    say: str = "go"
    streamed: bool = True
    at_once: int = 1
    most: int | None = None  # tokens of the answer, as the request limits it


WORKLOADS = (
    Workload("whole answer", streamed=False),
    Workload("whole answer of 100 at most", streamed=False, most=100),
    Workload("50-token stream"),
    Workload("50 tokens in 0.5 s", "go slowly", at_once=TURNS),
)


class Cost(NamedTuple):
    """Milliseconds of a turn: processor time of the server and of its database, and until the first words came."""

    cpu: float
    database: float
    first: float


Round = dict[tuple[str, str], Cost]  # by the names of target and workload


def cpu(costs: Round, target: str, work: str) -> float:
    return costs[target, work].cpu


def cpu_with_database(costs: Round, target: str, work: str) -> float:
    return costs[target, work].cpu + costs[target, work].database


def added_time(costs: Round, target: str, work: str) -> float:
    return costs[target, work].first - costs[PROVIDER, work].first


def measures(work: Workload) -> dict[str, Callable[[Round, str, str], float]]:
    first = "added first token" if work.streamed else "added time"
    return {"CPU": cpu, "CPU with PostgreSQL": cpu_with_database, first: added_time}


GOALS = {
    (PASS_THROUGH, LITELLM, "CPU"): 1 / 4,
    (PASS_THROUGH, LITELLM, "added first token"): 1 / 4,
    (SWITCH, PASS_THROUGH, "added time"): 5.0,  # ms beyond it
    (HIT, "call", "CPU of the gateway"): 1 / 10,
}


def workloads(target: str) -> Sequence[Workload]:
    """A switch and a hit are measured by whole answers."""
    return WORKLOADS[:1] if target in (SWITCH, HIT) else WORKLOADS


async def measure(targets: Sequence[Target], rounds: int) -> list[Round]:
    slots = [(target, work) for target in targets for work in workloads(target.name)]
    made: list[Round] = []
    connector = aiohttp.TCPConnector(keepalive_timeout=1)  # servers close what is idle for 5 s
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as http:
        for _ in range(1 + rounds):  # the first one warms up
            shuffled = random.sample(slots, len(slots))
            made.append({(target.name, work.name): await cost(http, target, work) for target, work in shuffled})
    return made[1:]


async def cost(http: aiohttp.ClientSession, target: Target, work: Workload) -> Cost:
    trees = [pid for pid in (target.server, target.database) if pid]
    before = [cpu_of_tree(pid) for pid in trees]
    times: list[float] = []
    for _ in range(TURNS // work.at_once):
        times += await asyncio.gather(*[ask(http, target, work) for _ in range(work.at_once)])
    await asyncio.sleep(SETTLE)
    used = [spent(was, cpu_of_tree(pid)) / TURNS for was, pid in zip(before, trees, strict=True)]
    server, database = (*used, 0.0)[:2]
    return Cost(server * 1000, database * 1000, statistics.median(times) * 1000)


async def ask(http: aiohttp.ClientSession, target: Target, work: Workload) -> float:
    """Seconds until the first words came; an answer that is not the provider's is an error."""
    body = {"model": target.model, "messages": [{"role": "user", "content": work.say}], "stream": work.streamed}
    if work.most is not None:
        body["max_tokens"] = work.most
    headers = {"Authorization": f"Bearer {target.key}"}
    began, first, said = time.perf_counter(), 0.0, ""
    async with http.post(f"{target.base_url}/chat/completions", json=body, headers=headers) as response:
        response.raise_for_status()
        async for words in streamed(response) if work.streamed else whole(response):
            first = first or time.perf_counter() - began
            said += words
    if said != TOKEN * TOKENS:
        raise ValueError(f"{target.name} answers {said!r}.")
    return first


async def whole(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    yield orjson.loads(await response.read())["choices"][0]["message"]["content"]


async def streamed(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in response.content:
        if line.startswith(b"data: {"):
            for choice in orjson.loads(line.removeprefix(b"data: "))["choices"]:
                if words := choice["delta"].get("content"):
                    yield words


def report(results: Results, targets: Sequence[Target], rounds: Sequence[Round]) -> None:
    names = [target.name for target in targets]
    for work, target in product(WORKLOADS, names):
        if work in workloads(target):
            for name, of in measures(work).items():
                results.add(f"{work.name}, {target}: {name}", [of(costs, target, work.name) for costs in rounds], "ms")
    for work, target, reference in product(WORKLOADS, OWN, [name for name in REFERENCES if name in names]):
        for name, of in measures(work).items():
            ratios = [of(costs, target, work.name) / of(costs, reference, work.name) for costs in rounds]
            goal = GOALS.get((target, reference, name))
            results.add(f"{work.name}, {target} to {reference}: {name}", ratios, "ratio", goal=goal)


def report_switch(results: Results, rounds: Sequence[Round]) -> None:
    work = WORKLOADS[0]
    for name, of in measures(work).items():
        more = [of(costs, SWITCH, work.name) - of(costs, PASS_THROUGH, work.name) for costs in rounds]
        goal = GOALS.get((SWITCH, PASS_THROUGH, name))
        results.add(f"{work.name}, {SWITCH} beyond {PASS_THROUGH}: {name}", more, "ms", goal=goal)


def report_hit(results: Results, where: Site, upstream: Target, rounds: Sequence[Round]) -> None:
    work = WORKLOADS[0]
    for name, of in measures(work).items():
        ratios = [of(costs, HIT, work.name) / of(costs, AGENT, work.name) for costs in rounds]
        results.add(f"{work.name}, {HIT} to {AGENT}: {name}", ratios, "ratio")
    name = "CPU of the gateway"
    goal = GOALS[HIT, "call", name]
    results.add(f"{work.name}, {HIT} to call: {name}", hits.ratios(where, upstream.base_url), "ratio", goal=goal)


def main(results: Results, mine: Site, upstream: Target, others: Sequence[Target], *, rounds: int = ROUNDS) -> None:
    targets = [upstream, *others, *of_site(mine, upstream)]
    made = asyncio.run(measure(targets, rounds))
    report(results, targets, made)
    report_switch(results, made)
    report_hit(results, mine, upstream, made)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.turns")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="measure another checkout's site as well")
    return parser.parse_args()


def alone(rounds: int, beside: Path | None) -> None:
    with ExitStack() as stack:
        sites = [stack.enter_context(site(folder_of(stack), checkout)) for checkout in (CHECKOUT, beside) if checkout]
        upstream = stack.enter_context(provider())
        others = stack.enter_context(references(upstream))
        for other in sites[1:]:
            others.append(of_site(other, upstream)[0]._replace(name=BESIDE))
        main(Results(), sites[0], upstream, others, rounds=rounds)


def folder_of(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


if __name__ == "__main__":
    alone(**vars(arguments()))
