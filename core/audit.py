"""The door through which every service writes its audit row, in the transaction of the change.

The `audit` app, which owns the table, sets the writer when Django starts; so apps below it record without importing it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID


class Actor(Protocol):
    """Who did it: a person, an API key, or the system."""

    @property
    def tenant_id(self) -> UUID: ...
    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> UUID | None: ...
    @property
    def label(self) -> str: ...


class Target(Protocol):
    """What was changed: any tenant model."""

    id: Any


Writer = Callable[..., object]
_writer: Writer | None = None


def set_writer(writer: Writer) -> None:
    global _writer
    _writer = writer


def record(
    *,
    actor: Actor,
    action: str,
    target: Target,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Append one audit event: `action` is `noun.verb`; `before` and `after` hold the changed fields, never a secret."""
    if _writer is None:
        raise RuntimeError("No audit writer: is the app 'audit' installed?")
    _writer(actor=actor, action=action, target=target, before=before, after=after)
