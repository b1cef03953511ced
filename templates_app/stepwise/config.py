"""What the configs of the templates that work in steps have in common."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.validation import Found
from templates_app.stepwise.texts import STEP_NAME


class StepConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Step")

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=f"^{STEP_NAME}$",
        title="Name",
        description="1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit; each step has its own.",
    )


# A form has the fields in the order of the class, and those of its base first.
def tools_field() -> Any:
    return Field(
        default_factory=list,
        max_length=100,
        title="Tools",
        description="The names of the granted tools that the step may use, one a line; empty: all of them.",
    )


def max_tool_rounds_field() -> Any:
    return Field(
        8,
        ge=0,
        le=50,
        title="Rounds of tools",
        description="How often the model may call tools before it must answer; 0: it is offered none.",
    )


def history_turns_field() -> Any:
    return Field(
        0,
        ge=0,
        le=500,
        title="History",
        description="How many turns before the user's last message each step's model sees.",
    )


def raw_steps(data: Any) -> list[dict[str, Any]]:
    """The steps of a config that was not validated yet; in place of what is no step, an empty one."""
    steps = data.get("steps") if isinstance(data, dict) else None
    return [step if isinstance(step, dict) else {} for step in steps] if isinstance(steps, list) else []


def names_of(steps: list[dict[str, Any]]) -> list[str]:
    """Empty in place of what is no name."""
    return [name if isinstance(name := step.get("name"), str) else "" for step in steps]


def duplicates(names: list[str]) -> Iterator[Found]:
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if name and seen[name] == 2:
            yield ("steps", place, "name"), "duplicate", f"Several steps are called '{name}'."
