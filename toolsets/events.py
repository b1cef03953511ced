import msgspec


class ToolResult(msgspec.Struct, frozen=True):
    """A tool call of a run has ended; `content` is what the model is shown, `ms` how long the call took."""

    tool_call_id: str
    name: str
    content: str
    is_error: bool
    ms: int
