"""Whom a run is for, as those toolsets ask whose calls use that person's own credentials."""

from uuid import UUID


def member_key(user_id: UUID | None) -> str:
    return f"user:{user_id}"


def end_user_key(end_user: str) -> str:
    return f"end_user:{end_user}"


def person_of(*, actor_kind: str, actor_id: UUID | None, end_user: str) -> str:
    """Members are themselves, whomever they name; a caller with a key speaks for the end user that it names."""
    if actor_kind == "user":
        return member_key(actor_id)
    return end_user_key(end_user) if end_user else ""
