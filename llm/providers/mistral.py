import hashlib
import re
from typing import Any, ClassVar

from llm.providers.base import ProviderConnection, RemoteAdapter, RemoteKind
from llm.providers.openai import bearer, max_tokens_only

# Mistral refuses a request with a field that it does not know.
_KNOWN = frozenset(
    (
        *("model", "messages", "stream", "n", "stop", "random_seed", "max_tokens", "reasoning_effort"),
        *("temperature", "top_p", "presence_penalty", "frequency_penalty"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
    )
)
_MESSAGE = {
    "system": ("role", "content"),
    "user": ("role", "content"),
    "assistant": ("role", "content", "tool_calls", "prefix"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
_CALL_ID = re.compile(r"[A-Za-z0-9]{9}\Z")


class MistralKind(RemoteKind):
    slug = "mistral"
    title = "Mistral"
    vendor: ClassVar[str] = "mistral"
    default_base_url = "https://api.mistral.ai/v1"

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.http import Upstream, address  # aiohttp, on first use
        from llm.providers.openai_wire import OpenAIAdapter

        base_url = address(connection, self.default_base_url, version="v1")
        upstream = Upstream(slug=connection.slug, base_url=base_url, headers=bearer(connection))
        return OpenAIAdapter(upstream, stream_usage=False, fit=fit)  # it counts tokens unasked


def fit(body: dict[str, Any]) -> None:
    max_tokens_only(body)
    if "seed" in body:
        body["random_seed"] = body.pop("seed")
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    for name in body.keys() - _KNOWN:
        del body[name]
    body["messages"] = [_message(message) for message in body["messages"]]
    if body["messages"] and body["messages"][-1]["role"] == "assistant":
        body["messages"][-1]["prefix"] = True  # an answer to go on with, which is refused without it


def _message(message: dict[str, Any]) -> dict[str, Any]:
    role = "system" if message["role"] == "developer" else message["role"]
    fitted = {name: message[name] for name in _MESSAGE.get(role, message) if name in message} | {"role": role}
    if fitted.get("tool_calls"):
        fitted["tool_calls"] = [
            {"id": _call_id(call["id"]), "type": "function", "function": call["function"]}
            for call in fitted["tool_calls"]
        ]
    if "tool_call_id" in fitted:
        fitted["tool_call_id"] = _call_id(fitted["tool_call_id"])
    return fitted


def _call_id(id: str) -> str:
    """Nine letters and digits, as Mistral insists: the same for a call and its result, whoever made the id."""
    return id if _CALL_ID.match(id) else hashlib.sha256(id.encode()).hexdigest()[:9]
