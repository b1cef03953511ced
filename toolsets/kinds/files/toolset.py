from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from toolsets.base import Risk, Tool, ToolsetConfig, ToolsetKind
from toolsets.kinds.files.arguments import Content, DeleteFile, EditFile, GrepFile, ListFiles, ReadLines
from toolsets.kinds.files.desk import Desk
from toolsets.workspace import MB, Limits, Scope


class FilesConfig(ToolsetConfig):
    scope: Scope = Field(
        "session",
        title="Whose files",
        description="session: each session has its own. tenant: all sessions and agents share one workspace.",
    )
    quota_mb: int = Field(100, ge=1, le=10_000, title="Megabytes in all", description="Of one workspace.")
    max_file_mb: int = Field(10, ge=1, le=50, title="Megabytes of a file", description="That a tool may write.")
    read_only: bool = Field(False, title="Read only", description="Offer the reading tools only.")


class FilesToolset(ToolsetKind):
    slug = "files"
    title = "Files"
    description = "A workspace of text files that outlasts a turn: to read, search, write and change."
    Config: ClassVar[type[FilesConfig]] = FilesConfig

    def tools(self, config: FilesConfig) -> Sequence[Tool]:
        desk = Desk(config.scope, Limits(config.quota_mb * MB, config.max_file_mb * MB))
        return _reading(desk) if config.read_only else [*_reading(desk), *_writing(desk)]


def _reading(desk: Desk) -> list[Tool]:
    """What is in the files may come from anywhere."""
    return [
        Tool("read_lines", "Lines of a text file, from start to end.", ReadLines, desk.read, untrusted=True),
        Tool("grep_file", "The lines of a file that a regex matches, numbered.", GrepFile, desk.grep, untrusted=True),
        Tool("list_files", "The workspace's files and their sizes.", ListFiles, desk.list, untrusted=True),
    ]


def _writing(desk: Desk) -> list[Tool]:
    """One after the other: the order of a model's changes counts."""
    return [
        Tool("create_file", "Makes a new file, and its folders.", Content, desk.create, Risk.WRITE, parallel=False),
        Tool("edit_file", "Replaces one place of a file.", EditFile, desk.edit, Risk.WRITE, parallel=False),
        Tool("append_file", "Adds to a file's end, or makes it.", Content, desk.append, Risk.WRITE, parallel=False),
        Tool("delete_file", "Deletes a file.", DeleteFile, desk.delete, Risk.WRITE, parallel=False),
    ]
