from typing import Annotated, Any

from pydantic import AfterValidator, Field

from toolsets.base import ToolArguments


def _each_once(labels: list[str]) -> list[str]:
    if len(set(labels)) < len(labels):
        raise ValueError("give each label once")
    return labels


Text = Annotated[str, Field(min_length=1, description="The text itself, whole.")]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class Summarise(ToolArguments):
    text: Text
    focus: str = Field("", max_length=1000, description="What the summary is for, or what matters in it.")
    max_words: int = Field(150, ge=10, le=5000)


class Classify(ToolArguments):
    text: Text
    labels: Annotated[list[Label], AfterValidator(_each_once)] = Field(min_length=2, max_length=100)


class Extract(ToolArguments):
    text: Text
    json_schema: dict[str, Any] = Field(
        description='A JSON Schema with "type": "object", written out: without $ref and patternProperties.'
    )
