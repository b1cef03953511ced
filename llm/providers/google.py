from typing import ClassVar

from llm.providers.base import ProviderConnection, RemoteAdapter, RemoteKind


class GoogleKind(RemoteKind):
    """Gemini through the Gemini API, with a key of Google AI Studio."""

    slug = "google"
    title = "Google Gemini"
    vendor: ClassVar[str] = "google"
    default_base_url = "https://generativelanguage.googleapis.com/v1beta"

    def open(self, connection: ProviderConnection) -> RemoteAdapter:
        from llm.providers.google_wire import GoogleAdapter
        from llm.providers.http import Upstream, address  # aiohttp, on first use

        base_url = address(connection, self.default_base_url, version="v1beta")
        headers = {"x-goog-api-key": connection.api_key or ""}
        return GoogleAdapter(Upstream(slug=connection.slug, base_url=base_url, headers=headers))
