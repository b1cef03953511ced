"""What a turn costs on top of the provider: ratios to the bare mock provider, asked in the same rounds.

`make bench`, or python -m bench.turns. Each round asks all targets in a shuffled order, TURNS times each, one after
the other; a ratio is that of a target's mean to the provider's in the same round.
"""

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from bench.site import CHECKOUT, cpu_seconds, free_port, server_of, site

ROUNDS = 30
TURNS = 10


class Target(NamedTuple):
    name: str
    base_url: str
    model: str


class Cost(NamedTuple):
    """Milliseconds of a turn: by the clock, and of the server's processor time."""

    wall: float
    cpu: float


def main(base_url: str, token: str, starter: int) -> None:
    with provider() as address:
        asyncio.run(measure(f"{base_url}/v1", token, server_of(starter), address))


@contextmanager
def provider() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.provider", str(port)], cwd=CHECKOUT)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


async def measure(api: str, token: str, server: int, address: str) -> None:
    targets = [Target("provider", address, "m"), Target("pass-through", api, "bench/m"), Target("agent", api, "bench")]
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, timeout=timeout) as http:
        await prepare(http, api, address)
        for stream in (False, True):
            rounds = [await one_round(http, targets, stream, server) for _ in range(ROUNDS + 1)]
            report("50-token stream" if stream else "whole answer", rounds[1:])


async def prepare(http: aiohttp.ClientSession, api: str, address: str, slug: str = "bench") -> None:
    """An agent of this slug, with a provider of its own."""
    await until_it_answers(http, address)
    await post(http, f"{api}/providers", {"slug": slug, "kind": "openai", "base_url": address})
    agent = {"slug": slug, "name": "Bench", "template": "conversation", "model": f"{slug}/m"}
    await post(http, f"{api}/agents", agent)
    async with http.patch(f"{api}/agents/{slug}/status", json={"status": "active"}) as response:
        response.raise_for_status()


async def until_it_answers(http: aiohttp.ClientSession, address: str) -> None:
    for _ in range(100):
        try:
            return await ask(http, Target("", address, "m"), stream=False)
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)
    raise TimeoutError(address)


async def one_round(http: aiohttp.ClientSession, targets: list[Target], stream: bool, server: int) -> dict[str, Cost]:
    costs = {}
    for target in random.sample(targets, len(targets)):
        spent, began = cpu_seconds(server), time.perf_counter()
        for _ in range(TURNS):
            await ask(http, target, stream)
        wall, cpu = time.perf_counter() - began, cpu_seconds(server) - spent
        costs[target.name] = Cost(wall / TURNS * 1000, cpu / TURNS * 1000)
    return costs


async def ask(http: aiohttp.ClientSession, target: Target, stream: bool) -> None:
    body = {"model": target.model, "messages": [{"role": "user", "content": "go"}], "stream": stream}
    await post(http, f"{target.base_url}/chat/completions", body)


async def post(http: aiohttp.ClientSession, url: str, body: object) -> None:
    async with http.post(url, json=body) as response:
        response.raise_for_status()
        await response.read()


def report(title: str, rounds: list[dict[str, Cost]]) -> None:
    for name in ("provider", "pass-through", "agent"):
        wall = statistics.median(costs[name].wall for costs in rounds)
        cpu = statistics.mean(costs[name].cpu for costs in rounds)
        low, ratio, high = statistics.quantiles([costs[name].wall / costs["provider"].wall for costs in rounds], n=4)
        compared = (
            "" if name == "provider" else f"   {ratio:.1f} x provider ({low:.1f} to {high:.1f}), {cpu:.1f} ms CPU"
        )
        print(f"{f'{title}, {name}':<40} {wall:7.1f} ms median{compared}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home, site(Path(home)) as (base_url, token, starter):
        main(base_url, token, starter)
