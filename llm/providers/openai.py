from collections.abc import Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from pydantic import Field

from llm.providers.base import Need, Preset, ProviderConnection, ProviderSettings, RemoteAdapter, RemoteKind

HEADER_VALUE = r"^[A-Za-z0-9_.-]+$"


class OpenAISettings(ProviderSettings):
    organization: str | None = Field(
        None, max_length=100, pattern=HEADER_VALUE, description="OpenAI-Organization header."
    )
    project: str | None = Field(None, max_length=100, pattern=HEADER_VALUE, description="OpenAI-Project header.")
    stream_usage: bool = Field(True, description="Ask for token counts in streams; off for servers that refuse it.")
    max_tokens_only: bool = Field(
        False, description="Send max_completion_tokens as max_tokens, for servers that know only the older name."
    )
    key_header: Literal["Authorization", "api-key"] = Field(
        "Authorization", description="The header that carries the API key; api-key for Azure OpenAI."
    )
    api_version: str | None = Field(
        None,
        max_length=40,
        pattern=HEADER_VALUE,
        description="Azure OpenAI's api-version, for addresses that end with /openai/deployments/DEPLOYMENT.",
    )


class OpenAIKind(RemoteKind):
    """Any server that speaks OpenAI's chat completions."""

    slug = "openai"
    title = "OpenAI-compatible"
    Settings: ClassVar[type[ProviderSettings]] = OpenAISettings
    api_key: ClassVar[Need] = "optional"
    default_base_url = "https://api.openai.com/v1"
    presets: ClassVar[Sequence[Preset]] = (
        Preset(
            "azure",
            "Azure OpenAI",
            "https://YOUR-RESOURCE.openai.azure.com/openai/v1",
            settings={"key_header": "api-key"},
        ),
        Preset("groq", "Groq", "https://api.groq.com/openai/v1"),
        Preset("deepseek", "DeepSeek", "https://api.deepseek.com/v1", settings={"max_tokens_only": True}),
        Preset("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
        Preset("together", "Together AI", "https://api.together.ai/v1", settings={"max_tokens_only": True}),
        Preset("vllm", "vLLM", "http://127.0.0.1:8000/v1", "optional"),
        Preset("localai", "LocalAI", "http://127.0.0.1:8080/v1", "optional", {"max_tokens_only": True}),
    )

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.http import Upstream, address  # aiohttp, on first use
        from llm.providers.openai_wire import OpenAIAdapter

        settings = connection.settings
        version = settings.get("api_version")
        base_url = address(connection, self.default_base_url)
        upstream = Upstream(
            slug=connection.slug,
            base_url=base_url,
            headers=_headers(connection),
            query=urlencode({"api-version": version}) if version else "",
        )
        # A deployment of Azure has no list of models, its resource has one.
        resource, deployments, _ = base_url.partition("/deployments/")
        return OpenAIAdapter(
            upstream,
            stream_usage=settings.get("stream_usage", True),
            fit=max_tokens_only if settings.get("max_tokens_only") else None,
            models=f"{resource}/models" if deployments else "/models",
        )


def _headers(connection: ProviderConnection) -> dict[str, str]:
    headers = {}
    if connection.api_key:
        azure = connection.settings.get("key_header") == "api-key"
        headers = {"api-key": connection.api_key} if azure else bearer(connection)
    for name, header in (("organization", "OpenAI-Organization"), ("project", "OpenAI-Project")):
        if connection.settings.get(name):
            headers[header] = connection.settings[name]
    return headers


def bearer(connection: ProviderConnection) -> dict[str, str]:
    return {"Authorization": f"Bearer {connection.api_key}"} if connection.api_key else {}


def max_tokens_only(body: dict[str, Any]) -> None:
    if (most := body.pop("max_completion_tokens", None)) is not None:
        body["max_tokens"] = most
