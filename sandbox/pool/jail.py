"""The walls around a slot: how a runtime is started behind them, and whether they stand."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sandbox.inside import seccomp
from sandbox.pool import runtimes

MB = 1 << 20
FOLDER_MB = 16  # of all that a slot may write
MAX_MEMORY_MB = 1024
PYTHON_MB, DENO_MB = 256, 512  # of address space or data that the runtimes need for themselves
THREADS, DESCRIPTORS, CPU_SECONDS = 64, 128, 700
ONE_ARENA = ("MALLOC_ARENA_MAX", "1")  # the C library would reserve 128 MB of address space for each thread
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")
PLAIN_IMPORT = "data:text/javascript,export const {call,HostError}=globalThis.agentsite"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a slot is started with. Slots of the same terms may stand in for each other."""

    runtime: str  # python or deno
    memory_mb: int = 256  # of deno; python gets its own with the job
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wall:
    """A way to jail. `bwrap`: in namespaces, and with `owned` in a user namespace of the slot's own user."""

    name: str
    level: int
    bwrap: bool
    owned: bool = False


# Best first. As root, "owned" becomes the slot's user before bubblewrap starts; "rootful" needs no path to be open to
# that user, such as one below a home that only root may enter.
OWNED = Wall("bubblewrap", 1, bwrap=True, owned=True)
ROOTFUL = Wall("bubblewrap as root", 1, bwrap=True)
LANDLOCKED = Wall("landlock", 2, bwrap=False)


