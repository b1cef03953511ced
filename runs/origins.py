"""From which pages, and under which names, this server may be asked."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from core.errors import NotPermitted

LOOPBACK = ["localhost", ".localhost"]


def check_origin(origin: str | None, host: str | None) -> None:
    """Only browsers send Origin; theirs must be this host's, or one of SOCKET_ORIGINS."""
    if origin is None or origin in settings.SOCKET_ORIGINS:
        return
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:
        netloc = ""
    if not netloc or netloc != host:
        message = "Pages of this origin may not connect; SOCKET_ORIGINS on the server lists those that may."
        raise NotPermitted(message, code="origin")


def check_host(host: str) -> None:
    """Refuses names that somebody else's DNS may lead here, also where ALLOWED_HOSTS has `*`.

    An address is no name, and Django has refused what ALLOWED_HOSTS does not list.
    """
    name, _ = split_domain_port(host)
    ours = [*LOOPBACK, urlsplit(settings.BASE_URL).hostname or "", *settings.ALLOWED_HOSTS]
    if not _is_address(name) and not validate_host(name, [listed for listed in ours if listed != "*"]):
        message = "The server does not go by the host name that was asked; ALLOWED_HOSTS on it lists its names."
        raise NotPermitted(message, code="host")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
