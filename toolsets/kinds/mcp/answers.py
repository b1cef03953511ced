"""What a server answered, as a model is shown it. Pictures, sounds and files are described."""

from typing import Any

import orjson

from core.words import counted
from toolsets.exceptions import ToolError
from toolsets.kinds.mcp.faults import line

MAX_BLOCKS = 500  # of one answer
MAX_NAME = 300  # characters
MAX_TEXT = 1000  # of a description
MAX_LISTED = 200  # entries of one page


def tool_answer(result: dict[str, Any]) -> Any:
    """Text, or JSON where the tool gave that. Raises ToolError for what the tool calls an error."""
    shown = _blocks(result.get("content"))
    structured = result.get("structuredContent")
    if result.get("isError") is True:
        raise ToolError("\n".join(shown) or _written(structured) or "The tool failed and did not say why.")
    if structured is None:
        return "\n".join(shown)
    more = [text for text in shown if not _says(text, structured)]
    return {"structured": structured, "content": "\n".join(more)} if more else structured


def resource_answer(result: dict[str, Any]) -> str:
    found = _listed(result, "contents")
    return "\n".join(_resource(each) for each in found) or "The resource is empty."


def prompt_answer(result: dict[str, Any]) -> dict[str, Any]:
    messages = [
        {"role": str(each.get("role"))[:20], "text": "\n".join(_blocks([each.get("content")]))}
        for each in _listed(result, "messages")
    ]
    return {"description": _text(result.get("description")), "messages": messages}


def resources_listed(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [
        {
            "uri": str(each.get("uri") or each.get("uriTemplate"))[:MAX_TEXT],
            "name": _text(each.get("title") or each.get("name"))[:MAX_NAME],
            "description": _text(each.get("description")),
            "mime_type": _text(each.get("mimeType"))[:MAX_NAME],
        }
        for each in _listed(result, key)
    ]


def prompts_listed(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": str(each.get("name"))[:MAX_NAME],
            "description": _text(each.get("description")),
            "arguments": [
                {
                    "name": str(one.get("name"))[:MAX_NAME],
                    "description": _text(one.get("description")),
                    "required": one.get("required") is True,
                }
                for one in _listed(each, "arguments")[:50]
            ],
        }
        for each in _listed(result, "prompts")
    ]


def next_cursor(result: dict[str, Any]) -> str | None:
    cursor = result.get("nextCursor")
    return cursor if isinstance(cursor, str) and 0 < len(cursor) <= 2000 else None


def _listed(holder: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = holder.get(key)
    return [each for each in found if isinstance(each, dict)][:MAX_LISTED] if isinstance(found, list) else []


def _text(value: Any) -> str:
    return line(value, MAX_TEXT) if isinstance(value, str) else ""


def _blocks(content: Any) -> list[str]:
    blocks = content if isinstance(content, list) else []
    shown = [_block(block) for block in blocks[:MAX_BLOCKS] if isinstance(block, dict)]
    left = len(blocks) - MAX_BLOCKS
    return [*shown, f"[{left} more parts are not shown]"] if left > 0 else shown


def _block(block: dict[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text") or "")
        case "image" | "audio" as kind:
            return f"[{kind} {_kind_of(block)}, {_size(block.get('data'))}: not shown]"
        case "resource_link":
            return f"[resource {_name(block.get('uri'))} {_text(block.get('name'))[:MAX_NAME]}]"
        case "resource":
            held = block.get("resource")
            return _resource(held) if isinstance(held, dict) else "[a resource without content]"
    return f"[a part of the type {_name(block.get('type'))}: not shown]"


def _resource(held: dict[str, Any]) -> str:
    if isinstance(held.get("text"), str):
        return f"[resource {_name(held.get('uri'))}]\n{held['text']}"
    return f"[resource {_name(held.get('uri'))}, {_kind_of(held)}, {_size(held.get('blob'))}: not shown]"


def _name(value: Any) -> str:
    return line(str(value), MAX_NAME)


def _kind_of(block: dict[str, Any]) -> str:
    return _text(block.get("mimeType"))[:MAX_NAME] or "of an unknown type"


def _size(data: Any) -> str:
    """Of base64."""
    return counted(len(data) * 3 // 4, "byte") if isinstance(data, str) else "no data"


def _written(value: Any) -> str:
    return orjson.dumps(value).decode() if value is not None else ""


def _says(text: str, structured: Any) -> bool:
    """Servers repeat as text what they give as JSON; those of the Python package `result` and each item of its list."""
    wrapped = structured.get("result") if isinstance(structured, dict) and len(structured) == 1 else None
    told = [structured, wrapped, *(wrapped if isinstance(wrapped, list) else ())]
    try:
        return text in told or orjson.loads(text) in told
    except ValueError:
        return False
