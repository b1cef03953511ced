"""The kinds of providers that aimock can play, as providers of acme."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    kind: str
    model: str
    path: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def provider(self, root: str) -> dict[str, Any]:
        """What makes one of it, but for the slug; `root` is aimock's address."""
        return {"kind": self.kind, "base_url": root + self.path, "api_key": "mock-key", "settings": self.settings}


KINDS = {
    "openai": Kind("openai", "gpt-4o", "/v1"),
    "azure": Kind(
        "openai", "gpt-4o", "/openai/deployments/gpt-4o", {"key_header": "api-key", "api_version": "2024-10-21"}
    ),
    "anthropic": Kind("anthropic", "claude-sonnet-4-5"),
    "google": Kind("google", "gemini-2.5-flash"),
    "cohere": Kind("cohere", "command-r-plus"),
    "mistral": Kind("mistral", "mistral-large-latest"),
    "huggingface": Kind("huggingface", "openai/gpt-oss-120b:groq"),
    "ollama": Kind("ollama", "llama3"),
}
