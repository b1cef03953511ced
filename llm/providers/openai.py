from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from llm.providers.base import Adapter, Need, ProviderConnection, ProviderKind, ProviderSettings


class OpenAISettings(ProviderSettings):
    organization: str | None = Field(
        None, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$", description="OpenAI-Organization header."
    )
    project: str | None = Field(
        None, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$", description="OpenAI-Project header."
    )
    stream_usage: bool = Field(True, description="Ask for token counts in streams; off for servers that refuse it.")


class OpenAIKind(ProviderKind):
    """Any server that speaks OpenAI's chat completions: OpenAI, Mistral, Groq, DeepSeek, Ollama, vLLM, LocalAI, …"""

    slug = "openai"
    title = "OpenAI-compatible"
    Settings: ClassVar[type[ProviderSettings]] = OpenAISettings
    base_url: ClassVar[Need] = "optional"
    api_key: ClassVar[Need] = "optional"
    default_base_url = "https://api.openai.com/v1"
    static_models: ClassVar[Sequence[str] | None] = None

    def open(self, connection: ProviderConnection) -> Adapter:
        from llm.providers.openai_wire import OpenAIAdapter  # aiohttp, on first use

        return OpenAIAdapter.connect(connection, default_base_url=self.default_base_url)

    async def list_models(self, connection: ProviderConnection) -> list[str]:
        from llm.providers.openai_wire import OpenAIAdapter

        return await OpenAIAdapter.connect(connection, default_base_url=self.default_base_url).list_models()
