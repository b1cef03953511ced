"""What is remembered of endpoints, within bounds: callers name them, and no tenant may push out another's."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar
from uuid import UUID

from llm.targets import Endpoint

OF_TENANT = 256
OF_ALL = 4096

T = TypeVar("T")


class PerTenant(Generic[T]):
    """Beyond OF_TENANT the tenant's own least recently used is forgotten, beyond OF_ALL that of the tenant with most.

    `idle` says what may be forgotten.
    """

    def __init__(self, idle: Callable[[T], bool] = lambda value: True) -> None:
        self._tenants: dict[UUID | None, OrderedDict[Endpoint, T]] = {}
        self._count = 0
        self._idle = idle

    def get(self, endpoint: Endpoint) -> T | None:
        held = self._tenants.get(endpoint.tenant_id)
        return held.get(endpoint) if held else None

    def use(self, endpoint: Endpoint, made: Callable[[], T]) -> T:
        """The value, which is now the most recently used; `made` where there is none."""
        held = self._tenants.setdefault(endpoint.tenant_id, OrderedDict())
        if endpoint not in held:
            held[endpoint] = made()
            self._count += 1
            self._forget(held, endpoint)
        held.move_to_end(endpoint)
        return held[endpoint]

    def pop(self, endpoint: Endpoint) -> None:
        held = self._tenants.get(endpoint.tenant_id)
        if held is not None and endpoint in held:
            del held[endpoint]
            self._count -= 1
            if not held:
                del self._tenants[endpoint.tenant_id]

    def of(self, tenant_id: UUID | None) -> list[Endpoint]:
        return list(self._tenants.get(tenant_id, ()))

    def clear(self) -> None:
        self._tenants.clear()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Endpoint]:
        return (endpoint for held in list(self._tenants.values()) for endpoint in list(held))

    def _forget(self, held: OrderedDict[Endpoint, T], newest: Endpoint) -> None:
        if len(held) <= OF_TENANT:
            if self._count <= OF_ALL:
                return
            held = max(self._tenants.values(), key=len)
        oldest = (endpoint for endpoint, value in held.items() if endpoint != newest and self._idle(value))
        if (endpoint := next(oldest, None)) is not None:
            self.pop(endpoint)
