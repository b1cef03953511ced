"""Messages and tools in OpenAI's shape, as clients send them: https://platform.openai.com/docs/api-reference/chat"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

PRINTABLE = r"^[^\x00-\x1f\x7f]{1,128}$"  # no control characters: these ids also travel in headers and paths
# A message's seq or id: that one and all after it are replaced.
ReplaceFrom = Annotated[StrictInt, Field(ge=1, lt=2**31)] | Annotated[StrictStr, Field(pattern=PRINTABLE)]
MAX_MESSAGES = 2000
MAX_TOOLS = 128
# What a part of a type must hold under the type's own name; other types go to the model as they are.
_HELD: dict[str, type] = {"text": str, "refusal": str, "image_url": dict, "input_audio": dict, "file": dict}


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ContentPart(BaseModel):
    """`text`, `image_url`, `input_audio`, `file` or `refusal`; what else a part has goes to the model as it is."""

    model_config = ConfigDict(extra="allow")
    type: StrictStr

    @model_validator(mode="after")
    def _holds_what_it_says(self) -> "ContentPart":
        wanted = _HELD.get(self.type)
        if wanted and not isinstance((self.model_extra or {}).get(self.type), wanted):
            kind = "a string" if wanted is str else "an object"
            raise ValueError(f"A part of the type {self.type} needs {self.type}, {kind}.")
        return self


class FunctionCall(Lenient):
    name: StrictStr
    arguments: StrictStr


class ToolCall(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: Annotated[StrictStr, Field(max_length=200)]
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Lenient):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: StrictStr | Annotated[list[ContentPart], Field(max_length=256)] | None = None
    name: Annotated[StrictStr, Field(max_length=128)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[StrictStr, Field(max_length=200)] | None = None
    refusal: StrictStr | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "ChatMessage":
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("A tool message needs tool_call_id.")
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.refusal)):
            raise ValueError("content must be a string or a list of parts.")
        if self.content == [] and self.role != "assistant":
            raise ValueError("content must have at least one part.")
        return self


class FunctionDefinition(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: StrictStr | None = None
    parameters: dict[str, Any] | None = None


class ClientTool(Lenient):
    type: Literal["function"]
    function: FunctionDefinition
