from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pydantic import Field

from core.json_schemas import Schema, SchemaFault
from core.validation import CheckedTogether, Found
from templates_app.base import TemplateConfig
from templates_app.stepwise.config import (
    StepConfig,
    duplicates,
    history_turns_field,
    max_tool_rounds_field,
    names_of,
    raw_steps,
    tools_field,
)

MAX_STEPS = 20


class TaskStep(StepConfig):
    instruction: str = Field(
        min_length=1,
        max_length=20_000,
        title="Instruction",
        description="What the model is to do. It is shown the user's last message, too, and the results of the steps "
        "that this one needs.",
    )
    depends_on: list[str] = Field(
        default_factory=list,
        max_length=MAX_STEPS,
        title="Depends on",
        description="The names of the steps whose results this one needs, one a line.",
    )
    output_schema: dict[str, Any] | None = Field(
        None,
        title="Schema of the result",
        description="A JSON Schema of type object that the result must satisfy; empty: the result is text.",
    )
    tools: list[str] = tools_field()
    max_tool_rounds: int = max_tool_rounds_field()


class TaskConfig(CheckedTogether, TemplateConfig):
    steps: list[TaskStep] = Field(
        min_length=1, max_length=MAX_STEPS, title="Steps", description="In the order in which the answer tells of them."
    )
    stepTimeout: int = Field(  # noqa: N815
        300, ge=10, le=3600, title="Time for a step", description="In seconds, of each attempt at it."
    )
    retryCount: int = Field(  # noqa: N815
        2,
        ge=0,
        le=5,
        title="Further attempts",
        description="How often a step is tried again when its model fails, its time is over or its result is invalid.",
    )
    parallelExecution: bool = Field(  # noqa: N815
        False,
        title="In parallel",
        description="Steps that do not depend on each other run at the same time.",
    )
    strictMode: bool = Field(  # noqa: N815
        True,
        title="Strict",
        description="The first step that fails ends the run. Otherwise only the steps that depend on it are skipped.",
    )
    outputFormat: Literal["text", "json", "markdown"] = Field(  # noqa: N815
        "text",
        title="Answer",
        description="text: the results of the steps that no other depends on; markdown: all of them, under headings; "
        "json: one document with all that is known of each step.",
    )
    history_turns: int = history_turns_field()

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterator[Found]:
        return _faults(data)

    @property
    def ordered(self) -> list[TaskStep]:
        """Each after those that it depends on; else as they are listed."""
        found: list[TaskStep] = []
        left = list(self.steps)
        while left:
            names = {step.name for step in found}
            found.append(next(step for step in left if names.issuperset(step.depends_on)))
            left.remove(found[-1])
        return found


def _faults(data: Mapping[str, Any]) -> Iterator[Found]:
    steps = raw_steps(data)
    names = names_of(steps)
    yield from duplicates(names)
    needs: dict[str, list[str]] = {}
    for place, step in enumerate(steps):
        listed = step.get("depends_on")
        wanted = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        for number, name in enumerate(wanted):
            if found := _of_dependency(names, names[place], name, wanted[:number]):
                yield ("steps", place, "depends_on", number), *found
        needs.setdefault(names[place], []).extend(name for name in wanted if name in names and name != names[place])
        yield from _of_schema(place, step.get("output_schema"))
    for circle in _circles(needs):
        where = ("steps", names.index(circle[0]), "depends_on")
        yield where, "cycle", f"These steps wait for each other: {' → '.join(circle)}."


def _of_dependency(names: list[str], step: str, name: str, before: list[str]) -> tuple[str, str] | None:
    """Code and message."""
    if name not in names:
        return "unknown_step", f"There is no step '{name}'."
    if name == step:
        return "cycle", f"The step '{name}' waits for itself."
    return ("duplicate", f"The step '{name}' is listed twice.") if name in before else None


def _of_schema(place: int, schema: Any) -> Iterator[Found]:
    if isinstance(schema, dict):
        try:
            Schema(schema)
        except SchemaFault as fault:
            yield ("steps", place, "output_schema"), "invalid_schema", str(fault)


def _circles(needs: dict[str, list[str]]) -> Iterator[list[str]]:
    """Ways round, each from the step that is listed first, until none is left without a dependency of those told."""
    left = {name: set(wanted) for name, wanted in needs.items()}
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][:-1]
            first = min(circle, key=list(needs).index)
            turned = circle[circle.index(first) :] + circle[: circle.index(first)]
            yield [*turned, first]
            left[first] -= set(circle)
            left = {name: wanted - {first} if name in circle else wanted for name, wanted in left.items()}
        else:
            return
