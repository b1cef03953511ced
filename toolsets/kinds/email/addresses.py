"""Mail addresses, read strictly: one bare address, no display name, no group, no quoting, no comment."""

import re

# RFC 5321's atoms without `%`, `!`, `|` and "`", which old servers take for a route or a command, and without `?`, of
# which encoded words are made.
_LOCAL = re.compile(r"[A-Za-z0-9#$&'*+/=^_{}~-]+(?:\.[A-Za-z0-9#$&'*+/=^_{}~-]+)*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_LOCAL, MAX_DOMAIN = 64, 253  # RFC 5321
ANYBODY = "*@"


def address(text: str) -> str:
    """The address with its domain in lower-case ASCII. Raises ValueError."""
    local, at, domain = text.rpartition("@")
    if not at or len(local) > MAX_LOCAL or not _LOCAL.fullmatch(local):
        raise ValueError("write one bare address such as anna@example.com, in ASCII before the @")
    return f"{local}@{ascii_domain(domain)}"


def recipient_rule(text: str) -> str:
    """An address, or `*@domain` for all addresses of exactly that domain. Raises ValueError."""
    if text.startswith(ANYBODY):
        return ANYBODY + ascii_domain(text.removeprefix(ANYBODY))
    return address(text)


def is_allowed(recipient: str, rules: list[str]) -> bool:
    """Both sides as the functions above return them: local parts must be equal, capitals included."""
    return recipient in rules or ANYBODY + recipient.rpartition("@")[2] in rules


def ascii_domain(text: str) -> str:
    """IDNA 2008 without any mapping but that of capitals: look-alikes such as full-width letters are refused."""
    domain = text.lower() if text.isascii() else _idna(text.lower())
    if len(domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(domain):
        raise ValueError("the part after the @ must be a domain such as example.com")
    return domain


def _idna(domain: str) -> str:
    import idna  # its tables are large

    try:
        return ".".join(idna.alabel(label).decode() for label in domain.split("."))
    except (idna.IDNAError, UnicodeError):
        raise ValueError("the part after the @ is no valid international domain") from None
