from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from core.cel import MAX_TEXT
from core.validation import CheckedTogether, Found
from templates_app.base import TemplateConfig
from templates_app.stepwise.conditions import condition_faults
from templates_app.stepwise.config import (
    StepConfig,
    duplicates,
    history_turns_field,
    max_tool_rounds_field,
    names_of,
    raw_steps,
    tools_field,
)
from templates_app.stepwise.texts import text_faults

MAX_PROMPT = 20_000  # characters


class WorkflowStep(StepConfig):
    prompt: str = Field(
        min_length=1,
        max_length=MAX_PROMPT,
        title="Prompt",
        description="What the model is asked. {{ input }} is the user's last message, {{ steps.draft.output }} what "
        "the earlier step 'draft' said, {{ metadata.tier }} what the caller's metadata has for 'tier'.",
    )
    when: str = Field(
        "",
        max_length=MAX_TEXT,
        title="Condition",
        description="A CEL expression over input, metadata and steps, such as steps.check.output.contains('yes'): "
        "the step is skipped unless it is true. Empty: it always runs.",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, title="Temperature", description="0 is steady, higher is freer; empty: the model's default."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, title="Longest answer", description="In tokens; empty: the model's default."
    )
    tools: list[str] = tools_field()
    max_tool_rounds: int = max_tool_rounds_field()

    @property
    def depends_on(self) -> list[str]:
        return []


class WorkflowConfig(CheckedTogether, TemplateConfig):
    steps: list[WorkflowStep] = Field(
        min_length=1, max_length=50, title="Steps", description="They run one after another, in this order."
    )
    output: Literal["last", "all", "template"] = Field(
        "last",
        title="Answer",
        description="What the last step said that was not skipped, what all steps said, or the template below.",
    )
    output_template: str = Field(
        "",
        max_length=MAX_PROMPT,
        title="Template of the answer",
        description="A text with the same references as prompts, for the answer 'template'.",
    )
    history_turns: int = history_turns_field()

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterator[Found]:
        return _faults(data)


def _faults(data: Mapping[str, Any]) -> Iterator[Found]:
    steps = raw_steps(data)
    names = names_of(steps)
    yield from duplicates(names)
    for place, step in enumerate(steps):
        before = [name for name in names[:place] if name]
        yield from _of_text(("steps", place, "prompt"), step.get("prompt"), before)
        when = step.get("when")
        if isinstance(when, str) and when:
            yield from (
                (("steps", place, "when"), "invalid_condition", each) for each in condition_faults(when, before)
            )
    if data.get("output") == "template":
        template = data.get("output_template")
        yield from _of_text(("output_template",), template, [name for name in names if name])
        if not template:
            yield ("output_template",), "required", "Say what the answer is made of, or choose another answer."


def _of_text(where: tuple[str | int, ...], text: Any, steps: list[str]) -> Iterator[Found]:
    for each in text_faults(text, steps) if isinstance(text, str) else ():
        yield where, "unknown_reference", each
