"""What a message says to a person who reads it."""

from typing import Any


def text_of(content: Any) -> str:
    """The text of a message in OpenAI's shape; a part that is no text is named by its type."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(_part(part) for part in parts)


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text":
        return str(part.get("text", ""))
    return f"[{part.get('type', 'content')}]" if isinstance(part, dict) else str(part)
