"""A session as a file: everything as JSON, or what was said as Markdown; made while it is sent."""

import re
from collections.abc import Iterator
from typing import Any

import orjson
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.text import slugify

from core.download import Download
from core.errors import InvalidRequest
from core.tenant import tenant_context
from sessions_app.api.serializers import message_json, session_json
from sessions_app.models import ChatSession, Message, Participant
from sessions_app.selectors.feedback import with_feedback
from sessions_app.selectors.sessions import message_list, session_get
from sessions_app.texts import text_of
from tenants.principal import Principal

FORMATS = ("json", "markdown")
PAGE = 50  # messages that are read at once, each of which may be a megabyte
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_BLOCK = re.compile(r"( {0,3})<(?=[A-Za-z!?/])")


def session_file(*, actor: Principal, ref: str, form: str, replaced: bool = False) -> Download:
    """In one of FORMATS, with the messages that were replaced or without them.

    The name of the file is of a-z, 0-9, '_' and '-'.
    """
    if form not in FORMATS:
        raise InvalidRequest(f"format must be one of {', '.join(FORMATS)}.", param="format")
    session = session_get(actor=actor, ref=ref)
    messages = with_feedback(message_list(actor=actor, session=session, replaced=replaced), actor=actor)
    name = f"{slugify(session.title)[:60].strip('-_') or 'session'}-{str(session.id)[-8:]}"
    pages = _pages(session, messages)
    if form == "markdown":
        return Download(f"{name}.md", "text/markdown; charset=utf-8", _markdown(session, pages))
    return Download(f"{name}.json", "application/json", _json(session, pages))


def _pages(session: ChatSession, messages: QuerySet[Message]) -> Iterator[list[Message]]:
    """Each is read in a statement of its own, in the session's tenant, when it is its turn to be sent."""
    last = 0
    while True:
        with tenant_context(session.tenant_id):
            page = list(messages.filter(seq__gt=last).order_by("seq")[:PAGE])
        if not page:
            return
        last = page[-1].seq
        yield page


def _json(session: ChatSession, pages: Iterator[list[Message]]) -> Iterator[bytes]:
    head = {"object": "session.export", "exported_at": timezone.now(), "session": session_json(session)}
    head["participants"] = _participants(session)
    yield orjson.dumps(head)[:-1] + b',"messages":['
    between = b"\n"
    for page in pages:
        yield between + b",\n".join(orjson.dumps(message_json(message)) for message in page)
        between = b",\n"
    yield b"\n]}\n"


def _participants(session: ChatSession) -> list[dict[str, Any]]:
    with tenant_context(session.tenant_id):
        rows = Participant.objects.filter(tenant_id=session.tenant_id, session_id=session.id)
        names = ("person_kind", "person_id", "label", "role", "created_at")
        return [
            {"kind": kind, "person_id": person, "label": label, "role": role, "joined_at": joined}
            for kind, person, label, role, joined in rows.values_list(*names)
        ]


def _markdown(session: ChatSession, pages: Iterator[list[Message]]) -> Iterator[bytes]:
    title = " ".join((session.title or session.thread_id).split())
    yield f"# {_plain(title)}\n\n- Session: {session.id}\n- Begun: {_time(session.created_at)}\n".encode()
    for page in pages:
        yield "".join(_said(message) for message in page).encode("utf-8", "replace")


def _said(message: Message) -> str:
    version = message.agent_version
    who = f"{version.agent.slug} v{version.number}" if version else message.author or message.end_user or message.name
    notes = [who, _time(message.created_at), "" if message.status == "complete" else message.status]
    notes.append("replaced" if message.replaced_by else "")
    head = " · ".join(_plain(" ".join(note.split())) for note in notes if note)
    text = text_of(message.content)
    shown = fenced(text) if message.role == Message.Role.TOOL else kept_apart(text)
    calls = [_call(call) for call in message.tool_calls or []]
    parts = [f"---\n\n**{message.get_role_display()}** · {head}", *([shown] if text else []), *calls]
    return "\n" + "\n\n".join(parts) + "\n"


def _call(call: Any) -> str:
    function = call.get("function") or {}
    return f"Calls `{str(function.get('name', '')).replace('`', '')}`:\n\n{fenced(str(function.get('arguments', '')))}"


def fenced(text: str) -> str:
    """As a block of code with a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def kept_apart(text: str) -> str:
    """Markdown that ends where it ends: no fence or block of HTML that it leaves open takes in what follows."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if not fence:
            fence = mark[1] if mark else ""
            lines.append(line if fence else _BLOCK.sub(r"\1\\<", line, count=1) if _BLOCK.match(line) else line)
        else:
            fence = "" if mark and _closes(fence, mark) else fence
            lines.append(line)
    return "\n".join([*lines, *([fence] if fence else [])])


def _closes(fence: str, mark: re.Match[str]) -> bool:
    return mark[1].startswith(fence) and not mark[2].strip()


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text)


def _time(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
