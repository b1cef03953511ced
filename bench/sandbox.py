"""The sandbox: time of a job warm and cold, jobs a second, a neighbour under attack, memory. Beside bare processes."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # unused

import django
from django.conf import settings

ROUNDS, COLD_ROUNDS, CROWDS, SECONDS = 60, 15, 3, 10.0
CODE = {
    "python": "def main(value):\n    return value + 1",
    "javascript": "export function main(value) { return value + 1 }",
    "typescript": "export function main(value: number): number { return value + 1 }",
}
HOSTILE = [
    "while True: pass",
    "import threading\nwhile True: threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
    "while True: print('x' * 10_000)",
    "x = []\nwhile True: x.append(bytearray(1 << 20))",
]
GOOD, BAD = UUID(int=1), UUID(int=2)


async def main() -> None:
    from sandbox import client

    print(f"{'':<34}{'p50':>9}{'p95':>9}   ms")
    for title, command in _references().items():
        show(f"reference: {title}", [_timed(command) for _ in range(COLD_ROUNDS)])
    for language in CODE:
        show(f"{language}, warm", await _series(language, ROUNDS, pause=0.3))
    print(_memory(client.client()._pool))
    for language in CODE:
        rate = await _rate(language)
        print(f"{language}, {settings.SANDBOX_SLOTS} at once: {rate:.0f} jobs a second")
    await _neighbour()
    await _crowd()
    await client.shut_down()
    settings.SANDBOX_IDLE = 0
    for language in CODE:
        show(f"{language}, cold", await _series(language, COLD_ROUNDS, pause=0.05))
    await client.shut_down()


def _references() -> dict[str, list[str]]:
    from sandbox.client import program

    references = {"python3 -I -S -c 0": ["/usr/bin/python3", "-I", "-S", "-c", "0"]}
    if deno := program("deno"):
        references["deno eval 0"] = [deno, "eval", "0"]
    return references


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


async def _job(language: str, owner: UUID = GOOD) -> float:
    from sandbox.jobs import Job, Language, run_job

    began = time.perf_counter()
    outcome = await run_job(Job(Language(language), CODE[language], entry_point="main", input=1, tenant_id=owner))
    assert outcome.value == 2
    return (time.perf_counter() - began) * 1000


async def _series(language: str, rounds: int, pause: float) -> list[float]:
    """One after the other. The pause lets the pool make its next slot ready, as between the calls of a model."""
    await _job(language)
    times = []
    for _ in range(rounds):
        await asyncio.sleep(pause)
        times.append(await _job(language))
    return times


async def _rate(language: str) -> float:
    settings.SANDBOX_TENANT_SLOTS = settings.SANDBOX_SLOTS
    until, count = time.monotonic() + SECONDS, 0

    async def work() -> None:
        nonlocal count
        while time.monotonic() < until:
            await _job(language)
            count += 1

    await asyncio.gather(*(work() for _ in range(settings.SANDBOX_SLOTS)))
    return count / SECONDS


async def _attack(source: str) -> None:
    from sandbox.jobs import Job, JobFailed, Language, run_job

    with suppress(JobFailed):
        await run_job(Job(Language.PYTHON, source, timeout=3, tenant_id=BAD))


async def _crowd() -> None:
    """Fifty jobs at once: a tenant's twenty-five, alone and beside as many attacks of another."""
    for title, bombs in (("25 at once, alone", 0), ("25 at once, beside 25 attacks", 25)):
        times: list[float] = []
        for _ in range(CROWDS):
            attacks = [asyncio.create_task(_attack(HOSTILE[each % len(HOSTILE)])) for each in range(bombs)]
            times += await asyncio.gather(*(_job("python") for _ in range(25)))
            await asyncio.gather(*attacks)
        show(title, times)


async def _neighbour() -> None:
    async def attack(source: str) -> None:
        until = time.monotonic() + 3 * SECONDS
        while time.monotonic() < until:
            await _attack(source)

    quiet = await _series("python", ROUNDS, pause=0.3)
    attacks = [asyncio.create_task(attack(source)) for source in HOSTILE]
    await asyncio.sleep(1)
    loud = await _series("python", ROUNDS, pause=0.3)
    await asyncio.gather(*attacks)
    show("a tenant alone", quiet)
    show("beside four attacks", loud)


def _memory(pool: object) -> str:
    pid: int = pool.pid  # type: ignore[attr-defined]
    slots = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return f"memory: this process {_rss(os.getpid())} MB, its pool {_rss(pid)} MB, {len(slots)} slots wait"


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def show(title: str, times: list[float]) -> None:
    p95 = sorted(times)[int(len(times) * 0.95)]
    print(f"{title:<34}{statistics.median(times):>9.1f}{p95:>9.1f}", flush=True)


if __name__ == "__main__":
    django.setup()
    sys.exit(asyncio.run(main()))
