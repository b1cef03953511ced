from typing import Any, ClassVar

from llm.providers.base import Need, ProviderConnection, RemoteAdapter, RemoteKind
from llm.providers.openai import bearer, max_tokens_only
from usage.list_prices import FREE


class OllamaKind(RemoteKind):
    slug = "ollama"
    title = "Ollama"
    api_key: ClassVar[Need] = "optional"  # ollama.com and proxies want one
    vendor: ClassVar[str] = FREE
    default_base_url = "http://127.0.0.1:11434/v1"

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.http import Upstream, address  # aiohttp, on first use
        from llm.providers.openai_wire import OpenAIAdapter

        base_url = address(connection, self.default_base_url, version="v1")
        upstream = Upstream(slug=connection.slug, base_url=base_url, headers=bearer(connection))
        return OpenAIAdapter(upstream, fit=fit)


def fit(body: dict[str, Any]) -> None:
    """Ollama may pass over `tool_choice`: it is shown the tools that may be called, and no other."""
    max_tokens_only(body)
    choice = body.get("tool_choice")
    if choice == "none":
        del body["tool_choice"]
        body.pop("tools", None)
    elif isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        body["tools"] = [tool for tool in body.get("tools") or () if tool.get("function", {}).get("name") == wanted]
