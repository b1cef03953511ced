from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from toolsets.base import Risk, Tool, ToolArguments, ToolsetConfig, ToolsetKind
from toolsets.kinds.code.bench import Bench
from toolsets.workspace import MB, Limits, Scope

Language = Literal["python", "javascript", "typescript"]
MARGIN_SECONDS = 30.0  # beside the code's own time: for a free slot, and for the files
LANGUAGES: tuple[Language, ...] = ("python", "javascript", "typescript")


class CodeConfig(ToolsetConfig):
    languages: list[Language] = Field(
        default_factory=lambda: list(LANGUAGES), min_length=1, max_length=3, title="Languages"
    )
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
        description="A script. Print, or end with an expression, to show a result; new files in the current folder are "
        "kept in the workspace. There is no network, and no package beside the standard library.",
    )
    files: list[Annotated[str, Field(examples=["data/sales.csv"])]] = Field(
        default_factory=list, max_length=50, description="Of the workspace, to read under the same name."
    )


class CodeToolset(ToolsetKind):
    slug = "code"
    title = "Code"
    description = "Runs Python, JavaScript and TypeScript that the model writes, in a jail without a network."
    Config: ClassVar[type[CodeConfig]] = CodeConfig

    def tools(self, config: CodeConfig) -> Sequence[Tool]:
        limits = Limits(config.quota_mb * MB, config.max_file_mb * MB)
        bench = Bench(tuple(config.languages), float(config.timeout), config.memory_mb, config.scope, limits)
        what = f"Runs a script in {', '.join(config.languages)} for at most {config.timeout} seconds."
        # untrusted: what it prints may come from files that came from anywhere
        seconds = config.timeout + MARGIN_SECONDS
        return [Tool("run_code", what, RunCode, bench.run, Risk.CODE, timeout=seconds, untrusted=True)]
