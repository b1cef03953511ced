"""What a provider kind is: how a tenant configures it, and the adapter that speaks to it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from llm.wire import ChatRequest, Completion, Delta

Need = Literal["required", "optional", "none"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key of a provider may be asked: requests and tokens a minute, calls at once. None: as many as come."""

    rpm: int | None = None
    tpm: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderConnection:
    """A tenant's provider row, decrypted: all that an adapter may know about the tenant.

    `key_id` tells the keys of a provider apart that has several; the main one has none.
    """

    slug: str
    kind: str
    base_url: str = ""
    api_key: str | None = field(default=None, repr=False)
    settings: dict[str, Any] = field(default_factory=dict)
    tenant_id: UUID | None = None
    key_id: str = ""
    limits: Limits = Limits()


class ProviderSettings(BaseModel):
    """The schema of `Provider.settings`; each kind has its own."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Adapter(ABC):
    """Speaks one provider's wire. Raises `llm.exceptions` only, whatever the provider or its SDK raises."""

    @abstractmethod
    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Closing the generator closes the connection to the provider at once."""


class CompletingAdapter(Adapter):
    """An adapter whose provider gives a whole answer cheaper than a stream of it."""

    @abstractmethod
    async def complete(self, request: ChatRequest) -> Completion: ...


class ProviderKind(ABC):
    """One per provider kind; a third party names an instance in the entry-point group `agentsite.providers`.

    `static_models` is the closed list of models, or None when only the provider knows them.
    Importing a kind's module must be cheap: its SDK is imported by `open`.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    Settings: ClassVar[type[ProviderSettings]] = ProviderSettings
    base_url: ClassVar[Need] = "none"
    api_key: ClassVar[Need] = "none"
    default_base_url: ClassVar[str] = ""
    static_models: ClassVar[Sequence[str] | None] = None
    install: ClassVar[str] = ""  # the command that installs what the kind needs

    def installed(self) -> bool:
        return True

    @abstractmethod
    def open(self, connection: ProviderConnection) -> Adapter:
        """Cheap: called for every model call. Connections are kept by the kind, not by the adapter."""

    @abstractmethod
    async def list_models(self, connection: ProviderConnection) -> list[str]:
        """Asks the provider, which proves the address and the credential; raises `llm.exceptions`."""
