"""Where tools keep files: one workspace per session, run or tenant, in a folder of its own, made on first use.

Everything here blocks: call it by `in_thread`. Whatever a model can mend is a ToolError.
"""

import asyncio
import errno
import fcntl
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar
from uuid import UUID

from django.conf import settings

from core import beneath
from core.beneath import PathRefused, check_path
from core.ids import parse_uuid, short_id
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
Scope = Literal["session", "tenant"]

MB = 1_000_000
TEMPORARY = ".tmp"  # the folder of a workspace whose files go by themselves
TRIALS = "trials"  # the workspace of tools that a person tries outside of any run
LOCK_WAIT = 20.0  # seconds
_EXPECTED = {errno.ENAMETOOLONG, errno.EINVAL, errno.ENOSPC, errno.EDQUOT}
_PART = re.compile(r"\.[A-Za-z0-9_-]{22}\.part")  # what is being written


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes: of the whole workspace, and of one file."""

    quota: int = 100 * MB
    max_file: int = 10 * MB


@dataclass(frozen=True, slots=True)
class File:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Usage:
    size: int  # bytes
    entries: int  # files and folders


async def in_thread(work: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work` in a thread. Its first argument is an event that is set once nobody waits for it any more."""
    abandoned = threading.Event()
    try:
        return await asyncio.to_thread(work, abandoned, *args, **kwargs)
    finally:
        abandoned.set()


def workspace_of(context: ToolCallContext, scope: Scope = "session", limits: Limits | None = None) -> "Workspace":
    """The workspace of the call's session, without one of its run, without both of all trials, or its tenant's."""
    return Workspace(settings.WORKSPACE_DIR, str(context.tenant_id), _name(context, scope), limits or Limits())


def _name(context: ToolCallContext, scope: Scope) -> str:
    if scope == "session" and context.session_id is not None:
        return f"session-{context.session_id}"
    if scope == "session" and context.run_id is not None:
        return f"run-{context.run_id}"
    return TRIALS if scope == "session" else "shared"


class Workspace:
    """Files by relative path, as `core.beneath.check_path` takes it. Folders come and go with the files in them."""

    def __init__(self, base: Path, tenant: str, name: str, limits: Limits) -> None:
        self._base = base
        self._tenant = tenant
        self._name = name
        self._limits = limits

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        with _told(path), self._root() as root:
            file = os.fdopen(beneath.open_file(root, path), "rb")
        with file:
            yield file

    def change(self, path: str, edit: Callable[[bytes | None], bytes], abandoned: threading.Event) -> int:
        """Makes the content what `edit` makes of it, None being a missing file, and answers its size in bytes.

        Readers see the old content or the new. A workspace has one change at a time; one that fails, or that nobody
        waits for any more, leaves nothing behind.
        """
        with _told(path):
            check_path(path)
            if _is_part(path):
                raise PathRefused("Names such as this one are kept for files that are being written.")
            with self._writing(abandoned, make=True) as root:
                old = self._content(root, path)
                new = edit(old)
                self._check_room(root, old, new)
                _replace(root, path, new, abandoned)
                return len(new)

    def delete(self, path: str, abandoned: threading.Event) -> None:
        with _told(path):
            check_path(path)
            with self._writing(abandoned) as root:
                os.close(beneath.open_file(root, path))  # what cannot be read is not deleted either
                _unlink(root, path)
                beneath.prune(root, path.rpartition("/")[0])

    def forget_temporary(self, seconds: float) -> None:
        """Removes what was put into TEMPORARY longer ago. Raises ToolError where others write for too long."""
        with suppress(FileNotFoundError):
            with self._root() as root:
                found = any(_outdated(root, seconds))
            if found:
                with self._writing(threading.Event()) as root:
                    for path in list(_outdated(root, seconds)):
                        _unlink(root, path)
                        beneath.prune(root, path.rpartition("/")[0])

    def files(self, folder: str = "") -> Iterator[File]:
        """What can be opened below a folder, in no order; links, devices and the like are left out."""
        with _told(folder):
            try:
                with self._root() as root:
                    yield from _files(root, folder)
            except FileNotFoundError:
                if folder:
                    raise

    def usage(self) -> Usage:
        try:
            with self._root() as root:
                return _usage(root)
        except FileNotFoundError:
            return Usage(0, 0)

    @contextmanager
    def _root(self) -> Iterator[int]:
        """Raises FileNotFoundError where nothing was written yet."""
        with _base(self._base) as base, beneath.folder(base, f"{self._tenant}/{self._name}") as root:
            yield root

    @contextmanager
    def _writing(self, abandoned: threading.Event, *, make: bool = False) -> Iterator[int]:
        """The root, for one writer at a time in all processes: the lock's file lies beside the workspace."""
        if make:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            _base(self._base) as base,
            beneath.folder(base, self._tenant, make=make) as tenant,
            _locked(tenant, f"{self._name}.lock", abandoned),
            beneath.folder(tenant, self._name, make=make) as root,
        ):
            yield root

    def _content(self, root: int, path: str) -> bytes | None:
        try:
            descriptor = beneath.open_file(root, path)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(self._limits.max_file + 1)
        self._check_size(len(content))
        return content

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_file:
            raise ToolError(f"A file may have {_mb(self._limits.max_file)}; the toolset's max_file_mb raises that.")

    def _check_room(self, root: int, old: bytes | None, new: bytes) -> None:
        self._check_size(len(new))
        usage, more = _usage(root, sweep=True), len(new) - len(old or b"")
        if old is None and usage.entries >= settings.WORKSPACE_ENTRIES:
            raise ToolError(
                f"The workspace has {usage.entries} files and folders, which is its limit: delete some. "
                "WORKSPACE_ENTRIES on the server raises it."
            )
        if more > 0 and usage.size + more > self._limits.quota:
            raise ToolError(
                f"The workspace may have {_mb(self._limits.quota)} and has {_mb(usage.size)}: delete files. "
                "The toolset's quota_mb raises it."
            )


