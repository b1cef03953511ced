"""A toolset's secrets at rest: one encrypted JSON object, bound to its row."""

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property

import orjson
from cryptography.exceptions import InvalidTag

from core.crypto import decrypt, encrypt
from core.errors import Conflict
from toolsets.models import Toolset

logger = logging.getLogger(__name__)


class StoredSecrets(Mapping[str, str]):
    """A toolset's secrets, decrypted when a tool asks for one; none where they cannot be: then it says what is missing.

    They do not show in its repr.
    """

    def __init__(self, toolset: Toolset) -> None:
        self._toolset = toolset

    @cached_property
    def _found(self) -> dict[str, str]:
        try:
            return secrets_of(self._toolset)
        except InvalidTag:
            logger.exception("The secrets of a toolset cannot be read", extra={"toolset": self._toolset.slug})
            return {}

    def __getitem__(self, name: str) -> str:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def set_secrets(toolset: Toolset, changes: Mapping[str, str | None]) -> None:
    """Those that are named change; None takes one away. Raises Conflict where those that stay cannot be read."""
    stays = set(toolset.secret_names) - changes.keys()
    found = {**(_readable(toolset) if stays else {}), **changes}
    kept = {name: secret for name, secret in found.items() if secret}
    toolset.secret_names = sorted(kept)
    toolset.secrets = encrypt(orjson.dumps(kept).decode(), context=_context(toolset)) if kept else None


def _readable(toolset: Toolset) -> dict[str, str]:
    try:
        return secrets_of(toolset)
    except InvalidTag:
        names = ", ".join(toolset.secret_names)
        message = f"The stored secrets cannot be read, since MASTER_KEY has changed: give all of them again ({names})."
        raise Conflict(message, code="secrets_unreadable", param="secrets") from None


def secrets_of(toolset: Toolset) -> dict[str, str]:
    """Raises `cryptography.exceptions.InvalidTag` when MASTER_KEY is another than when they were stored."""
    if toolset.secrets is None:
        return {}
    found: dict[str, str] = orjson.loads(decrypt(bytes(toolset.secrets), context=_context(toolset)))
    return found


def _context(toolset: Toolset) -> str:
    return f"toolset:{toolset.tenant_id}:{toolset.id}"
