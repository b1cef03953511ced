"""Seccomp filters as classic BPF, assembled here. See seccomp(2), linux/seccomp.h, linux/bpf_common.h.

What is unknown fails with ENOSYS and never kills: a newer C library then takes an older call.
"""

import errno
import os
import struct
from pathlib import Path

ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, AT_LEAST, SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH = 0, 4  # offsets in struct seccomp_data
X32 = 0x40000000
CLONE_THREAD, AF_UNIX = 0x00010000, 1
# TIOCSTI and TIOCLINUX type into a terminal; FIOSETOWN and SIOCSPGRP have signals sent to any process of the user.
IOCTLS = (0x5412, 0x541C, 0x8901, 0x8902)
FCNTLS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: as well
Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value
Numbers = dict[str, int]


def machine() -> str:
    return os.uname().machine


def main_filter(arch: str) -> bytes:
    """Only listed calls; threads, and no processes; no sockets but pairs. Execve is left to `last_filter`."""
    allowed, guarded, setup, refused = _tables(arch)
    program = [
        *_head(arch),
        *_unless(guarded["clone"], [(SET, CLONE_THREAD)], refuse=False),
        *_unless(guarded["socketpair"], [(EQUAL, AF_UNIX)], refuse=False),
        *_unless(guarded["ioctl"], [(EQUAL, each) for each in IOCTLS], argument=1, refuse=True),
        *_unless(guarded["fcntl"], [(EQUAL, each) for each in FCNTLS], argument=1, refuse=True),
    ]
    plain = sorted([*allowed.values(), *setup.values()])
    plain += [guarded[name] for name in ("execve", "prlimit64", "tgkill")]
    for number in plain:
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for number in refused.values():
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return _packed([*program, (RETURN, 0, 0, ERRNO | errno.ENOSYS)])


def last_filter(arch: str, pid: int, *, execve: bool) -> bytes:
    """On top of the other: nothing is executed any more, unless `execve`, and other processes are left alone."""
    _, guarded, _, _ = _tables(arch)
    program = _head(arch)
    for name in () if execve else ("execve", "execveat"):
        program += [(EQUAL, 0, 1, guarded[name]), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    program += _unless(guarded["tgkill"], [(EQUAL, pid)], refuse=False)
    program += _unless(guarded["prlimit64"], [(EQUAL, 0), (EQUAL, pid)], refuse=False)
    return _packed([*program, (RETURN, 0, 0, ALLOW)])


def _tables(arch: str) -> list[Numbers]:
    """The sections of syscalls.txt."""
    column = list(ARCHES).index(arch) + 1
    tables: list[Numbers] = []
    for line in Path(__file__).with_name("syscalls.txt").read_text().splitlines()[1:]:
        if line.startswith("#"):
            tables.append({})
        elif line and (fields := line.split())[column] != "-":
            tables[-1][fields[0]] = int(fields[column])
    return tables


def _head(arch: str) -> list[Instruction]:
    """Leaves the call's number loaded. Calls of another architecture, x32 included, do not exist."""
    missing = ERRNO | errno.ENOSYS
    return [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, ARCHES[arch]),
        (RETURN, 0, 0, missing),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, missing),
    ]


def _unless(number: int, tests: list[tuple[int, int]], *, argument: int = 0, refuse: bool) -> list[Instruction]:
    """For one call: `refuse` it if a test of the argument holds and allow it else, or the other way round."""
    answers = (ERRNO | errno.EPERM, ALLOW) if refuse else (ALLOW, ERRNO | errno.EPERM)
    body: list[Instruction] = [(LOAD, 0, 0, 16 + 8 * argument)]  # its low half
    for position, (code, value) in enumerate(tests):
        body.append((code, len(tests) - position, 0, value))
    body += [(RETURN, 0, 0, answers[1]), (RETURN, 0, 0, answers[0])]
    return [(EQUAL, 0, len(body), number), *body]


def _packed(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
