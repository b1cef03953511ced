"""What a turn adds to its session, and what it replaces there: edit-and-resend, and an answer made anew."""

from core.errors import InvalidRequest
from runs.services.turns import Messages, new_messages
from sessions_app.models import ChatSession
from sessions_app.selectors.sessions import openai_message
from sessions_app.services.replacing import messages_before, replaceable

_SAME = ("role", "content", "tool_call_id")


def joining(
    *, session: ChatSession, messages: Messages, replace_from: str | int | None, empty: bool
) -> tuple[Messages, int | None]:
    """The messages that join the session, and the seq from which on others leave it.

    `empty`: it has none yet, and takes in all. The caller holds the session's row lock.

    Raises InvalidRequest when there is nothing to answer, and what `replaceable` does.
    """
    new = messages if empty else new_messages(messages)
    if replace_from is None:
        if not new:
            message = "The last message must be new: the session has everything up to its last assistant message."
            raise InvalidRequest(message, code="no_new_message", param="messages")
        return new, None
    place = replaceable(session=session, ref=replace_from)
    left = [openai_message(row) for row in messages_before(session=session, seq=place, most=max(len(new), 1))]
    new = _without_known(new, left)
    if not new and (not left or left[-1]["role"] not in ("user", "tool")):
        message = "What stays of the session does not end with a question: say something, or replace only its answer."
        raise InvalidRequest(message, code="no_new_message", param="replace_from")
    return new, place


def _without_known(new: Messages, left: Messages) -> Messages:
    """Clients send what precedes the answer that they want anew; the session's end has it."""
    said, known = [[_shape(message) for message in messages] for messages in (new, left)]
    counts = range(min(len(said), len(known)), 0, -1)
    return new[next((count for count in counts if said[:count] == known[-count:]), 0) :]


def _shape(message: dict[str, object]) -> list[object]:
    return [message.get(name) or "" for name in _SAME]
