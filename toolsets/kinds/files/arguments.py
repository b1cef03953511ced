from typing import Annotated

from pydantic import Field

from toolsets.base import ToolArguments

Filename = Annotated[
    str, Field(description="Relative to the workspace, folders with '/'.", examples=["notes.md", "data/sales.csv"])
]
FirstLine = Annotated[int, Field(ge=1, description="The first line is 1.")]


class ReadLines(ToolArguments):
    filename: Filename
    start: FirstLine = 1
    end: int | None = Field(None, ge=1, description="The last line, included; left out: as far as one answer goes.")


class GrepFile(ToolArguments):
    filename: Filename
    regex: str = Field(
        min_length=1,
        max_length=1000,
        description="RE2 syntax: no look-around, no backreferences; (?i) ignores case. Applied to each line.",
    )
    start: FirstLine = 1


class Content(ToolArguments):
    filename: Filename
    content: str


class EditFile(ToolArguments):
    filename: Filename
    old: str = Field(min_length=1, description="The text to replace, exactly, and so long that it is found once.")
    new: str


class DeleteFile(ToolArguments):
    filename: Filename


class ListFiles(ToolArguments):
    folder: str = Field("", description="With all folders below; left out: the whole workspace.")
