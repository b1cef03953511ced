"""What the first event of a run tells: who asked what, of which agent."""

from collections.abc import Iterable, Sequence
from typing import Any

from runs.events import run_started, without_nones
from runs.models import Run
from sessions_app.models import Message
from sessions_app.selectors.sessions import openai_message

Said = dict[str, Any]  # a message in OpenAI's shape; it may have an `id`, and an `author` as `author_of` says it


def started(run: Run, said: Sequence[Said] = (), *, replaces_from: int | None = None) -> dict[str, Any]:
    """The fields of RUN_STARTED. Of a session's run they have AG-UI's `input`, with the messages that are new.

    `replaces_from` is the seq of the first message that is no longer part of the conversation.
    """
    thread, id = run.thread_id, str(run.id)
    if run.session_id is None:
        return run_started(thread, id)
    asked = {"threadId": thread, "runId": id, "messages": [agui_message(message) for message in said]}
    return run_started(thread, id, input=asked, metadata=_about(run, replaces_from=replaces_from))


def goes_on(run: Run) -> dict[str, Any]:
    """The fields of the RUN_STARTED of a run that waited for a person: its messages were told before."""
    told = {"metadata": _about(run)} if run.session_id else {}
    return run_started(run.thread_id, str(run.id), **told)


def _about(run: Run, **more: Any) -> dict[str, Any]:
    agent = run.agent_version.agent.slug if run.agent_version else None
    return without_nones(actor=author_of(run), agent=agent, **more)


def author_of(run: Run) -> dict[str, Any]:
    """Who sent a run's messages; `user_id` is the integrator's end user, where there is one."""
    id = str(run.actor_id) if run.actor_id else None
    author = {"kind": run.actor_kind, "id": id, "label": run.actor_label}
    return {**author, "user_id": run.end_user} if run.end_user else author


def signed(run: Run, messages: Iterable[Said]) -> list[Said]:
    """With the author in those of a user."""
    author = author_of(run)
    return [{**message, "author": author} if message["role"] == "user" else message for message in messages]


def stored(rows: Iterable[Message]) -> list[Said]:
    """Stored messages, to be told: by their client's id or else ours, with their author and seq."""
    return [_stored(row) for row in rows]


def _stored(row: Message) -> Said:
    said = {**openai_message(row), "id": row.client_id or str(row.id), "seq": row.seq}
    author = {"kind": row.author_kind, "label": row.author, "user_id": row.end_user}
    return {**said, "author": author} if row.author_kind else said


def plain(messages: Iterable[Said]) -> list[Said]:
    """As a model is told them."""
    return [{name: message[name] for name in message if name not in ("id", "author", "seq")} for message in messages]


def agui_message(said: Said) -> dict[str, Any]:
    """AG-UI's message; `name` is its author's, and `metadata.seq` its place in the session."""
    metadata = {"seq": said["seq"]} if "seq" in said else None
    content = said.get("content")
    return without_nones(
        id=said["id"],
        role=said["role"],
        name=_name(said, said.get("author") or {}),
        content=_content(said["role"], content),
        toolCalls=said.get("tool_calls"),
        toolCallId=said.get("tool_call_id"),
        metadata=metadata,
    )


def _name(said: Said, author: dict[str, Any]) -> str | None:
    """A person's own, whatever they say; a program speaks for others."""
    if author.get("kind") in ("user", "guest"):
        return author["label"] or None
    return said.get("name") or author.get("user_id") or author.get("label") or None


def _content(role: str, content: Any) -> Any:
    """Only users and tools say more than text."""
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    if role in ("user", "tool"):
        return parts
    return "".join(part["text"] for part in parts if part["type"] == "text")


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's part as AG-UI's; what AG-UI has no part for is named."""
    kind = part["type"]
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part[kind]}
    if kind == "image_url" and isinstance(url := part[kind].get("url"), str):
        return {"type": "image", "source": _source(url)}
    if kind == "input_audio" and isinstance(data := part[kind].get("data"), str):
        source = {"type": "data", "value": data, "mimeType": f"audio/{part[kind].get('format') or 'wav'}"}
        return {"type": "audio", "source": source}
    if kind == "file" and isinstance(url := part[kind].get("file_data"), str):
        return {"type": "document", "source": _source(url)}
    return {"type": "text", "text": f"[{kind}]"}


def _source(url: str) -> dict[str, str]:
    head, separator, data = url.partition(";base64,")
    if separator and head.startswith("data:"):
        return {"type": "data", "value": data, "mimeType": head.removeprefix("data:") or "application/octet-stream"}
    return {"type": "url", "value": url}
