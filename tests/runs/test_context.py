"""The context of a turn: a session stays usable whatever became of a client's tool calls."""

from typing import Any

import pytest

from runs import runner
from runs.services.turns import with_answered_calls
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, script, user

USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "Yes."}


def asked(*ids: str, content: str | None = None) -> dict[str, Any]:
    calls = [{"id": id, "type": "function", "function": {"name": "n", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def told(id: str, content: str = "x") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER, asked("a"), told("a"), SAID], [USER, asked("a"), told("a"), SAID]),
        ([USER, asked("a"), USER], [USER, USER]),
        ([USER, asked("a", content="Wait."), USER], [USER, {"role": "assistant", "content": "Wait."}, USER]),
        ([USER, asked("a", "b"), told("b"), USER], [USER, asked("b"), told("b"), USER]),
        ([told("a"), USER], [USER]),
        ([asked("a"), USER, SAID, told("a")], [asked("a"), told("a"), USER, SAID]),
        (
            [asked("a"), told("a", "1"), asked("a"), told("a", "2")],
            [asked("a"), told("a", "1"), asked("a"), told("a", "2")],
        ),
        ([told("a"), asked("a")], []),
    ],
)
def test_calls_and_their_answers_stand_together(messages: list[Any], expected: list[Any]) -> None:
    assert with_answered_calls(messages) == expected


@pytest.mark.django_db
async def test_a_session_goes_on_after_a_call_that_nobody_answered(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    first = await chat(owner, script({"tool": "weather", "args": {}}), tools=[tool], metadata={"session_id": "s"})
    assert first.json()["choices"][0]["finish_reason"] == "tool_calls"
    seen: list[Any] = []
    real = runner.start
    monkeypatch.setattr(runner, "start", lambda here, turn, **how: seen.append(turn.context) or real(here, turn, **how))
    second = await chat(owner, user("never mind"), metadata={"session_id": "s"})
    assert second.status_code == 200
    assert [message["role"] for message in seen[0]] == ["user", "user"]