@contextmanager
def _told(path: str) -> Iterator[None]:
    """What a model can mend, as ToolError; other faults are the server's."""
    try:
        yield
    except PathRefused as refused:
        raise ToolError(refused.message) from None
    except FileNotFoundError:
        raise ToolError(f"The workspace has no '{path}'.") from None
    except OSError as error:
        if error.errno not in _EXPECTED:
            raise
        raise ToolError(f"'{path}': {os.strerror(error.errno)}.") from None


@contextmanager
def _base(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: int, name: str, abandoned: threading.Event) -> Iterator[None]:
    """Asks again and again: a thread that waits in flock(2) could not give up."""
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        until = time.monotonic() + LOCK_WAIT
        while not _try_lock(descriptor):
            if abandoned.wait(0.005) or time.monotonic() > until:
                raise ToolError("Others are writing to the workspace; try again later.")
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(root: int, path: str, content: bytes, abandoned: threading.Event) -> None:
    above, _, name = path.rpartition("/")
    try:
        with beneath.folder(root, above, make=True) as parent:
            _rename_over(parent, name, content, abandoned)
    except BaseException:
        beneath.prune(root, above)
        raise


def _rename_over(parent: int, name: str, content: bytes, abandoned: threading.Event) -> None:
    part = f".{short_id()}.part"
    try:
        _write(parent, part, content)
        if abandoned.is_set():
            raise ToolError("Nobody waits for this any more; nothing was written.")
        os.rename(part, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=parent)
        raise


def _write(parent: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _files(root: int, folder: str) -> Iterator[File]:
    for entry in beneath.entries(root, folder):
        if entry.plain and _is_usable(entry.path) and not _is_part(entry.path):
            yield File(entry.path, entry.size)


def _outdated(root: int, seconds: float) -> Iterator[str]:
    """Raises FileNotFoundError where there is no TEMPORARY."""
    oldest = time.time() - seconds
    for entry in beneath.entries(root, TEMPORARY):
        if entry.plain and entry.written < oldest and _is_usable(entry.path):
            yield entry.path


def _usage(root: int, *, sweep: bool = False) -> Usage:
    """`sweep`, for the lock's holder only: remove what writers left that died."""
    size = count = 0
    for entry in beneath.entries(root):
        if sweep and entry.plain and _is_part(entry.path) and _is_usable(entry.path):
            _unlink(root, entry.path)
        else:
            size, count = size + entry.size, count + 1
    return Usage(size, count)


def _unlink(root: int, path: str) -> None:
    above, _, name = path.rpartition("/")
    with beneath.folder(root, above) as parent:
        os.unlink(name, dir_fd=parent)


def _is_part(path: str) -> bool:
    return _PART.fullmatch(path.rpartition("/")[2]) is not None


def _is_usable(path: str) -> bool:
    try:
        check_path(path)
    except PathRefused:
        return False
    return True


def _mb(size: int) -> str:
    return f"{size / MB:.3g} MB"


class Owner(NamedTuple):
    """Whose a workspace is: `kind` is "session" or "run", and "tenant" stands for all that a tenant has."""

    kind: str
    id: UUID
    tenant_id: UUID

    @property
    def path(self) -> Path:
        tenant = settings.WORKSPACE_DIR / str(self.tenant_id)
        return tenant if self.kind == "tenant" else tenant / f"{self.kind}-{self.id}"


def owners() -> Iterator[Owner]:
    """Of all workspaces on this server's disk."""
    for name in _names(settings.WORKSPACE_DIR):
        if (tenant_id := parse_uuid(name)) is not None:
            yield Owner("tenant", tenant_id, tenant_id)
            for workspace in _names(settings.WORKSPACE_DIR / name):
                kind, _, id = workspace.partition("-")
                if kind in ("session", "run") and (owner := parse_uuid(id)) is not None:
                    yield Owner(kind, owner, tenant_id)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def forget_temporary(seconds: float) -> None:
    """In all workspaces on this server's disk. One that cannot be tidied now is left for the next time."""
    for tenant in filter(parse_uuid, _names(settings.WORKSPACE_DIR)):
        for name in _names(settings.WORKSPACE_DIR / tenant):
            if not name.endswith(".lock"):
                try:
                    Workspace(settings.WORKSPACE_DIR, tenant, name, Limits()).forget_temporary(seconds)
                except (ToolError, PathRefused, OSError):
                    logger.warning("The temporary files of a workspace stay", extra={"workspace": name}, exc_info=True)


def workspace_remove(owner: Owner) -> None:
    """With everything in it, of an owner that is gone: nobody writes to it any more."""
    shutil.rmtree(owner.path, ignore_errors=True)
    owner.path.with_name(f"{owner.path.name}.lock").unlink(missing_ok=True)
