from zoneinfo import ZoneInfo


def known_timezone(name: str) -> str:
    """Raises ValueError for what is no IANA name; a folder of the zone database is none either."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("unknown time zone; use an IANA name such as Europe/Berlin") from None
    return name
