"""Pieces of the sandbox that need no jail."""

import asyncio
import errno
import itertools
import stat
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core.errors import InvalidRequest
from sandbox import packages
from sandbox.admission import Admission
from sandbox.exceptions import SandboxBusy
from sandbox.inside import seccomp
from sandbox.jobs import Language
from sandbox.packages import resolve, unzip
from sandbox.pool.frames import Frames

A, B = UUID(int=1), UUID(int=2)
ALLOWED = 0x7FFF0000


def answer(program: bytes, number: int, arch: int, *arguments: int) -> int:
    """What the kernel's machine for classic BPF comes to."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *(each % (1 << 64) for each in (*arguments, *[0] * 6)[:6]))
    instructions = list(struct.iter_unpack("<HBBI", program))
    position = accumulator = 0
    while True:
        code, true, false, value = instructions[position]
        position += 1
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == seccomp.RETURN:
            return value
        else:
            holds = {
                seccomp.EQUAL: accumulator == value,
                seccomp.AT_LEAST: accumulator >= value,
                seccomp.SET: bool(accumulator & value),
            }[code]
            position += true if holds else false


def errno_of(result: int) -> str:
    return "allowed" if result == ALLOWED else errno.errorcode[result & 0xFFFF]


CALLS = [
    ("read", (), "allowed", "allowed"),
    ("openat", (), "allowed", "allowed"),
    ("clone", (0x00010000 | 0x100,), "allowed", "allowed"),
    ("clone", (17,), "EPERM", "allowed"),
    ("socketpair", (1,), "allowed", "allowed"),
    ("socketpair", (2,), "EPERM", "allowed"),
    ("ioctl", (0, 0x5401), "allowed", "allowed"),
    ("ioctl", (0, 0x5412), "EPERM", "allowed"),
    ("ioctl", (0, 0x8901), "EPERM", "allowed"),
    ("fcntl", (0, 3), "allowed", "allowed"),
    ("fcntl", (0, 8), "EPERM", "allowed"),
    ("execve", (), "allowed", "EPERM"),
    ("execveat", (), "ENOSYS", "EPERM"),
    ("tgkill", (7,), "allowed", "allowed"),
    ("tgkill", (8,), "allowed", "EPERM"),
    ("tgkill", (-1,), "allowed", "EPERM"),
    ("prlimit64", (0,), "allowed", "allowed"),
    ("prlimit64", (8,), "allowed", "EPERM"),
    ("socket", (2,), "EPERM", "allowed"),
    ("ptrace", (), "EPERM", "allowed"),
    ("kill", (), "EPERM", "allowed"),
    ("unshare", (), "EPERM", "allowed"),
]


@pytest.mark.parametrize("arch", seccomp.ARCHES)
def test_the_filters_on_both_architectures(arch: str) -> None:
    numbers = {name: number for table in seccomp._tables(arch) for name, number in table.items()}
    audit, main = seccomp.ARCHES[arch], seccomp.main_filter(arch)
    last = seccomp.last_filter(arch, 7, execve=False)
    for name, arguments, first, second in CALLS:
        found = [errno_of(answer(program, numbers[name], audit, *arguments)) for program in (main, last)]
        assert (name, arguments, *found) == (name, arguments, first, second)
    assert errno_of(answer(seccomp.last_filter(arch, 7, execve=True), numbers["execve"], audit)) == "allowed"
    listed = {*numbers.values()}
    unknown = [errno_of(answer(main, number, audit)) for number in range(600) if number not in listed]
    assert set(unknown) == {"ENOSYS"}
    assert errno_of(answer(main, numbers["read"], 0x40000003)) == "ENOSYS"  # 32-bit calls have other numbers
    assert errno_of(answer(main, numbers["read"] | 0x40000000, audit)) == "ENOSYS"  # x32 as well


def test_frames_in_all_pieces() -> None:
    stream = b"log \0agent\0agentsite E{}\nmore\0agentsite C[1]\n\0"
    for cut, other in itertools.combinations(range(len(stream) + 1), 2):
        frames = Frames()
        found = [each for piece in (stream[:cut], stream[cut:other], stream[other:]) for each in frames.feed(piece)]
        assert [each for each in found if each[0]] == [("E", b"{}"), ("C", b"[1]")]
        assert b"".join(data for kind, data in found if not kind) == b"log \0agentmore"
        assert frames.waiting == 1


async def test_a_freed_place_goes_to_who_has_the_fewest() -> None:
    admission, order, hold = Admission(2, 2, 10), list[str](), asyncio.Event()

    async def job(name: str, owner: UUID) -> None:
        async with admission.place(owner):
            order.append(name)
            await hold.wait()

    tasks = [asyncio.create_task(job(name, owner)) for name, owner in (("a1", A), ("a2", A), ("a3", A), ("b1", B))]
    await asyncio.sleep(0)
    assert order == ["a1", "a2"]
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert order == ["a1", "a2", "b1"]
    hold.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (order[3], admission.running, admission.waiting) == ("a3", 0, 0)


async def test_a_place_that_nobody_waits_for_any_more_is_free() -> None:
    admission = Admission(1, 1, 4)
    async with admission.place(A):
        waiting = [asyncio.create_task(_through(admission)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(SandboxBusy):
            await _through(admission)  # half the queue is its own
        waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (admission.running, admission.waiting) == (0, 0)
    async with admission.place(B):
        assert admission.running == 1


async def _through(admission: Admission) -> None:
    async with admission.place(A):
        pass


async def test_a_place_given_at_the_moment_of_a_cancellation_is_given_back() -> None:
    admission = Admission(1, 1, 4)
    async with admission.place(A):
        waiting = asyncio.create_task(_through(admission))
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert admission.running == 0


def wheel(path: Path, **members: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../evil", "a\\..\\evil"])
def test_a_wheel_cannot_write_beside_its_folder(tmp_path: Path, name: str) -> None:
    made = tmp_path / "made"
    with pytest.raises(InvalidRequest) as refused:
        unzip(wheel(tmp_path / "x.whl", **{"fine.py": "1", name: "evil"}), made)
    assert refused.value.code == "packages_invalid"
    assert [path.name for path in tmp_path.rglob("*") if "evil" in path.name] == []


def test_a_wheel_has_no_links(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidRequest, match="link"):
        unzip(tmp_path / "x.whl", tmp_path / "made")


def test_a_wheel_that_grows_without_end_is_stopped(tmp_path: Path) -> None:
    bomb = wheel(tmp_path / "x.whl", zeros=bytes(50_000_000))
    with pytest.raises(InvalidRequest, match="MB"):
        unzip(bomb, tmp_path / "made", packages._Room(10, 10_000_000))
    assert (tmp_path / "made/zeros").stat().st_size <= 10_000_000
    many = wheel(tmp_path / "y.whl", **{f"f{number}": "" for number in range(20)})
    with pytest.raises(InvalidRequest, match="files"):
        unzip(many, tmp_path / "other", packages._Room(10, 10_000_000))


def test_a_broken_wheel_is_a_fault_of_the_request(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"PK\3\4 nonsense")
    with pytest.raises(InvalidRequest, match="broken"):
        unzip(tmp_path / "x.whl", tmp_path / "made")


@pytest.mark.parametrize(
    ("language", "requirements", "codes"),
    [
        (
            "python",
            ["six", "six>=1", "six==1.*", "six @ https://x/y.whl", "-r x", "evil==1"],
            ["not_pinned"] * 5 + ["not_allowed"],
        ),
        (
            "javascript",
            ["lodash", "lodash@latest", "lodash@^4.0.0", "../x@1.0.0", "evil@1.0.0"],
            ["not_pinned"] * 4 + ["not_allowed"],
        ),
        ("python", ["six==1.0"] * 51, ["too_many"]),
    ],
)
async def test_what_is_not_pinned_or_not_allowed_is_refused_at_once(
    settings: Any, tmp_path: Path, language: str, requirements: list[str], codes: list[str]
) -> None:
    settings.SANDBOX_PACKAGE_DIR = tmp_path / "store"
    with pytest.raises(InvalidRequest) as refused:
        await resolve(Language(language), requirements)
    assert [detail["code"] for detail in refused.value.details or []] == codes
    assert not (tmp_path / "store").exists()


def built(folder: Path, name: str, needs: str = "") -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}"
    info = f"{name}-1.0.dist-info"
    members = {f"{name}.py": "VALUE = 7\n", f"{info}/METADATA": metadata, f"{info}/RECORD": ""}
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    wheel(folder / f"{name}-1.0-py3-none-any.whl", **members)


@pytest.fixture
def index(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pip's only index."""
    settings.SANDBOX_PACKAGES, settings.SANDBOX_PACKAGE_DIR = ["*"], tmp_path / "store"
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


