from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from llm.providers.base import Adapter, ProviderConnection, ProviderKind, ProviderSettings


class EchoSettings(ProviderSettings):
    """Each field becomes a field of the form in the admin. Give it a description, and a default if it can have one."""

    prefix: str = Field("", max_length=100, description="What every answer begins with.")


class EchoKind(ProviderKind):
    # A provider row names the slug; it must not be one of Agentsite's own.
    slug = "echo"
    title = "Echo (an example)"
    Settings: ClassVar[type[ProviderSettings]] = EchoSettings
    # Whether a tenant gives an address and a key: "required", "optional" or "none". The key is stored encrypted.
    base_url = "none"
    api_key = "none"
    # The closed list of models; None when only the provider knows them, which `list_models` then asks.
    static_models: ClassVar[Sequence[str] | None] = ("plain", "loud")
    # `install`, with `installed()`: the command that adds what the kind needs, for one that needs an SDK.

    def open(self, connection: ProviderConnection) -> Adapter:
        # Called for every model call, so it must be cheap. What is slow to import is imported here, not above: a server
        # that has no such provider then pays nothing for it.
        from agentsite_echo.adapter import EchoAdapter

        return EchoAdapter(connection.settings.get("prefix", ""))

    async def list_models(self, connection: ProviderConnection) -> list[str]:
        # "Test connection" calls this: ask the provider, so that the answer proves the address and the key.
        return list(self.static_models or ())
