"""Literal addresses in configs, which are refused where a call would be. A name is seen when it resolves."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from core.errors import InvalidRequest
from core.net import NotPublic, check_host
from core.validation import Found

PRIVATE = (
    "This is not on the public internet, so it may not be connected to. ALLOW_PRIVATE_TOOLS on the server allows it."
)


def private_places(config: Mapping[str, Any], *fields: str) -> Iterator[Found]:
    """Of fields that hold a host or a URL; what else is wrong with them is their own check's."""
    for name in fields:
        place = config.get(name)
        if isinstance(place, str) and _is_refused(place):
            yield (name,), "address_refused", PRIVATE


def _is_refused(place: str) -> bool:
    try:
        host = urlsplit(place).hostname if "://" in place else place
        check_host(host or "", allow_private=settings.ALLOW_PRIVATE_TOOLS)
    except NotPublic:
        return True
    except (InvalidRequest, ValueError):  # no host or no URL, which is said elsewhere
        return False
    return False
