"""Landlock by its three system calls: which folders a process may read, write and execute in. See landlock(7)."""

import ctypes
import os
import struct
from collections.abc import Iterable

CREATE, ADD, RESTRICT = 444, 445, 446  # on all architectures
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | REFER | TRUNCATE
TCP, SCOPES = 3, 3  # bind and connect; abstract sockets and signals

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Of the kernel's Landlock; 0 where it has none."""
    found: int = _libc.syscall(CREATE, None, ctypes.c_size_t(0), 1)
    return max(0, found)


def restrict(rules: Iterable[tuple[str, int]]) -> int:
    """Allows what the rules of (path, rights) allow, and nothing else, for ever; paths that do not exist are left out.

    Answers Landlock's version. Raises OSError; ENOSYS or EOPNOTSUPP where there is none.
    """
    found = version()
    handled = (REFER << 1) - 1 if found >= 2 else REFER - 1
    handled |= (TRUNCATE if found >= 3 else 0) | (IOCTL_DEV if found >= 5 else 0)
    words = [handled, TCP, SCOPES][: 1 if found < 4 else 2 if found < 6 else 3]
    attributes = struct.pack(f"{len(words)}Q", *words)
    ruleset = _checked(_libc.syscall(CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    for path, rights in rules:
        _add(ruleset, path, rights & handled)
    _checked(_libc.syscall(RESTRICT, ruleset, 0))
    os.close(ruleset)
    return found


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= OF_FILES
    rule = struct.pack("<Qi", rights, descriptor)
    _checked(_libc.syscall(ADD, ruleset, 1, rule, 0))
    os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
