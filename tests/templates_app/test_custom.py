"""What the host of custom code promises, whatever runs the code."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from runs import events
from sandbox.jobs import HostError
from templates_app.context import Message, Published
from templates_app.events import RESERVED
from templates_app.kinds.custom.host import Host
from templates_app.kinds.custom.source import inline_faults
from templates_app.kinds.custom.template import CustomTemplate
from templates_app.validation import check_config
from tests.templates_app.fakes import PlayedModel, PlayedToolbox, ask, context, play

RUN: ContextVar[str] = ContextVar("run")
CONFIG = {"type": "inline", "content": "def main(given): ...", "entryPoint": "main", "language": "python"}


class Told(PlayedModel):
    async def tell_calls(self, calls: list[dict[str, Any]]) -> None:
        self.requests.append({"calls": calls})


class Lost(PlayedToolbox):
    async def call(self, tool_call: dict[str, Any]) -> Message:
        raise RuntimeError("The lease is lost.")


def given(**fields: Any) -> Any:
    async def published() -> Published:
        return Published("python", "from agentsite import call\ndef main(given): call('tool', name='look')")

    model = fields.pop("model", Told())
    return context(CustomTemplate(), model, config=CONFIG, published=published, **fields)


async def test_calls_are_made_in_the_runs_context_whoever_hears_them() -> None:
    seen: list[str] = []

    class Seeing(PlayedToolbox):
        async def call(self, tool_call: dict[str, Any]) -> Message:
            seen.append(RUN.get())
            return await super().call(tool_call)

    async def run(name: str) -> Host:
        RUN.set(name)
        return Host(given(tools=Seeing("look")))

    first, second = await asyncio.gather(run("one"), run("two"))
    RUN.set("the pool's")
    await asyncio.gather(first.call("tool", {"name": "look"}), second.call("tool", {"name": "look"}))
    assert seen == ["one", "two"]


async def test_own_calls_have_the_same_ids_in_each_attempt() -> None:
    ids = []
    for _ in range(2):
        tools = PlayedToolbox("look")
        host = Host(given(tools=tools))
        await host.call("tool", {"name": "look", "arguments": {"a": 1}})
        await host.call("tool", {"name": "look", "arguments": {"a": 1}})
        ids.append(tools.calls)
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


async def test_a_call_of_the_model_is_made_once() -> None:
    host = Host(given(model=Told(ask("look")), tools=PlayedToolbox("look", "put")))
    reply = await host.call("model", {"tools": True})
    (call,) = reply["message"]["tool_calls"]
    with pytest.raises(HostError, match="asked for no call"):
        await host.call("tool", {"name": "put", "id": call["id"]})
    assert await host.call("tool", {"name": "look", "id": call["id"]}) == "done"
    with pytest.raises(HostError, match="answered already"):
        await host.call("tool", {"name": "look", "id": call["id"]})


async def test_a_run_that_is_lost_ends_its_job() -> None:
    with pytest.raises(RuntimeError, match="The lease is lost"):
        await play(CustomTemplate(), given(tools=Lost("look")))


async def test_the_platforms_own_events_are_refused_as_runs_would() -> None:
    assert RESERVED == events.RESERVED
    host = Host(given())
    with pytest.raises(HostError, match="'checkpoint' is an event of the platform's own"):
        await host.call("event", {"name": "checkpoint", "value": 1})
    await host.call("event", {"name": "checked", "value": 1})
    assert host.events.qsize() == 1


async def test_a_call_of_no_tool_says_what_it_takes() -> None:
    with pytest.raises(HostError, match="'tool' takes the name of a granted tool"):
        await Host(given()).call("tool", {"arguments": {}})


def test_code_needs_a_sandbox(settings: Any) -> None:
    settings.SANDBOX_PACKAGES = ["six", "lodash"]
    found = check_config(CustomTemplate(), {**CONFIG, "dependencies": ["requests==2.0"]})
    assert "allowed are lodash, six (SANDBOX_PACKAGES on the server)" in found.errors[0]["message"]
    report = check_config(CustomTemplate(), CONFIG)
    assert report.requirements is not None
    assert report.requirements.sandbox == 2


@pytest.mark.parametrize("code", ["export default function main(given) {}", "export function other() {}"])
def test_a_script_is_told_how_its_entry_point_is_found(code: str) -> None:
    (_, message), *_ = [*inline_faults(code, "javascript", "start")]
    assert "`export function start`, not `export default`" in message
    assert "export" not in [*inline_faults("x = 1", "python", "start")][0][1]
