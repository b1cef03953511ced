"""What a provider kind is: how a tenant configures it, and the adapter that speaks to it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from llm.catalog.matrix import Capabilities
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


LIMITS = {"rpm": 10_000_000, "tpm": 10_000_000_000, "concurrent": 100_000}  # the most that a key may be given


class LimitSettings(BaseModel):
    """What the provider may be asked by one server process; empty: as much as comes."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Limits")

    rpm: int | None = Field(None, ge=1, le=LIMITS["rpm"], title="Requests a minute")
    tpm: int | None = Field(None, ge=1, le=LIMITS["tpm"], title="Tokens a minute")
    concurrent: int | None = Field(None, ge=1, le=LIMITS["concurrent"], title="Calls at once")


class ProviderSettings(BaseModel):
    """The schema of `Provider.settings`; each kind has its own beside these."""

    model_config = ConfigDict(extra="forbid", strict=True)

    limits: LimitSettings = Field(default_factory=LimitSettings, title="Limits")


@dataclass(frozen=True, slots=True)
class Preset:
    """A service that a kind reaches: what to fill in for it. A `base_url` may hold a part in capitals to replace."""

    slug: str
    title: str
    base_url: str
    api_key: Need = "required"
    settings: dict[str, Any] = field(default_factory=dict)


class Adapter(ABC):
    """Speaks one provider's wire. Raises `llm.exceptions` only, whatever the provider or its SDK raises."""

    @abstractmethod
    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Closing the generator closes the connection to the provider at once."""


class CompletingAdapter(Adapter):
    """An adapter whose provider gives a whole answer cheaper than a stream of it."""

    @abstractmethod
    async def complete(self, request: ChatRequest) -> Completion: ...


class RemoteAdapter(Adapter):
    @abstractmethod
    async def list_models(self) -> list[str]:
        """Sorted names, from the provider."""


class ProviderKind(ABC):
    """One per provider kind; a third party names an instance in the entry-point group `agentsite.providers`.

    `static_models` is the closed list of models, or None when only the provider knows them. `vendor` is whose list
    prices hold (usage.list_prices), "free" for what runs on this machine, "" for whoever serves at the base URL.
    Importing a kind's module must be cheap: its SDK is imported by `open`.
    `remote` is False for what answers on this machine: there is nothing to leave alone when it fails.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    Settings: ClassVar[type[ProviderSettings]] = ProviderSettings
    base_url: ClassVar[Need] = "none"
    api_key: ClassVar[Need] = "none"
    default_base_url: ClassVar[str] = ""
    vendor: ClassVar[str] = ""
    static_models: ClassVar[Sequence[str] | None] = None
    remote: ClassVar[bool] = True
    presets: ClassVar[Sequence[Preset]] = ()
    install: ClassVar[str] = ""  # the command that installs what the kind needs

    def installed(self) -> bool:
        return True

    def capabilities(self, model: str) -> Capabilities:
        """What the kind itself knows of a model; the catalog's and the tenant's word go before it."""
        return Capabilities()

    @abstractmethod
    def open(self, connection: ProviderConnection) -> Adapter:
        """Cheap: called for every model call. Connections are kept by the kind, not by the adapter."""

    @abstractmethod
    async def list_models(self, connection: ProviderConnection) -> list[str]:
        """Asks the provider, which proves the address and the credential; raises `llm.exceptions`."""


class RemoteKind(ProviderKind):
    """A kind whose providers are somewhere in a network, and know their models."""

    base_url: ClassVar[Need] = "optional"
    api_key: ClassVar[Need] = "required"

    @abstractmethod
    def open(self, connection: ProviderConnection) -> RemoteAdapter: ...

    async def list_models(self, connection: ProviderConnection) -> list[str]:
        return await self.open(connection).list_models()
