from typing import ClassVar

from llm.providers.base import ProviderConnection, RemoteAdapter, RemoteKind
from llm.providers.openai import bearer


class CohereKind(RemoteKind):
    slug = "cohere"
    title = "Cohere"
    vendor: ClassVar[str] = "cohere"
    default_base_url = "https://api.cohere.com"

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.cohere_wire import CohereAdapter
        from llm.providers.http import Upstream, address  # aiohttp, on first use

        base_url = address(connection, self.default_base_url).removesuffix("/v1").removesuffix("/v2")
        return CohereAdapter(Upstream(slug=connection.slug, base_url=base_url, headers=bearer(connection)))
