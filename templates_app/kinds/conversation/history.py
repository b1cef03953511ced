from templates_app.context import Message

_INSTRUCTIONS = ("system", "developer")


def window(messages: list[Message], turns: int) -> list[Message]:
    """The last `turns` turns, and the instructions from before them.

    A turn begins with a user message, so that no tool result is ever parted from the call that it answers.
    """
    starts = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    if len(starts) <= turns:
        return list(messages)
    first = starts[-turns]
    kept = [message for message in messages[:first] if message.get("role") in _INSTRUCTIONS]
    return kept + messages[first:]
