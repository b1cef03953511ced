"""What still uses an object, asked before it is renamed or deleted.

An app cannot look into the apps above it; those that refer to its objects by slug tell this door who does.
"""

from collections.abc import Callable, Iterable
from uuid import UUID

from core.errors import Conflict

Users = Callable[[UUID, str], Iterable[str]]
_users: dict[str, list[Users]] = {}
_SHOWN = 5


def register_users(noun: str, users: Users) -> None:
    """`users(tenant_id, slug)` names what uses the object `slug` of the kind `noun`, as a person would write it."""
    _users.setdefault(noun, []).append(users)


def refuse_if_used(noun: str, tenant_id: UUID, slug: str) -> None:
    """Raises Conflict with the first users' names."""
    names = [name for users in _users.get(noun, []) for name in users(tenant_id, slug)]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (" and others" if len(names) > _SHOWN else "")
        raise Conflict(f"The {noun} '{slug}' is in use by {shown}: change these first.", code=f"{noun}_in_use")
