"""The tenant that the current code works for: one ContextVar, applied to every database connection by `core.db`."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

_tenant: ContextVar[UUID | None] = ContextVar("tenant", default=None)


def current_tenant() -> UUID | None:
    return _tenant.get()


@contextmanager
def tenant_context(tenant_id: UUID | None) -> Iterator[None]:
    """Enter a tenant; None means no tenant, in which every tenant table reads as empty."""
    token = _tenant.set(tenant_id)
    try:
        yield
    finally:
        _tenant.reset(token)


def enter_tenant(tenant_id: UUID) -> None:
    """Enter for the rest of an enclosing `tenant_context`, which restores what was before."""
    _tenant.set(tenant_id)
