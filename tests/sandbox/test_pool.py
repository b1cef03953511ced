"""The pool process: what it is given, how it ends, and what is refused where nothing can jail."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from core.errors import RateLimited, Unavailable
from sandbox import client, probe
from sandbox.client import Pool
from sandbox.jobs import Job, JobFailed, Language, SandboxUnavailable, run_job
from tests.sandbox.conftest import TENANT_A, TENANT_B, Code, descendants, left_of

pytestmark = pytest.mark.asyncio


def pool() -> Pool:
    found = client.client()._pool
    assert found is not None
    return found


def status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":\t")[1] for line in lines if line.startswith(field))


def slots_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def users_of(pid: int) -> set[str]:
    return {status(slot, "Uid").split()[1] for slot in slots_of(pid)}


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it does not come true")


async def test_it_starts_with_the_first_job_and_has_no_secret(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "MASTER_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "CANARY")
    assert client.client()._pool is None
    await code("python", "1")
    await until(lambda: len(slots_of(pool().pid)) == 2)  # the used one is gone, and none goes by itself
    for pid in [pool().pid, *slots_of(pool().pid)]:
        assert b"CANARY" not in environment(pid)
        assert b"SECRET" not in environment(pid)


async def test_slots_are_used_once_and_replaced(code: Code) -> None:
    numbers = [
        (await code("python", "import sys\nsys.marked = getattr(sys, 'marked', 0) + 1\nsys.marked")).value
        for _ in range(6)
    ]
    assert numbers == [1] * 6
    await until(lambda: len(slots_of(pool().pid)) == 2)  # no slot of deno: nobody asked for one
    await code("javascript", "1")
    await until(lambda: len(slots_of(pool().pid)) == 4)


async def test_a_waiting_slot_that_dies_is_replaced(code: Code) -> None:
    await code("python", "1")
    await until(lambda: len(slots_of(pool().pid)) == 2)
    killed = slots_of(pool().pid)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not {*killed} & {*slots_of(pool().pid)})
    assert [(await code("python", "1 + 1")).value for _ in range(3)] == [2, 2, 2]
    await until(lambda: len(slots_of(pool().pid)) == 2)


async def test_a_pool_that_dies_is_started_again_and_its_jobs_fail(code: Code) -> None:
    started, others = asyncio.Event(), descendants()

    async def host(method: str, params: dict[str, Any]) -> None:
        started.set()

    job = asyncio.create_task(code("python", "from agentsite import call\ncall('x')\nwhile True: pass", host))
    await started.wait()
    first, mine = pool().pid, descendants() - others
    os.kill(first, signal.SIGKILL)
    with pytest.raises(JobFailed) as failed:
        await job
    assert failed.value.code == "crashed"
    assert (await code("python", "1 + 1")).value == 2
    assert pool().pid != first
    assert await left_of(mine) == []


@pytest.mark.slow
async def test_a_pool_that_hangs_is_ended(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GRACE_SECONDS", 1.0)
    await code("python", "1")
    os.kill(pool().pid, signal.SIGSTOP)
    assert (await code.fails("python", "1", timeout=1)).code == "crashed"
    assert (await code("python", "2")).value == 2


@pytest.mark.parametrize("jail", ["root-1", pytest.param("root-2", marks=pytest.mark.slow)], indirect=True)
async def test_each_slot_is_a_user_without_rights(code: Code) -> None:
    """The kernel counts processes by user, and not at all for root."""
    await code("python", "1")
    await until(lambda: len(slots_of(pool().pid)) == 2)
    if os.geteuid() == 0:
        await until(lambda: len(users_of(pool().pid) - {"0"}) == 2)
    facts = "open('/proc/self/status').read()"
    assert (await code.fails("python", facts)).code == "error"  # not even that is to be read


async def test_two_pools_have_users_of_their_own(code: Code) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    await code("python", "1")
    other = await Pool.start()
    try:
        from sandbox.jobs import _request

        ended = await other.run(_request(Job(Language.PYTHON, "import os\nos.getuid()")), None)
        assert ended.told is not None
        mine = (await code("python", "import os\nos.getuid()")).value
        assert abs(mine - int(ended.told.split(b'"value": ')[1].split(b",")[0].rstrip(b"}"))) >= 32
    finally:
        await other.close()


async def test_a_pool_ends_whose_server_goes_while_its_first_slot_starts(jail: str) -> None:
    from sandbox.jobs import _request

    pool, others = await Pool.start(), descendants()
    job = asyncio.create_task(pool.run(_request(Job(Language.PYTHON, "1")), None))
    while not slots_of(pool.pid):  # noqa: ASYNC110 it must not be ready by then
        await asyncio.sleep(0)
    mine = descendants() - others
    await asyncio.wait_for(pool.close(), 60)
    with pytest.raises(JobFailed):
        await job
    assert await left_of(mine) == []


async def test_without_bubblewrap_it_is_level_2(code: Code, settings: Any) -> None:
    settings.SANDBOX_LEVEL, settings.SANDBOX_BWRAP = "auto", "/nowhere/bwrap"
    assert (await code("python", "1 + 1")).value == 2
    await until(lambda: client.client().state.walls == {"python": "landlock"})


@pytest.mark.parametrize(
    ("changes", "language", "names"),
    [
        ({"SANDBOX_LEVEL": "1", "SANDBOX_BWRAP": "/nowhere/bwrap"}, "python", "bubblewrap"),
        ({"SANDBOX_DENO": "/nowhere/deno"}, "typescript", "deno"),
        ({"SANDBOX_LEVEL": "off"}, "python", "SANDBOX_LEVEL"),
    ],
)
async def test_where_nothing_can_jail_nothing_runs(
    code: Code, settings: Any, tmp_path: Path, changes: dict[str, str], language: str, names: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    canary = tmp_path / "canary"
    os.chmod(tmp_path, 0o777)
    source = {"python": f"open({str(canary)!r}, 'w')", "typescript": f"Deno.writeTextFileSync({str(canary)!r}, '')"}
    with pytest.raises(SandboxUnavailable) as refused:
        await run_job(Job(Language(language), source[language]))
    assert (refused.value.status, refused.value.code) == (503, "sandbox_unavailable")
    assert names in refused.value.message
    assert "/nowhere" not in refused.value.message
    assert os.listdir(tmp_path) == []
    assert isinstance(refused.value, Unavailable)


async def test_the_errors_are_the_edges_own() -> None:
    from sandbox.jobs import SandboxBusy

    assert issubclass(SandboxBusy, RateLimited)


@pytest.mark.parametrize("jail", ["root-1", pytest.param("root-2", marks=pytest.mark.slow)], indirect=True)
async def test_the_probe_finds_a_jail_that_holds(jail: str) -> None:
    probed = await probe.probe()
    assert (probed.broken, probed.missing, sorted(probed.walls)) == ([], "", ["deno", "python"])


@pytest.mark.slow
async def test_the_probe_finds_one_that_does_not(jail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe.PYTHON, "reads a file of the server", "1 + 1")
    probed = await probe.probe()
    assert (probed.broken, probed.is_safe) == (["python reads a file of the server"], False)


async def test_the_idle_server_has_no_pool_and_loads_little() -> None:
    assert client.figures().startswith("Slots: 0 of 8 run, 0 wait ready")


HOSTILE = [
    ("python", "while True: pass"),
    ("python", "import threading\nwhile True: threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()"),
    ("python", "while True: print('x' * 10_000)"),
    ("python", "x = []\nwhile True: x.append(bytearray(1 << 20))"),
    ("javascript", "for (;;) console.log('x'.repeat(10000))"),
]


@pytest.mark.slow
@pytest.mark.parametrize("jail", ["root-1", pytest.param("root-2", marks=pytest.mark.slow)], indirect=True)
async def test_a_hostile_tenant_does_not_keep_another_from_its_work(code: Code, settings: Any) -> None:
    settings.SANDBOX_SLOTS, settings.SANDBOX_TENANT_SLOTS, settings.SANDBOX_QUEUE = 4, 2, 64
    bombs = [code(*HOSTILE[number % 5], tenant_id=TENANT_A, timeout=3) for number in range(25)]
    work = [code("python", f"sum(range({number}))", tenant_id=TENANT_B) for number in range(25)]
    began = time.monotonic()
    done = await asyncio.gather(*bombs, *work, return_exceptions=True)
    assert all(isinstance(outcome, JobFailed) for outcome in done[:25])
    assert [outcome.value for outcome in done[25:]] == [sum(range(number)) for number in range(25)]  # type: ignore[union-attr]
    print(f"{time.monotonic() - began:.1f} s")
