"""The tools' own work, in threads."""

from collections.abc import Callable
from threading import Event
from typing import Any

from core.words import counted
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.files import reading
from toolsets.kinds.files.arguments import Content, DeleteFile, EditFile, GrepFile, ListFiles, ReadLines
from toolsets.workspace import Limits, Scope, Workspace, in_thread, workspace_of


class Desk:
    """Reads and changes the files of whoever calls."""

    def __init__(self, scope: Scope, limits: Limits) -> None:
        self._scope = scope
        self._limits = limits

    async def read(self, arguments: ReadLines, context: ToolCallContext) -> str:
        def work(abandoned: Event) -> str:
            with self._workspace(context).open(arguments.filename) as file:
                return reading.lines(file, arguments.start, arguments.end, abandoned)

        return await in_thread(work)

    async def grep(self, arguments: GrepFile, context: ToolCallContext) -> str:
        def work(abandoned: Event) -> str:
            with self._workspace(context).open(arguments.filename) as file:
                return reading.hits(file, arguments.regex, arguments.start, abandoned)

        return await in_thread(work)

    async def list(self, arguments: ListFiles, context: ToolCallContext) -> dict[str, Any]:
        def work(abandoned: Event) -> dict[str, Any]:
            return reading.listed(self._workspace(context).files(arguments.folder), abandoned)

        return await in_thread(work)

    async def create(self, arguments: Content, context: ToolCallContext) -> str:
        def made(old: bytes | None) -> bytes:
            if old is not None:
                raise ToolError(f"'{arguments.filename}' exists already: edit it, append to it or take another name.")
            return _bytes(arguments.content)

        return await self._change(arguments.filename, made, context)

    async def append(self, arguments: Content, context: ToolCallContext) -> str:
        def longer(old: bytes | None) -> bytes:
            reading.text(old or b"")
            return (old or b"") + _bytes(arguments.content)

        return await self._change(arguments.filename, longer, context)

    async def edit(self, arguments: EditFile, context: ToolCallContext) -> str:
        def edited(old: bytes | None) -> bytes:
            if old is None:
                raise FileNotFoundError
            return _bytes(_replaced(reading.text(old), arguments.old, arguments.new))

        return await self._change(arguments.filename, edited, context)

    async def delete(self, arguments: DeleteFile, context: ToolCallContext) -> str:
        def work(abandoned: Event) -> str:
            self._workspace(context).delete(arguments.filename, abandoned)
            return f"'{arguments.filename}' is deleted."

        return await in_thread(work)

    async def _change(self, filename: str, edit: Callable[[bytes | None], bytes], context: ToolCallContext) -> str:
        def work(abandoned: Event) -> str:
            size = self._workspace(context).change(filename, edit, abandoned)
            return f"'{filename}' has {counted(size, 'byte')} now."

        return await in_thread(work)

    def _workspace(self, context: ToolCallContext) -> Workspace:
        return workspace_of(context, self._scope, self._limits)


def _bytes(text: str) -> bytes:
    if "\0" in text:
        raise ToolError("Text must not hold NUL characters.")
    return text.encode()


def _replaced(text: str, old: str, new: str) -> str:
    first = text.find(old)
    if first < 0:
        raise ToolError("The text to replace is not in the file; blanks and line ends count. Read the file again.")
    if text.find(old, first + 1) >= 0:
        raise ToolError("The text to replace is in the file more than once: take more of what is around it.")
    return text[:first] + new + text[first + len(old) :]
