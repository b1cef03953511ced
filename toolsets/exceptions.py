class ToolError(Exception):
    """A tool's expected failure; the message is shown to the model, which may try again with other arguments."""


class ToolsetInvalid(ValueError):
    """A toolset kind that cannot be used, and why."""
