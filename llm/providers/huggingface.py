from typing import ClassVar

from pydantic import Field

from llm.providers.base import Need, ProviderConnection, ProviderSettings, RemoteAdapter, RemoteKind
from llm.providers.openai import HEADER_VALUE, bearer, max_tokens_only


class HuggingFaceSettings(ProviderSettings):
    bill_to: str | None = Field(
        None, max_length=100, pattern=HEADER_VALUE, description="The organization that pays, instead of the user."
    )


class HuggingFaceKind(RemoteKind):
    """Inference Providers, behind one router; an Inference Endpoint or a TGI server is reached by its own base_url.

    A model may say who is to run it: `org/model:groq`, `:fastest`, `:cheapest`.
    """

    slug = "huggingface"
    title = "Hugging Face"
    Settings: ClassVar[type[ProviderSettings]] = HuggingFaceSettings
    api_key: ClassVar[Need] = "optional"  # one's own TGI server may need none
    vendor: ClassVar[str] = "huggingface"
    default_base_url = "https://router.huggingface.co/v1"

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.http import Upstream, address  # aiohttp, on first use
        from llm.providers.openai_wire import OpenAIAdapter

        headers = bearer(connection)
        if connection.settings.get("bill_to"):
            headers["X-HF-Bill-To"] = connection.settings["bill_to"]
        base_url = address(connection, self.default_base_url, version="v1")
        upstream = Upstream(slug=connection.slug, base_url=base_url, headers=headers)
        return OpenAIAdapter(upstream, fit=max_tokens_only)
