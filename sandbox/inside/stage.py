"""What runs first in a slot, before any byte of a tenant: gives up rights for ever, then becomes the runtime.

Its one argument is JSON: `limits` by name of resource, `rules` of Landlock, `uid` to become or null, `filter` whether
the main seccomp filter is still to be installed, `exec` the runtime's command or null for the Python runner, `env`.
Standard library only; -I -S, so its own folder is not on the path.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))

import landlock
import seccomp

CHANNEL = 3  # where the Python runner speaks; Deno has its standard output for that
FRAME = b"\0agentsite "  # begins a line of the slot's own; anything else is the tenant's output
CAPABILITY_VERSION = 0x20080522
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts")
RIGHTS = {"read": landlock.READ, "run": landlock.READ | landlock.EXECUTE, "write": landlock.WRITE}
RIGHTS["device"] = landlock.READ_FILE | landlock.WRITE_FILE

_libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def main() -> None:
    config = json.loads(sys.argv[1])
    if config["channel"] > CHANNEL:
        os.dup2(config["channel"], CHANNEL, inheritable=False)
    os.closerange(CHANNEL + 1, 4096)
    namespaces = {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}
    status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    if config["uid"] is not None:
        become(config["uid"])
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after that, which clears it
    for name, value in config["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    version = landlock.restrict([(path, RIGHTS[right]) for path, right in config["rules"]]) if config["rules"] else 0
    arch = seccomp.machine()
    if config["filter"]:
        install(seccomp.main_filter(arch))
    install(seccomp.last_filter(arch, os.getpid(), execve=bool(config["exec"])))
    facts = {"landlock": version, "namespaces": namespaces, **standing(os.read(status, 8192).decode())}
    os.close(status)
    os.write(min(config["channel"], CHANNEL), FRAME + b"S" + json.dumps(facts).encode() + b"\n")
    os.chdir(config["folder"])
    if config["exec"]:
        os.execve(config["exec"][0], config["exec"], config["env"])
    os.environ.clear()
    os.environ.update(config["env"])
    import runner

    runner.main(CHANNEL, config["packages"])


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    header, none = struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)
    if _libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def prctl(option: int, value: int, pointer: Any = 0) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def install(program: bytes) -> None:
    prctl(PR_SET_SECCOMP, 2, ctypes.byref(Program(len(program) // 8, program)))


def standing(status: str) -> dict[str, Any]:
    """What /proc/self/status says of rights: `uid` is the effective one, `caps` all sets of capabilities at once."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    caps = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        caps |= int(fields[name], 16)
    new = {"uid": int(fields["Uid"].split()[1]), "caps": caps}
    return {**new, "no_new_privs": int(fields["NoNewPrivs"]), "seccomp": int(fields["Seccomp"])}


if __name__ == "__main__":
    main()
