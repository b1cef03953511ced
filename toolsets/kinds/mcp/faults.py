"""What goes wrong between us and a server; the messages may be shown once secrets are taken out."""

from typing import Any

MAX_TOLD = 2000  # characters of the server's own words


class ServerRefused(Exception):
    """The server does not do what it is asked."""


class BadAnswer(Exception):
    """The server answered what cannot be read: it may have done what it was asked."""


class Lost(Exception):
    """The request was sent, and its answer did not come: it may have been done."""


class NoSession(Exception):
    """The server does not know the session, so it did nothing."""


class ServerError(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, told: str) -> None:
        super().__init__(f"The server refused: {told}" if told else f"The server refused with the code {code}.")
        self.code, self.told = code, told

    @classmethod
    def of(cls, error: Any) -> "ServerError":
        found = error if isinstance(error, dict) else {}
        code, told = found.get("code"), found.get("message")
        return cls(code if isinstance(code, int) else 0, line(told, MAX_TOLD) if isinstance(told, str) else "")


def line(text: str, most: int) -> str:
    """In one line, without control characters."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    return " ".join(shown.split())[:most]
