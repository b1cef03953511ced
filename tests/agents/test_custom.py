"""Agents whose answer is made by code of the tenant's own, run in the real sandbox."""

from typing import Any

import pytest

from agents.models import Agent
from agents.services import agent_create
from tests.agents.running import Played, ready
from tests.conftest import Actor

pytestmark = pytest.mark.django_db

ECHO = {
    "python": "def main(given):\n    return 'Heard: ' + given['messages'][-1]['content']\n",
    "javascript": "export function main(given) { return 'Heard: ' + given.messages.at(-1).content }",
    "typescript": "type Given = { messages: { content: string }[] };\n"
    "export async function main(given: Given): Promise<string> {\n"
    "  return 'Heard: ' + given.messages.at(-1)!.content;\n}",
}


def made(owner: Actor, source: str, language: str = "python", **fields: Any) -> Agent:
    config = {"type": "inline", "content": source, "entryPoint": "main", "language": language, "timeout": 30}
    return agent_create(
        actor=owner.principal,
        slug="custom",
        name="Custom",
        template="custom",
        model="scripted/default",
        config={**config, **fields.pop("config", {})},
        **fields,
    )


@pytest.fixture
def make(in_acme: Any, scripted: Any, owner: Actor) -> Any:
    return lambda *args, **kwargs: made(owner, *args, **kwargs)


@pytest.mark.parametrize("language", ECHO)
def test_code_answers(make: Any, owner: Actor, language: str) -> None:
    agent = make(ECHO[language], language)

    async def run() -> Played:
        return await ready_now.play("Good day")

    ready_now = ready(owner, agent)
    from asgiref.sync import async_to_sync

    played = async_to_sync(run)()
    assert played.answer.message == {"role": "assistant", "content": "Heard: Good day"}
