"""The attack matrix: no attack gets through any wall, in any language, and none leaves anything behind."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.inside import seccomp
from sandbox.jobs import Job, JobFailed, Language, run_job
from tests.sandbox.attacks import CALLS, CONTROLLED, JAVASCRIPT, MARK, NUMBERED, PYTHON
from tests.sandbox.conftest import DENO, ROOT, Code

pytestmark = pytest.mark.asyncio
SYSCALLS = {key: value for table in seccomp._tables(seccomp.machine()) for key, value in table.items()}
ESCAPED = [f"{folder}/{MARK}" for folder in ("", "/dev/shm", "/usr", "/var/tmp")]
# The whole matrix; the fast ones are what a change breaks first.
JAILS = [
    pytest.param("root-1"),
    pytest.param("root-2", marks=pytest.mark.slow),
    pytest.param("rootful", marks=pytest.mark.slow),
    pytest.param("user-1", marks=pytest.mark.slow),
    pytest.param("user-2", marks=pytest.mark.slow),
]


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What attacks are after: open to every user of the system, so that the jail alone keeps it."""
    for name in ("SECRET_KEY", "DATABASE_URL", "CANARY"):
        monkeypatch.setenv(name, "CANARY")
    with (
        tempfile.TemporaryDirectory(prefix="agentsite-target-") as name,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text('"CANARY"')
        (folder / "secret").chmod(0o644)
        server.setblocking(False)
        yield {
            "folder": name,
            "secret": str(folder / "secret"),
            "target": str(folder / "written"),
            "settings": str(ROOT / "agentsite/settings/base.py"),
            "pid": os.getpid(),
            "port": server.getsockname()[1],
            "tgkill": SYSCALLS["tgkill"],
        }
        assert not (folder / "written").exists()
        assert [path for path in ESCAPED if os.path.exists(path)] == []
        with pytest.raises(BlockingIOError):
            server.accept()


def attacks(language: str) -> dict[str, str]:
    if language != "python":
        return JAVASCRIPT
    call = "import ctypes\nctypes.CDLL(None).syscall({}) >= 0"
    column = list(seccomp.ARCHES).index(seccomp.machine())
    found = dict(PYTHON)
    for name, arguments in CALLS.items():
        first, _, rest = arguments.partition(",")
        found[f"call of {name}"] = call.format(f"{SYSCALLS[first]},{rest}" if rest else SYSCALLS[first])
    for name, (numbers, rest) in NUMBERED.items():
        found[f"call of {name}"] = call.format(f"{numbers[column]}, {rest}")
    return found


async def answer(language: str, source: str) -> Any:
    """The script's value if it got through, else something false."""
    try:
        outcome = await run_job(Job(Language(language), source, timeout=20))
    except JobFailed as failed:
        return "printed" if "escaped" in failed.stdout else failed.code == "timeout"
    return outcome.value or "escaped" in outcome.stdout


@pytest.mark.parametrize("jail", JAILS, indirect=True)
@pytest.mark.parametrize("language", ["python", "javascript", pytest.param("typescript", marks=pytest.mark.slow)])
async def test_nothing_gets_through(code: Code, language: str, target: dict[str, Any]) -> None:
    found = {name: await answer(language, source.format(**target)) for name, source in attacks(language).items()}
    assert {name: value for name, value in found.items() if value} == {}


@pytest.mark.slow
@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_without_a_jail_they_do_get_through(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the matrix would prove nothing."""
    if os.geteuid() != 0:
        pytest.skip("the memory of others is root's")
    monkeypatch.setenv("CANARY", "CANARY")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "secret").write_text('"CANARY"')
        places = {"folder": str(tmp_path), "secret": str(tmp_path / "secret"), "target": str(tmp_path / "written")}
        places |= {"settings": str(ROOT / "agentsite/settings/base.py"), "tgkill": SYSCALLS["tgkill"]}
        places |= {"pid": os.getpid(), "port": server.getsockname()[1]}
        found = {
            name: unjailed(language, attacks(language)[name].format(**places), tmp_path)
            for name in CONTROLLED[language]
        }
    os.unlink(f"/dev/shm/{MARK}")
    assert [name for name, value in found.items() if not value] == []


def unjailed(language: str, source: str, folder: Path) -> Any:
    """In a process of its own, with the runtime's whole rights."""
    work = Path(tempfile.mkdtemp(dir=folder))
    runner = ROOT / "sandbox/inside" / ("runner.mjs" if language == "javascript" else "runner.py")
    start = (
        f"import os, sys; os.dup2(1, 3); sys.path.insert(0, {str(runner.parent)!r}); import runner; runner.main(3, [])"
    )
    command = (
        [str(DENO), "run", "-A", "--quiet", str(runner)] if language == "javascript" else [sys.executable, "-c", start]
    )
    job = {"language": language, "code": source, "entry_point": "", "input": None, "memory_mb": 4096, "files": {}}
    done = subprocess.run(command, input=json.dumps(job).encode() + b"\n", capture_output=True, cwd=work, timeout=60)
    told = [line for line in done.stdout.split(b"\0agentsite ") if line.startswith(b"E")]
    return json.loads(told[-1].splitlines()[0][1:]).get("value") if told else None


@pytest.mark.parametrize("jail", JAILS, indirect=True)
async def test_the_next_job_sees_nothing_of_the_last(code: Code) -> None:
    await code("python", "open('left', 'w').write('x'); open('../left', 'w').write('x')")
    for _ in range(4):  # more than the slots that waited
        seen = await code("python", "import os\n[name for names in os.walk('..') for name in names[1] + names[2]]")
        assert "left" not in seen.value


@pytest.mark.slow
@pytest.mark.parametrize("jail", JAILS, indirect=True)
@pytest.mark.parametrize(
    ("language", "source", "expected"),
    [
        ("python", "for i in range(10 ** 7): open(f'file-{i}', 'w').close()", "output"),
        ("javascript", "for (let i = 0; ; i++) Deno.writeTextFileSync(`file-${i}`, '')", "output"),
        ("python", "import signal\nfor n in range(1, 32):\n  try: signal.signal(n, signal.SIG_IGN)\n"
                   "  except (OSError, ValueError): pass\nwhile True: pass", "timeout"),
        ("python", "import re\nre.match('(a+)+$', 'a' * 40 + 'b')", "timeout"),
        ("javascript", "/^(a+)+$/.test('a'.repeat(40) + 'b')", "timeout"),
        ("python", "import time\ntime.sleep(1000)", "timeout"),
        ("typescript", "export default await new Promise((done) => setTimeout(done, 1e6))", "timeout"),
        ("python", "import threading, time\nfor _ in range(5): threading.Thread(target=lambda: [0 for _ in iter(int, 1)])"
                   ".start()\ntime.sleep(1000)", "timeout"),
    ],
)  # fmt: skip
async def test_what_is_too_much_ends(code: Code, language: str, source: str, expected: str) -> None:
    assert (await code.fails(language, source, timeout=2 if expected == "timeout" else 60)).code == expected


@pytest.mark.slow
@pytest.mark.parametrize("jail", ["root-1"], indirect=True)
async def test_a_bomb_of_workers_hits_itself(code: Code) -> None:
    bomb = "for (let i = 0; ; i++) new Worker('data:text/javascript,for(;;);', { type: 'module' })"
    assert (await code.fails("javascript", bomb, timeout=10)).code in ("crashed", "error", "memory", "timeout")
    assert (await code("javascript", "1 + 1")).value == 2
