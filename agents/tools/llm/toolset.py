from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from agents.selectors import READER
from agents.tools.llm.arguments import Classify, Extract, Summarise
from agents.tools.llm.missing import models_missing
from agents.tools.llm.reader import Reader
from core.validation import Found
from tenants.principal import Principal
from toolsets.base import Tool, ToolsetConfig, ToolsetKind


class LlmConfig(ToolsetConfig):
    model: str = Field(
        max_length=255,
        pattern=r"^[^/\s]+/\S+$",
        title="Model",
        description="provider/model or route/slug; a small and fast one will often do.",
    )
    max_input_chars: int = Field(
        50_000, ge=100, le=1_000_000, title="Longest text", description="In characters; longer ones are refused."
    )
    max_tokens: int = Field(1024, ge=16, le=32_768, title="Longest answer", description="In tokens.")
    timeout: float = Field(120, ge=1, le=600, title="Timeout", description="Seconds for one call.")


class LlmToolset(ToolsetKind):
    slug = READER
    title = "Reading by a model"
    description = "Summarises, classifies and extracts by a model of its own, which is paid for by the run."
    Config: ClassVar[type[LlmConfig]] = LlmConfig

    def warnings(self, configs: Sequence[Mapping[str, Any]], actor: Principal) -> list[list[Found]]:
        names = [name if isinstance(name := config.get("model"), str) else "" for config in configs]
        missing = models_missing(actor, names)
        return [[(("model",), *missing[name])] if name in missing else [] for name in names]

    def tools(self, config: LlmConfig) -> Sequence[Tool]:
        """What is read may come from anywhere, and shows in what is said of it; a label is one of the caller's own."""
        reader = Reader(config.model, config.max_input_chars, config.max_tokens)
        time = config.timeout
        return [
            Tool(
                "summarise",
                "A summary of a text, made by a model.",
                Summarise,
                reader.summarise,
                timeout=time,
                untrusted=True,
            ),
            Tool(
                "classify",
                "The one label that fits a text best, chosen by a model.",
                Classify,
                reader.classify,
                timeout=time,
            ),
            Tool(
                "extract",
                "Facts of a text as a JSON object that satisfies a JSON Schema, found by a model.",
                Extract,
                reader.extract,
                timeout=time,
                untrusted=True,
            ),
        ]
