"""The address of a model, resolved: what a call needs besides the request."""

from dataclasses import dataclass

from llm.exceptions import ProviderError
from llm.providers import provider_kind
from llm.providers.base import Adapter, ProviderConnection


@dataclass(frozen=True, slots=True)
class ModelTarget:
    connection: ProviderConnection
    model: str

    @property
    def name(self) -> str:
        """As callers write it: `provider_slug/model`."""
        return f"{self.connection.slug}/{self.model}"

    def open(self) -> Adapter:
        """Raises ProviderError when the kind is no longer installed."""
        kind = provider_kind(self.connection.kind)
        if kind is None:
            message = f"The provider kind '{self.connection.kind}' is not installed on this server."
            raise ProviderError(message, code="provider_kind_missing", retryable=False)
        return kind.open(self.connection)
