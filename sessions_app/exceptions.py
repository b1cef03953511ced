"""Failures of sessions that callers may see."""

from core.errors import NotFound


class InvitationInvalid(NotFound):
    """Whatever is wrong with it: who has no valid invitation learns nothing about the session."""

    code = "invitation_invalid"

    def __init__(self) -> None:
        super().__init__("This invitation is not valid: ask who sent it for another.")
