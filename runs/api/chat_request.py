"""The body of `POST /v1/chat/completions`. Fields of OpenAI's that are not listed here are ignored."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from agents.models import AgentVersion
from core.validation import has_large_number
from llm.routing.features import text_pairs
from runs.openai_messages import MAX_MESSAGES, MAX_TOOLS, PRINTABLE, ChatMessage, ClientTool, Lenient, ReplaceFrom

Number = StrictFloat | StrictInt


class StreamOptions(Lenient):
    include_usage: StrictBool | None = None


class ChatMetadata(BaseModel):
    """Ours are `session_id`, `user_id`, `when_busy` and `replace_from`; others are the caller's own, which rules of
    routes may ask.
    """

    model_config = ConfigDict(extra="allow")
    session_id: Annotated[StrictStr, Field(pattern=PRINTABLE)] | None = None
    user_id: Annotated[StrictStr, Field(pattern=PRINTABLE)] | None = None
    when_busy: AgentVersion.WhenBusy | None = Field(
        None, description="What happens while the session has another run; without it the agent's own setting counts."
    )
    replace_from: ReplaceFrom | None = Field(
        None, description="A message's seq or id: it and all after it are no longer part of the conversation."
    )

    def own(self) -> dict[str, str]:
        """The caller's own pairs, within OpenAI's limits."""
        return text_pairs(self.model_extra or {})


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and not self.json_schema:
            raise ValueError("json_schema must hold a name and a schema.")
        return self


class ChatCompletion(Lenient):
    model: Annotated[StrictStr, Field(min_length=1, max_length=255)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    metadata: ChatMetadata | None = None
    tools: Annotated[list[ClientTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = None
    response_format: ResponseFormat | None = None
    stop: StrictStr | Annotated[list[StrictStr], Field(max_length=4)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    reasoning_effort: StrictStr | None = None
    n: Annotated[StrictInt, Field(ge=1, le=1)] | None = Field(None, description="One choice an answer.")

    @field_validator("messages", mode="before")
    @classmethod
    def _storable(cls, messages: Any) -> Any:
        if has_large_number(messages):
            raise ValueError("A number in it has more than 64 bits.")
        return messages

    def wire_messages(self) -> list[dict[str, Any]]:
        return [_with_content(message.model_dump(exclude_none=True)) for message in self.messages]

    def wire_tools(self) -> list[dict[str, Any]]:
        return [tool.model_dump(exclude_none=True) for tool in self.tools or []]

    def wire_params(self) -> dict[str, Any]:
        return self.model_dump(include=_PARAMETERS, exclude_none=True)


_PARAMETERS = {
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "stop",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "reasoning_effort",
}


def _with_content(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": message.get("content")}
