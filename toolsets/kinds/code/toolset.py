from collections.abc import Sequence
from typing import ClassVar

from toolsets.base import Risk, Tool, ToolsetKind
from toolsets.kinds.code.bench import Bench
from toolsets.kinds.code.config import CodeConfig, RunCode
from toolsets.workspace import MB, Limits

MARGIN_SECONDS = 30.0  # beside the code's own time: for a free slot, and for the files


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
