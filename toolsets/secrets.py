"""A toolset's secrets at rest: one encrypted JSON object, bound to its row."""

from collections.abc import Mapping

import orjson
from cryptography.exceptions import InvalidTag

from core.crypto import decrypt, encrypt
from core.errors import Conflict
from toolsets.models import Toolset


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
