"""A lost run of a graph with a model and tools goes on where it was."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from core.ids import uuid7
from templates_app.checkpoints import forget, thread_of
from templates_app.events import Checkpointed, StepStarted
from tests.agents.graphs import CREATE_AGENT
from tests.agents.running import Played, ready, script
from tests.agents.test_executable import CLOCK_CALL, made
from tests.conftest import Actor
from tests.templates_app.checkpointed import last_checkpoint
from tests.templates_app.conftest import AddTemplate

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


async def test_the_models_words_and_the_tools_results_survive(
    owner: Actor, scripted: Any, clock: Any, add_template: AddTemplate
) -> None:
    add_template("worker", CREATE_AGENT)
    agent = await sync_to_async(made)(owner, "worker", toolsets=["clock"])
    prepared = await sync_to_async(ready)(owner, agent)
    run: dict[str, Any] = {"run_id": uuid7(), "checkpointed": True}
    said = script(CLOCK_CALL, {"say": "It is nine.", "delay_ms": 300})
    thread, first = thread_of(owner.tenant.id, run["run_id"]), Played()

    task = asyncio.create_task(prepared.play(said, played=first, **run))
    while not (first.results and first.events[-1] == StepStarted("model")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    told = [event for event in first.events if isinstance(event, Checkpointed)]
    assert told[-1].id == await last_checkpoint(thread)

    second = await prepared.play(said, resume=await last_checkpoint(thread), **run)
    assert [event.name for event in second.events if isinstance(event, StepStarted)] == ["model"]
    assert (second.results, second.answer.message["content"]) == ([], "It is nine.")
    assert json.loads(first.results[0].content)["time"] == "2026-01-01T09:00:00+09:00"
    await forget(thread)
    assert await last_checkpoint(thread) is None


async def test_a_native_template_keeps_no_checkpoints(owner: Actor, scripted: Any, clock: Any) -> None:
    prepared = await sync_to_async(ready)(owner, await sync_to_async(made)(owner, "conversation"))
    run_id = uuid7()
    played = await prepared.play("Hi", run_id=run_id, checkpointed=True)
    assert played.answer.message["content"] == "You said: Hi"
    assert await last_checkpoint(thread_of(owner.tenant.id, run_id)) is None
