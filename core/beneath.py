"""Files below a folder: no name, link or folder swapped on the way leads out of it.

Linux's openat2(2) resolves a path in one call. Where the kernel or a seccomp filter lacks it, the path is walked folder
by folder, which costs a call each and cannot tell a bind mount of the same file system. `root` is always a descriptor;
what else is done to a name (mkdir, rename, unlink) is done beside the descriptor of the folder that holds it.
"""

import ctypes
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

from core.errors import InvalidRequest

MAX_PATH, MAX_NAME = 1024, 255  # bytes
LEVELS = 16  # the file included
# Control characters, line ends, marks that turn the direction of text around, halves of characters.
_UNSPEAKABLE = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # NONBLOCK: a fifo without a writer would be waited for
_LEADS_AWAY = {errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENXIO, errno.ENODEV}


class PathRefused(InvalidRequest):
    """The path is none that may be opened; the message names no place outside `root`."""

    code = "path_refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """`size` is in bytes, 0 for what is no file. `plain`: a regular file without a second hard link. `written` is when
    that was, in seconds since 1970.
    """

    path: str
    size: int
    folder: bool
    plain: bool
    written: float = 0.0


def check_path(path: str) -> None:
    """Raises PathRefused for what is no relative path of plain names, with '/' between them."""
    if path.startswith("/"):
        raise PathRefused("Paths are relative: they do not begin with '/'.")
    if "\\" in path or _UNSPEAKABLE.search(path):
        raise PathRefused("A path holds no backslash, control character, line end or mark of text direction.")
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names):
        raise PathRefused("A path is one or more names with '/' between them; '', '.' and '..' are no names.")
    size = len(path.encode())
    if size > MAX_PATH or len(names) > LEVELS:
        raise PathRefused(f"A path has at most {MAX_PATH} bytes and {LEVELS} levels.")
    if size > MAX_NAME and any(len(name.encode()) > MAX_NAME for name in names):
        raise PathRefused(f"A name has at most {MAX_NAME} bytes.")


def open_file(root: int, path: str) -> int:
    """A descriptor to read a regular file. Raises PathRefused or OSError."""
    check_path(path)
    descriptor = _open(root, path, _FILE)
    try:
        _check_file(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise PathRefused(f"'{path}' is a folder.")
    if not stat.S_ISREG(found.st_mode):
        raise PathRefused(f"'{path}' is no regular file.")
    if found.st_nlink > 1:
        raise PathRefused(f"'{path}' has other names (hard links), so it may belong elsewhere.")


@contextmanager
def folder(root: int, path: str, *, make: bool = False) -> Iterator[int]:
    """The descriptor of a folder, "" for `root` itself. `make`: with those above it, mode 0700, where missing."""
    if path:
        check_path(path)
    with _held(_made(root, path) if make else _open(root, path or ".", _FOLDER)) as descriptor:
        yield descriptor


@contextmanager
def _held(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _made(root: int, path: str) -> int:
    try:
        return _open(root, path or ".", _FOLDER)
    except FileNotFoundError:
        above, _, name = path.rpartition("/")
        with folder(root, above, make=True) as parent, suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
    return _open(root, path, _FOLDER)


def prune(root: int, path: str) -> None:
    """Removes a folder if it is empty, and then those above it."""
    while path:
        above, _, name = path.rpartition("/")
        try:
            with folder(root, above) as parent:
                os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            pass  # those above it may be there
        except (OSError, PathRefused):
            return  # it holds something
        path = above


def entries(root: int, path: str = "") -> Iterator[Entry]:
    """Everything below a folder, in no order; nothing is followed. Raises PathRefused or OSError.

    Names are as the disk has them: not all of them pass `check_path`.
    """
    with folder(root, path):
        waiting = [path]  # only the folder asked for must be there
    while waiting:
        path = waiting.pop()
        try:
            descriptor = _open(root, path or ".", _FOLDER)
        except (OSError, PathRefused):
            continue  # gone, swapped for a link, or deeper than the system can name
        with _held(descriptor), os.scandir(descriptor) as found:
            for each in found:
                entry = _entry(f"{path}/{each.name}" if path else each.name, each)
                if entry.folder:
                    waiting.append(entry.path)
                yield entry


def _entry(path: str, found: os.DirEntry[str]) -> Entry:
    try:
        status = found.stat(follow_symlinks=False)
    except FileNotFoundError:
        return Entry(path, 0, folder=False, plain=False)
    regular = stat.S_ISREG(status.st_mode)
    size = status.st_size if regular else 0
    plain = regular and status.st_nlink == 1
    return Entry(path, size, folder=stat.S_ISDIR(status.st_mode), plain=plain, written=status.st_mtime)


def _open(root: int, path: str, flags: int) -> int:
    open_beneath = _by_openat2 if has_openat2() else _by_walking
    try:
        return open_beneath(root, path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _LEADS_AWAY:
            raise
        raise PathRefused(
            "The path cannot be opened: links and devices are not followed, and a file is no folder."
        ) from None


class _How(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_OPENAT2 = 437  # on every architecture but Alpha
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_RETRIES = 100  # EAGAIN: something was renamed meanwhile


@cache
def has_openat2() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    top = os.open("/", _FOLDER)
    try:
        os.close(_by_openat2(top, ".", _FOLDER))
    except OSError:  # ENOSYS of an old kernel, EPERM of a filter
        return False
    finally:
        os.close(top)
    return True


def _by_openat2(root: int, path: str, flags: int) -> int:
    raw, how = os.fsencode(path), _how(flags)
    for _ in range(_RETRIES):
        descriptor: int = _syscall()(_OPENAT2, root, raw, how, ctypes.sizeof(_How))
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


@cache
def _syscall() -> "ctypes._NamedFuncPointer":
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t]
    call.restype = ctypes.c_long
    return call


@cache
def _how(flags: int) -> "ctypes._Pointer[_How]":
    return ctypes.pointer(_How(flags, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS | _NO_XDEV))


def _by_walking(root: int, path: str, flags: int) -> int:
    *above, name = path.split("/")
    device, held = os.fstat(root).st_dev, os.dup(root)
    try:
        for each in above:
            below = _step(held, each, _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, device)
            os.close(held)
            held = below
        return _step(held, name, flags, device)
    finally:
        os.close(held)


def _step(parent: int, name: str, flags: int, device: int) -> int:
    """Raises OSError, with EXDEV for a folder of another file system; files of an overlay may tell other devices."""
    descriptor = os.open(name, flags, dir_fd=parent)
    if flags & os.O_DIRECTORY and os.fstat(descriptor).st_dev != device:
        os.close(descriptor)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return descriptor
