"""Where a model's code is run: files out of the workspace, and back into it."""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from core.words import counted
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.code.config import RunCode
from toolsets.workspace import Limits, Scope, Workspace, in_thread, workspace_of

if TYPE_CHECKING:
    from sandbox.jobs import Job, Outcome

MAX_PRINTED = 20_000  # characters of an answer's output, and of its errors
MAX_FILES_BYTES = 8 << 20
IMAGES = {".png": "PNG image", ".jpg": "JPEG image", ".jpeg": "JPEG image", ".gif": "GIF image", ".webp": "WebP image"}
RAISES = {
    "timeout": "The toolset's timeout raises this.",
    "memory": "The toolset's memory_mb raises this.",
}


@dataclass(frozen=True, slots=True)
class Bench:
    languages: tuple[str, ...]
    timeout: float  # seconds
    memory_mb: int
    scope: Scope
    limits: Limits

    async def run(self, arguments: RunCode, context: ToolCallContext) -> dict[str, Any]:
        """Raises ToolError for code that fails; with what it printed."""
        from sandbox.jobs import Job, Language

        if arguments.language not in self.languages:
            raise ToolError(f"This toolset runs {', '.join(self.languages)} only.")
        workspace = workspace_of(context, self.scope, self.limits)
        files = await in_thread(_taken, workspace, arguments.files)
        job = Job(
            Language(arguments.language),
            arguments.code,
            timeout=self.timeout,
            memory_mb=self.memory_mb,
            files=files,
            tenant_id=context.tenant_id,
        )
        outcome = await _outcome(job)
        kept = await in_thread(_kept, workspace, outcome.files)
        return _told(outcome, kept)


async def _outcome(job: "Job") -> "Outcome":
    from sandbox.jobs import JobFailed, SandboxBusy, SandboxUnavailable, run_job

    try:
        return await run_job(job)
    except JobFailed as failed:
        parts = [f"{failed.code}: {failed.message}", RAISES.get(failed.code, "")]
        parts += [_labelled("Printed before", failed.stdout), _labelled("Errors", failed.stderr)]
        raise ToolError("\n".join(filter(None, parts))) from None
    except (SandboxBusy, SandboxUnavailable) as error:
        raise ToolError(error.message) from None


def _labelled(label: str, text: str) -> str:
    return f"{label}:\n{_cut(text)}" if text else ""


def _cut(text: str) -> str:
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= MAX_PRINTED:
        return text
    half = MAX_PRINTED // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"


def _taken(abandoned: Event, workspace: Workspace, paths: list[str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    room = MAX_FILES_BYTES
    for path in paths:
        with workspace.open(path) as file:
            files[path] = file.read(room + 1)
        room -= len(files[path])
        if room < 0:
            raise ToolError(f"Code takes files of {MAX_FILES_BYTES >> 20} MB in all: name fewer.")
    return files


def _kept(abandoned: Event, workspace: Workspace, files: Mapping[str, bytes]) -> list[str]:
    """A line for each file. One that cannot be kept is said, and the others are."""
    lines = []
    for path, content in sorted(files.items()):
        try:
            size = workspace.change(path, lambda _, content=content: content, abandoned)  # type: ignore[misc]
            lines.append(f"{path}: {counted(size, 'byte')}{_kind(path)}")
        except ToolError as error:
            lines.append(f"{path}: not kept. {error}")
    return lines


def _kind(path: str) -> str:
    """What the model is shown is text: an image is described, and found in the workspace by its path."""
    return next((f", a {name}" for ending, name in IMAGES.items() if path.lower().endswith(ending)), "")


def _told(outcome: "Outcome", kept: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = {"result": outcome.value}
    if outcome.stdout:
        told["stdout"] = _cut(outcome.stdout)
    if outcome.stderr:
        told["stderr"] = _cut(outcome.stderr)
    if kept:
        told["files"] = kept
    return {**told, "ms": outcome.ms}
