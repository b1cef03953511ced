"""What a turn adds to its session, and what it replaces there: edit-and-resend, and an answer made anew."""

from core.errors import InvalidRequest
from runs.services.turns import Messages, TurnRequest, new_messages
from sessions_app.models import ChatSession
from sessions_app.selectors.sessions import openai_message
from sessions_app.services.replacing import messages_before, messages_from, replaceable

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


def place_of(session: ChatSession, request: TurnRequest) -> str | int | None:
    """From where on the turn replaces what the session has. The caller holds the session's row lock."""
    if request.ask_again is None:
        return request.replace_from
    rows = messages_from(session=session, ref=request.ask_again, most=2)
    if not rows:
        return None
    question = next((message for message in request.messages if message.get("id") == request.ask_again), {})
    is_same = _shape(question) == _shape(openai_message(rows[0]))
    return rows[1].seq if is_same and len(rows) > 1 else rows[0].seq


def _without_known(new: Messages, left: Messages) -> Messages:
    """Clients send what precedes the answer that they want anew; the session's end has it."""
    said, known = [[_shape(message) for message in messages] for messages in (new, left)]
    counts = range(min(len(said), len(known)), 0, -1)
    return new[next((count for count in counts if said[:count] == known[-count:]), 0) :]


def _shape(message: dict[str, object]) -> list[object]:
    return [message.get(name) or "" for name in _SAME]
