"""The secrets of a toolset, or of a person for it, at rest: one encrypted JSON object, bound to its row."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from functools import cached_property

import orjson
from cryptography.exceptions import InvalidTag

from core.crypto import decrypt, encrypt
from core.errors import Conflict
from toolsets.models import Toolset, ToolsetCredential
from toolsets.registry import toolset_kinds

Holder = Toolset | ToolsetCredential

logger = logging.getLogger(__name__)


class StoredSecrets(Mapping[str, str]):
    """The holder's secrets, decrypted when a tool asks for one; none where they cannot be, as the tool will say.

    They do not show in its repr.
    """

    def __init__(self, holder: Holder) -> None:
        self._holder = holder

    @cached_property
    def _found(self) -> dict[str, str]:
        try:
            return secrets_of(self._holder)
        except InvalidTag:
            toolset = self._holder if isinstance(self._holder, Toolset) else self._holder.toolset
            logger.exception("The secrets of a toolset cannot be read", extra={"toolset": toolset.slug})
            return {}

    def __getitem__(self, name: str) -> str:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def set_secrets(holder: Holder, changes: Mapping[str, str | None]) -> None:
    """Those that are named change; None takes one away. Raises Conflict where those that stay cannot be read."""
    stays = set(holder.secret_names) - changes.keys()
    found = {**(_readable(holder) if stays else {}), **changes}
    kept = {name: secret for name, secret in found.items() if secret}
    holder.secret_names = sorted(kept)
    holder.secrets = encrypt(orjson.dumps(kept).decode(), context=_context(holder)) if kept else None


def _readable(holder: Holder) -> dict[str, str]:
    try:
        return secrets_of(holder)
    except InvalidTag:
        names = ", ".join(holder.secret_names)
        message = f"The stored secrets cannot be read, since MASTER_KEY has changed: give all of them again ({names})."
        raise Conflict(message, code="secrets_unreadable", param="secrets") from None


def secrets_of(holder: Holder) -> dict[str, str]:
    """Raises `cryptography.exceptions.InvalidTag` when MASTER_KEY is another than when they were stored, and for a
    person's when the toolset goes to another place.
    """
    if holder.secrets is None:
        return {}
    found: dict[str, str] = orjson.loads(decrypt(bytes(holder.secrets), context=_context(holder)))
    return found


def _context(holder: Holder) -> str:
    if isinstance(holder, Toolset):
        return f"toolset:{holder.tenant_id}:{holder.id}"
    return f"toolset_credential:{holder.tenant_id}:{holder.toolset_id}:{holder.person}:{_places(holder.toolset)}"


def _places(toolset: Toolset) -> str:
    """A person's secret is of no use to a toolset that goes elsewhere."""
    kind = toolset_kinds().get(toolset.kind)
    places = {name: toolset.config.get(name) for name in (kind.places if kind else ())}
    return hashlib.sha256(orjson.dumps(places, option=orjson.OPT_SORT_KEYS)).hexdigest()
