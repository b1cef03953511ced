"""Words of messages."""


def counted(count: int, noun: str) -> str:
    """`1 time`, `2,000 times`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
