"""What a tenant sets of the kind, and what a call of its tool asks."""

from typing import Annotated, Literal

from pydantic import Field

from toolsets.base import ToolArguments, ToolsetConfig
from toolsets.workspace import Scope

Language = Literal["python", "javascript", "typescript"]
LANGUAGES: tuple[Language, ...] = ("python", "javascript", "typescript")


class CodeConfig(ToolsetConfig):
    languages: list[Language] = Field(list(LANGUAGES), min_length=1, max_length=3, title="Languages")
    timeout: int = Field(30, ge=1, le=300, title="Seconds", description="That one piece of code may run.")
    memory_mb: int = Field(256, ge=64, le=1024, title="Megabytes of memory", description="Of one piece of code.")
    scope: Scope = Field(
        "session",
        title="Whose files",
        description="session: each session has its own. tenant: all sessions and agents share one workspace.",
    )
    quota_mb: int = Field(100, ge=1, le=10_000, title="Megabytes in all", description="Of one workspace.")
    max_file_mb: int = Field(8, ge=1, le=8, title="Megabytes of a file", description="That code may leave.")


class RunCode(ToolArguments):
    language: Language
    code: str = Field(
        max_length=1_000_000,
        description="A script. Print, or end with an expression on a line of its own, to show a result; new files in "
        "the current folder stay in the workspace. There is no network, and no package beside the standard library.",
    )
    files: list[Annotated[str, Field(examples=["data/sales.csv"])]] = Field(
        default_factory=list, max_length=50, description="Of the workspace, to read under the same name."
    )
