"""No path, link or race leads out of a workspace."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agentsite.embedded.home import CHECKOUT
from core import beneath
from core.beneath import PathRefused
from core.ids import uuid7
from tests.toolsets.workplace import SECRET, Agent, base, folder_of, furnish, in_session, snapshot, way
from toolsets.exceptions import ToolError
from toolsets.workspace import Limits, Workspace

__all__ = ["base", "way"]

NEVER = [  # no tool takes these
    *["..", ".", "/", "//", "./", "../", "", "plain/", "/plain/file.txt", "plain//file.txt", "./plain/file.txt"],
    *["../outside/secret.txt", "../../outside/secret.txt", "plain/../../outside/secret.txt", "plain/./file.txt"],
    *["plain/..", "plain/../plain/file.txt", "../" * 12 + "etc/passwd", "/etc/passwd", "//etc/passwd", "///etc/passwd"],
    *["/proc/self/root/etc/passwd", "/proc/self/environ", "/dev/zero", "/dev/stdin", "....//..//", "..//..//etc"],
    *["..\\..\\outside\\secret.txt", "plain\\file.txt", "C:\\x", "\\\\host\\share", "plain/..\\secret"],
    *["plain\0", "plain/file.txt\0.md", "\0", "a\nb", "a\r\nb", "a\tb", "a\x1b[2Jb", "a\x7f", "a\x85b", "a\x9bb"],
    *["a\u2028b", "a\u2029b", "a\u202etxt.exe", "a\u2066b"],
    *["n" * 256, "é" * 128, "plain/" + "n" * 256, "/".join(["n" * 200] * 6), "/".join("n" * 17), "a/" * 600 + "a"],
    *["to-file", "to-folder/secret.txt", "to-deep/secret.txt", "to-link/secret.txt", "to-link/deep/secret.txt"],
    *["up/x", "up-two/outside/secret.txt", "relative-file", "relative-folder/secret.txt", "self", "self/x"],
    *["here/plain/file.txt", "to-plain/file.txt", "to-own-file", "plain/to-folder/secret.txt", "plain/up/up/x"],
    *["top/etc/passwd", "etc/passwd", "passwd", "proc-root/etc/passwd", "proc-cwd/manage.py", "proc-fd/0"],
    *["proc/self/root/etc/passwd", "proc/self/environ", "proc-exe", "dev/zero", "zero", "tty", "stdin", "nowhere"],
    *["hard.txt", "plain/hard.txt", "fifo", "socket", "plain", "plain/file.txt/x", "plain/file.txt/../file.txt"],
    *[f".{'a' * 22}.part", f"plain/.{'a' * 22}.part"],
]
STRANGE = [  # names like others, which only look as if they led somewhere
    *["．．/outside/secret.txt", "‥/outside/secret.txt", "..∕..∕etc∕passwd", "..／..／etc／passwd", "%2e%2e/outside"],
    *["%2e%2e%2foutside%2fsecret.txt", "..%2f..%2fetc%2fpasswd", "..%c0%af..%c0%afetc", "~/secret.txt", "~root/x"],
    *["$HOME/x", "${HOME}", "`id`", "$(id)", "|id", ";id", "-rf", "--", "*", "?", "...", " ..", ".. ", "..;/x", "con"],
    *[
        "ſecret",
        "ﬁle.txt",
        "ｐlain/file.txt",
        "plain/FILE.txt",
        "e\u0301",
        "é",
        "\u200b..",
        "..\u200d/x",
        "file:",
        "http:",
    ],
]


def test_the_list_is_long_enough() -> None:
    assert len(set(NEVER)) == len(NEVER) >= 60
    assert len(set(STRANGE)) == len(STRANGE)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return tmp_path / "workspaces" / "outside"


@pytest.fixture
def agent(base: Path, outside: Path) -> Iterator[Agent]:
    """Whose workspace is furnished; `outside` is where ../../outside would be from it."""
    agent = in_session()
    with ExitStack() as held:
        for listening in furnish(folder_of(agent, base), outside):
            held.enter_context(listening)
        yield agent


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("read_lines", {}),
    ("grep_file", {"regex": "."}),
    ("create_file", {"content": "escaped"}),
    ("append_file", {"content": "escaped"}),
    ("edit_file", {"old": SECRET, "new": "escaped"}),
    ("delete_file", {}),
]


async def test_no_tool_takes_a_hostile_path(agent: Agent, outside: Path, base: Path, way: str) -> None:
    before = snapshot(base)
    for path in NEVER:
        for tool, arguments in CALLS:
            text = await agent.no(tool, filename=path, **arguments)
            assert "SECRET" not in text
            assert "root:" not in text
            assert str(base) not in text
        if path not in ("", "plain"):
            await agent.no("list_files", folder=path)
    after = snapshot(base)
    written = {str(base), str(base / str(agent._context.tenant_id))}  # where the lock is
    assert {name: kept for name, kept in after.items() if name not in written and not name.endswith(".lock")} == {
        name: kept for name, kept in before.items() if name not in written
    }


async def test_a_strange_name_stays_inside(agent: Agent, outside: Path, base: Path, way: str) -> None:
    before, root = snapshot(outside), folder_of(agent, base)
    for path in STRANGE:
        await agent.ok("create_file", filename=path, content=f"in {path}")
        assert (root / path).read_text() == f"in {path}"
        assert await agent.ok("read_lines", filename=path) == f"in {path}"
    assert set(STRANGE) < set(await agent.names())
    for path in STRANGE:
        await agent.ok("delete_file", filename=path)
    assert await agent.names() == ["plain/file.txt"]
    assert snapshot(outside) == before


async def test_only_files_that_can_be_opened_are_listed(agent: Agent, base: Path, way: str) -> None:
    root = folder_of(agent, base)
    (root / "line\nbreak").write_text("x")
    os.mkdir(os.fsencode(root) + b"/\xff")
    (root / os.fsdecode(b"\xff") / "x").write_text("x")
    assert await agent.names() == ["plain/file.txt"]
    assert await agent.names("plain") == ["plain/file.txt"]
    assert "link" in await agent.no("list_files", folder="to-folder")
    assert "has no 'missing'" in await agent.no("list_files", folder="missing")


def test_half_a_character_is_no_name(tmp_path: Path, way: str) -> None:
    root = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(PathRefused):
        beneath.open_file(root, "a\ud800")
    os.close(root)


async def test_the_folder_of_a_workspace_may_be_no_link_either(agent: Agent, base: Path, way: str) -> None:
    root = folder_of(agent, base)
    root.rename(base / "moved")
    root.symlink_to(base / "moved")
    assert "link" in await agent.no("read_lines", filename="plain/file.txt")
    assert "link" in await agent.no("create_file", filename="x", content="x")
    assert not (base / "moved" / "x").exists()


def test_another_file_system_is_not_entered(way: str) -> None:
    top = os.open("/", os.O_RDONLY)
    with pytest.raises(PathRefused):
        beneath.open_file(top, "proc/version")
    os.close(top)


def test_no_descriptor_is_left_open(base: Path, way: str) -> None:
    root = base / "w"
    with ExitStack() as held:
        for listening in furnish(root, base / "outside"):
            held.enter_context(listening)
        top = os.open(root, os.O_RDONLY)
        before = len(os.listdir("/proc/self/fd"))
        for path in [*NEVER, *STRANGE, "plain/file.txt"]:
            with suppress(PathRefused, OSError):
                os.close(beneath.open_file(top, path))
            with suppress(PathRefused, OSError), beneath.folder(top, path):
                pass
        list(beneath.entries(top))
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(top)


FILTERED = """
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x50000 | 1), (0x06, 0, 0, 0x7FFF0000)]  # 437: EPERM
raw = b"".join(struct.pack("HBBI", *line) for line in code)
held = ctypes.create_string_buffer(raw, len(raw))
program = struct.pack("HP", len(code), ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(program, len(program))) == 0, ctypes.get_errno()
from core import beneath
root = os.open(sys.argv[1], os.O_RDONLY)
print(beneath.has_openat2(), os.read(beneath.open_file(root, "a/b"), 9).decode())
"""


def test_a_filter_of_system_calls_leaves_the_walk(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("read")
    command = [sys.executable, "-c", FILTERED, str(tmp_path)]
    ended = subprocess.run(command, cwd=CHECKOUT, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("False read\n", 0), ended.stderr


RACE_SECONDS = 10.0
EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)


class Race:
    """Swaps the folder `root/swap` with a link to `outside` as fast as it can, while others work."""

    def __init__(self, root: Path, outside: Path) -> None:
        self.over = threading.Event()
        self.faults: list[BaseException] = []
        self.counts: dict[str, int] = {}
        self._swap = os.fsencode(root / "swap"), os.fsencode(root / "link")
        (root / "swap").mkdir(parents=True)
        (root / "swap" / "secret.txt").write_text("mine")
        (root / "link").symlink_to(outside)

    def swap(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.renameat2(-100, self._swap[0], -100, self._swap[1], EXCHANGE) == 0, ctypes.get_errno()

    def run(self, *works: Callable[[], object]) -> None:
        threads = [threading.Thread(target=self._loop, args=(work,)) for work in (self.swap, *works)]
        for thread in threads:
            thread.start()
        time.sleep(RACE_SECONDS)
        self.over.set()
        for thread in threads:
            thread.join()
        assert self.faults == []

    def _loop(self, work: Callable[[], object]) -> None:
        while not self.over.is_set():
            try:
                work()
                done = work.__name__
            except (ToolError, PathRefused):
                done = f"{work.__name__} refused"
            except BaseException as fault:
                self.faults.append(fault)
                return
            self.counts[done] = self.counts.get(done, 0) + 1


@pytest.mark.slow
def test_a_race_is_never_won(tmp_path: Path, way: str) -> None:
    outside, tenant = tmp_path / "outside", UUID(int=1)
    outside.mkdir()
    for name in ("secret.txt", "outside.txt"):
        (outside / name).write_text(SECRET)
    workspace = Workspace(tmp_path / "base", str(tenant), "shared", Limits())
    root = tmp_path / "base" / str(tenant) / "shared"
    race, before = Race(root, outside), snapshot(outside)
    top, never = os.open(root, os.O_RDONLY), threading.Event()

    def read() -> None:
        with workspace.open("swap/secret.txt") as file:
            assert file.read() == b"mine"

    def create() -> None:
        workspace.change(f"swap/{uuid7()}", lambda old: b"escaped", never)

    def make_folder() -> None:
        path = f"swap/{uuid7()}"
        with beneath.folder(top, path, make=True) as made, suppress(FileNotFoundError):  # `listing` deletes as well
            os.close(os.open("new", os.O_CREAT | os.O_EXCL, dir_fd=made))
            os.unlink("new", dir_fd=made)
        beneath.prune(top, path)

    def create_below() -> None:
        workspace.change(f"swap/{uuid7()}/new", lambda old: b"escaped", never)

    def listing() -> None:
        found = [file.path for file in workspace.files()]
        assert not [path for path in found if "outside" in path]
        for path in found:
            if "-" in path:
                workspace.delete(path, never)

    def append() -> None:
        workspace.change("swap/secret.txt", lambda old: old or b"mine", never)

    def naive() -> None:
        if (root / "swap" / "secret.txt").read_text() == SECRET:
            raise ToolError("escaped")

    race.run(read, make_folder, create, create_below, listing, append, naive)
    os.close(top)
    print(way, race.counts)
    assert race.counts["naive refused"] > 100  # an ordinary open is led out
    for work in (read, make_folder, create, create_below, append):
        assert race.counts[work.__name__] > 0
        assert race.counts[f"{work.__name__} refused"] > 0
    assert race.counts["listing"] > 0
    assert snapshot(outside) == before
