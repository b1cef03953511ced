"""Requests that work as they stand on a site with demo data, for the schema's readers and its tests."""

from drf_spectacular.utils import OpenApiExample

_HELLO = [{"role": "user", "content": "Hello"}]
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}

CHAT = [
    OpenApiExample("An agent", {"model": "assistant", "messages": _HELLO}, request_only=True),
    OpenApiExample(
        "Streamed, in a session",
        {"model": "assistant", "messages": _HELLO, "stream": True, "metadata": {"session_id": "support-4711"}},
        request_only=True,
    ),
    OpenApiExample(
        "A model itself, with a tool of yours",
        {"model": "scripted/default", "messages": _HELLO, "tools": [_WEATHER]},
        request_only=True,
    ),
]
AG_UI = [
    OpenApiExample(
        "A message",
        {
            "threadId": "support-4712",
            "runId": "run-1",
            "state": {},
            "messages": [{"id": "message-1", "role": "user", "content": "Hello"}],
            "tools": [],
            "context": [],
            "forwardedProps": {},
        },
        request_only=True,
    )
]
UI_STREAM = [
    OpenApiExample(
        "A message",
        {
            "id": "support-4713",
            "messages": [{"id": "message-1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
            "trigger": "submit-message",
        },
        request_only=True,
    )
]
