from typing import ClassVar

from pydantic import Field

from llm.providers.base import ProviderConnection, ProviderSettings, RemoteAdapter, RemoteKind

VERSION = "2023-06-01"


class AnthropicSettings(ProviderSettings):
    max_tokens: int = Field(
        8192, ge=1, le=1_000_000, description="The most tokens of an answer whose request names no limit: it needs one."
    )
    beta: str | None = Field(
        None, max_length=300, pattern=r"^[A-Za-z0-9_.,-]+$", description="anthropic-beta header: names, with commas."
    )


class AnthropicKind(RemoteKind):
    slug = "anthropic"
    title = "Anthropic"
    Settings: ClassVar[type[ProviderSettings]] = AnthropicSettings
    vendor: ClassVar[str] = "anthropic"
    default_base_url = "https://api.anthropic.com/v1"

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.anthropic_wire import AnthropicAdapter
        from llm.providers.http import Upstream, address  # aiohttp, on first use

        headers = {"x-api-key": connection.api_key or "", "anthropic-version": VERSION}
        if connection.settings.get("beta"):
            headers["anthropic-beta"] = connection.settings["beta"]
        base_url = address(connection, self.default_base_url, version="v1")
        upstream = Upstream(slug=connection.slug, base_url=base_url, headers=headers)
        return AnthropicAdapter(upstream, AnthropicSettings.model_validate(connection.settings).max_tokens)