def walls(level: str) -> list[Wall]:
    """For a SANDBOX_LEVEL."""
    found = [OWNED, ROOTFUL, LANDLOCKED] if os.geteuid() == 0 else [OWNED, LANDLOCKED]
    return [wall for wall in found if level in ("auto", str(wall.level))]


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a slot: its command, the user that it is started as, and by name the descriptors that it gets."""

    command: list[str]
    uid: int | None
    passed: tuple[str, ...]


def start(wall: Wall, terms: Terms, uid: int | None, folder: str, descriptors: Mapping[str, int]) -> Start:
    """`folder` is where the slot may write, `uid` its user or None for the server's own. `descriptors` are `channel`,
    by which it speaks, and `status` and `filter` for bubblewrap. Raises runtimes.Missing."""
    python = runtimes.python()
    early = wall.owned  # bubblewrap starts as the slot's user, and installs the filter
    places = _Places(wall, terms)
    config = {
        "uid": None if early else uid,
        "limits": _limits(wall, terms, uid),
        "rules": _rules(terms, folder, places),
        "filter": not early,
        "channel": 1 if terms.runtime == "deno" else descriptors["channel"],
        "folder": f"{folder}/work",
        "exec": _deno(terms, folder, places) if terms.runtime == "deno" else None,
        "env": _environment(folder),
        "packages": [places[path] for path in terms.packages],
    }
    stage = f"{places[str(runtimes.INSIDE)]}/stage.py"
    command = [python.executable, "-I", "-S", "-B", stage, json.dumps(config)]
    if not wall.bwrap:
        return Start(command, None, ("channel",))
    walled = [runtimes.bubblewrap(), *_namespaces(wall), *_mounts(terms, folder, places)]
    walled += ["--json-status-fd", str(descriptors["status"])]
    walled += ["--seccomp", str(descriptors["filter"])] if early else []
    passed = ("channel", "status", "filter") if early else ("channel", "status")
    return Start([*walled, "--remount-ro", "/", "--", *command], uid if early else None, passed)


def filter_file() -> int:
    """A descriptor to read the main seccomp filter from."""
    file = os.memfd_create("filter")
    os.write(file, seccomp.main_filter(seccomp.machine()))
    os.lseek(file, 0, os.SEEK_SET)
    return file


class _Places(dict[str, str]):
    """Where a path of this machine is in the jail: what would tell something of the machine is moved."""

    def __init__(self, wall: Wall, terms: Terms) -> None:
        super().__init__()
        if wall.bwrap:
            self[str(runtimes.INSIDE)] = "/opt/sandbox"
            self.update({path: f"/opt/packages/{number}" for number, path in enumerate(terms.packages)})
            if terms.runtime == "deno":
                self[runtimes.deno()] = "/opt/deno"

    def __missing__(self, path: str) -> str:
        return path


def _namespaces(wall: Wall) -> list[str]:
    common = [
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        *("--setenv", *ONE_ARENA),
        "--hostname",
        "sandbox",
        "--cap-drop",
        "ALL",
    ]
    if wall.owned:
        return ["--unshare-all", *common]
    apart = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    return [*apart, *common, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _mounts(terms: Terms, folder: str, places: "_Places") -> list[str]:
    """`/` and /dev are writable memory until they are mounted read-only: / as the last."""
    binds = {path: places[path] for path in _readable(terms, stage=True) if os.path.exists(path)}
    above = {str(parent) for place in binds.values() for parent in PurePath(place).parents[:-1]}
    mounts: list[str] = []
    for folder_above in sorted(above):  # or bubblewrap makes them its own user's only
        mounts += ["--perms", "0755", "--dir", folder_above]
    for path, place in binds.items():
        mounts += ["--ro-bind", path, place]
    for target, path in runtimes.libraries().links:
        mounts += ["--symlink", target, path]
    mounts += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    mounts += ["--perms", "1777", "--size", str(FOLDER_MB * MB), "--tmpfs", folder]
    return [*mounts, "--perms", "0777", "--dir", f"{folder}/work"]


def _readable(terms: Terms, *, stage: bool = False) -> list[str]:
    python = runtimes.python()
    paths = [*runtimes.libraries().folders, *terms.packages]
    if terms.runtime == "python" or stage:
        paths += [*python.needs, runtimes.ZONES, str(runtimes.INSIDE)]
    if stage:
        paths += [python.executable]
    if terms.runtime == "deno":
        paths += [runtimes.deno(), str(runtimes.INSIDE)]
    return paths


def _rules(terms: Terms, folder: str, places: "_Places") -> list[tuple[str, str]]:
    """Of Landlock, which needs no right for what is open or mapped already."""
    rules = [(places[path], "read") for path in _readable(terms)]
    if terms.runtime == "deno":
        rules += [(places[path], "run") for path in (runtimes.deno(), runtimes.libraries().loader)]
    return [*rules, *((path, "device") for path in DEVICES), (folder, "write")]


def _limits(wall: Wall, terms: Terms, uid: int | None) -> dict[str, int]:
    shared = uid is None and not wall.bwrap  # counted together with all else that the server's user runs
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": CPU_SECONDS,
        "RLIMIT_FSIZE": FOLDER_MB * MB,
        "RLIMIT_NOFILE": DESCRIPTORS,
        "RLIMIT_NPROC": THREADS + (threads_of(os.getuid()) if shared else 0),
    }
    if terms.runtime == "python":
        return {**limits, "RLIMIT_AS": (PYTHON_MB + MAX_MEMORY_MB) * MB}  # lowered by the runner, for its job
    return {**limits, "RLIMIT_DATA": (DENO_MB + terms.memory_mb) * MB}  # V8's flags leave out buffers and WebAssembly


def threads_of(uid: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return count


def _deno(terms: Terms, folder: str, places: "_Places") -> list[str]:
    imports = {"agentsite": PLAIN_IMPORT}
    readable = [f"{folder}/work"]
    for package in terms.packages:
        readable.append(places[package])
        with open(f"{package}/imports.json") as file:
            imports |= {name: f"file://{places[package]}/{path}" for name, path in json.load(file).items()}
    flags = ["--quiet", "--no-prompt", "--no-remote", "--no-npm", "--no-config", "--no-lock", "--no-code-cache"]
    rights = [f"--allow-read={','.join(readable)}", f"--allow-write={folder}/work"]
    heap = f"--v8-flags=--max-old-space-size={terms.memory_mb}"
    names = base64.b64encode(json.dumps({"imports": imports}).encode()).decode()
    mapped = f"--import-map=data:application/json;base64,{names}"
    runner = f"{places[str(runtimes.INSIDE)]}/runner.mjs"
    return [places[runtimes.deno()], "run", *flags, *rights, heap, mapped, runner]


def _environment(folder: str) -> dict[str, str]:
    places = {"HOME": folder, "TMPDIR": folder, "DENO_DIR": f"{folder}/deno"}
    return {**places, "PATH": "/usr/bin", "LANG": "C.UTF-8", "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}


def faults(wall: Wall, uid: int | None, facts: dict[str, Any]) -> list[str]:
    """What the stage told of its rights, where that is not what the wall promises."""
    found = []
    if facts["caps"] or not facts["no_new_privs"] or facts["seccomp"] != 2:
        found.append("the slot kept rights")
    if facts["uid"] == 0 or (uid is not None and facts["uid"] != uid):
        found.append("the slot is not its own user")
    if wall.bwrap and any(os.readlink(f"/proc/self/ns/{name}") == ns for name, ns in facts["namespaces"].items()):
        found.append("the slot shares a namespace")
    if not wall.bwrap and not facts["landlock"]:
        found.append("the kernel has no Landlock")
    return found
