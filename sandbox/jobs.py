"""Running a tenant's code: one job, in a slot that is used once. The one door to the sandbox."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from core.beneath import check_path
from core.errors import InvalidRequest
from sandbox.client import HostCall, Request, client
from sandbox.exceptions import HostError, JobFailed, SandboxBusy, SandboxUnavailable
from sandbox.outcome import outcome_of

__all__ = [
    "HostCall",
    "HostError",
    "Job",
    "JobFailed",
    "Language",
    "Outcome",
    "SandboxBusy",
    "SandboxUnavailable",
    "run_job",
]

MAX_CODE = 1_000_000  # characters
MAX_INPUT = 4_000_000  # bytes, as JSON
MAX_FILES, MAX_FILES_BYTES = 100, 8 << 20
TIMEOUTS = (1.0, 300.0)  # seconds
MEMORIES = (64, 1024)  # megabytes


class Language(StrEnum):
    PYTHON = "python"
    JAVASCRIPT = "javascript"
    TYPESCRIPT = "typescript"


@dataclass(frozen=True, slots=True)
class Job:
    """`entry_point` names the function that is called with `input`, JSON. Without one the code runs as a script, whose
    result is the value of its last expression, in modules of JavaScript and TypeScript that of `export default`.

    `files` are put into the job's working folder, by relative path. `packages` are folders of `sandbox.packages`.
    `timeout` is in seconds, waiting for the host included. `tenant_id`: whose job, for the limit of each.
    """

    language: Language
    code: str = field(repr=False)
    entry_point: str = ""
    input: Any = field(default=None, repr=False)
    timeout: float = 30.0
    memory_mb: int = 256
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    packages: tuple[Path, ...] = ()
    tenant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`files` are new or changed ones; `ms` the time in the sandbox, without the wait for a slot."""

    value: Any
    stdout: str
    stderr: str
    files: Mapping[str, bytes]
    ms: int


async def run_job(job: Job, host: HostCall | None = None) -> Outcome:
    """Runs the code where it can do no harm. `host` answers its calls, several at once, by method and parameters.

    Raises InvalidRequest for a job that cannot be, JobFailed, SandboxBusy and SandboxUnavailable.
    """
    check(job)
    ended = await client().run(_request(job), host)
    return Outcome(*outcome_of(ended))


def check(job: Job) -> None:
    """Raises InvalidRequest."""
    if not TIMEOUTS[0] <= job.timeout <= TIMEOUTS[1]:
        raise InvalidRequest(f"A job's timeout is {TIMEOUTS[0]:g} to {TIMEOUTS[1]:g} seconds.", param="timeout")
    if not MEMORIES[0] <= job.memory_mb <= MEMORIES[1]:
        raise InvalidRequest(f"A job's memory is {MEMORIES[0]} to {MEMORIES[1]} MB.", param="memory_mb")
    if len(job.code) > MAX_CODE:
        raise InvalidRequest(f"Code has at most {MAX_CODE:,} characters.", param="code")
    if len(job.files) > MAX_FILES or sum(map(len, job.files.values())) > MAX_FILES_BYTES:
        limits = f"{MAX_FILES} files of {MAX_FILES_BYTES >> 20} MB in all"
        raise InvalidRequest(f"A job takes at most {limits}.", param="files")
    for path in job.files:
        check_path(path)


def _request(job: Job) -> Request:
    runtime = "python" if job.language is Language.PYTHON else "deno"
    head = {
        "runtime": runtime,
        "memory_mb": 256 if runtime == "python" else job.memory_mb,  # which python sets for itself
        "packages": [str(path) for path in job.packages],
        "timeout": job.timeout,
    }
    line = {
        "language": job.language.value,
        "code": job.code,
        "entry_point": job.entry_point,
        "input": job.input,
        "memory_mb": job.memory_mb,
        "files": {path: base64.b64encode(content).decode() for path, content in job.files.items()},
    }
    return Request(orjson.dumps(head) + b"\n" + _line(line), job.timeout, job.tenant_id)


def _line(line: dict[str, Any]) -> bytes:
    try:
        size = len(orjson.dumps(line["input"]))
        written = orjson.dumps(line)
    except TypeError as error:
        raise InvalidRequest(f"The job cannot be written as JSON: {error}.") from None
    if size > MAX_INPUT:
        raise InvalidRequest(f"A job's input has at most {MAX_INPUT:,} bytes.", param="input")
    return written
