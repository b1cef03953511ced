"""The address of a model, resolved: what a call needs besides the request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from llm.exceptions import ProviderError
from llm.providers import provider_kind
from llm.providers.base import Adapter, ProviderConnection

if TYPE_CHECKING:
    from llm.calls import CallContext
    from llm.wire import ChatRequest


class Endpoint(NamedTuple):
    """What fails, is slow or is limited as one: a model of a provider, asked with one of its keys."""

    tenant_id: UUID | None
    provider: str
    model: str
    key: str  # "" for the provider's only key


@dataclass(frozen=True, slots=True)
class ModelTarget:
    connection: ProviderConnection
    model: str

    @property
    def name(self) -> str:
        """As callers write it: `provider_slug/model`."""
        return f"{self.connection.slug}/{self.model}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.connection.tenant_id, self.connection.slug, self.model, self.connection.key_id)

    def models(self) -> "Sequence[ModelTarget]":
        return [self]

    def plan(self, request: "ChatRequest", context: "CallContext") -> "Plan":
        return Plan([Leg(self, "asked for by name")])

    def open(self) -> Adapter:
        """Raises ProviderError when the kind is no longer installed."""
        kind = provider_kind(self.connection.kind)
        if kind is None:
            message = f"The provider kind '{self.connection.kind}' is not installed on this server."
            raise ProviderError(message, code="provider_kind_missing", retryable=False)
        return kind.open(self.connection)


@dataclass(frozen=True, slots=True)
class Leg:
    """A target to try, and why; the request is sent to it with the target's model. `variant`: of an A/B test."""

    target: ModelTarget
    reason: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try for one request, in this order. `route` is the slug of the route that chose, "" for none.

    `continues`: when a target fails after its first token, the next one goes on from what was said.
    """

    legs: Sequence[Leg]
    route: str = ""
    continues: bool = False


@runtime_checkable
class Target(Protocol):
    """What a model name leads to: one model, or a route that chooses among several for each request."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str:
        """What requests are made with; the gateway replaces it by each target's own."""

    def models(self) -> Sequence[ModelTarget]:
        """Those that it may choose, at least one where any can be asked."""

    def plan(self, request: "ChatRequest", context: "CallContext") -> Plan:
        """Cheap and without waiting: asked for every call. Raises ApplicationError when nothing can be tried."""