async def test_packages_are_kept_by_their_content_and_must_be_complete(index: Path) -> None:
    built(index, "plain")
    built(index, "needy", "Requires-Dist: plain>=1\nRequires-Dist: other; extra == 'x'\n")
    first = await resolve(Language.PYTHON, ["plain==1.0"])
    again = await resolve(Language.PYTHON, ["plain==1.0"])
    assert first == again
    assert first.folder.name == first.digest
    assert (first.folder / "plain.py").read_text() == "VALUE = 7\n"
    assert (first.folder / "plain.py").stat().st_mode & 0o777 == 0o444
    with pytest.raises(InvalidRequest, match="needy needs plain>=1"):
        await resolve(Language.PYTHON, ["needy==1.0"])
    both = await resolve(Language.PYTHON, ["plain==1.0", "needy==1.0"])
    assert both.digest != first.digest
    with pytest.raises(InvalidRequest, match="plain==9"):
        await resolve(Language.PYTHON, ["plain==9"])
    assert {path.name for path in index.parent.joinpath("store").iterdir()} == {first.digest, both.digest}


def test_the_runtime_of_slots_has_the_standard_library_only() -> None:
    """It runs below the system's Python, which has no package of ours."""
    import subprocess

    root = Path(__file__).resolve().parents[2]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); import sandbox.pool.main; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert not {"django", "orjson", "msgspec"} & set(eval(done.stdout))
