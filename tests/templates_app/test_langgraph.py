from typing import Any

import pytest

from templates_app import checkpoints
from templates_app.events import Checkpointed
from tests.templates_app.checkpointed import Chain, last_checkpoint, play, run_of


class Hoarder(Chain):
    """Its author compiled a checkpointer in."""

    slug, title = "hoarder", "Hoarder"

    def graph(self, config: Any, model: Any, tools: Any) -> Any:
        from langgraph.checkpoint.memory import InMemorySaver

        self.saver = InMemorySaver()
        return super().graph(config, model, tools).compile(checkpointer=self.saver)


@pytest.mark.parametrize("kind", [Chain, Hoarder])
async def test_a_run_without_a_thread_keeps_nothing_and_asks_no_database(kind: Any) -> None:
    template = kind()
    told = await play(template, run_of(template, None))
    assert told[-1].message["content"] == "Hello one two three"  # type: ignore[union-attr]
    assert not any(isinstance(event, Checkpointed) for event in told)
    assert checkpoints._pools == {}
    assert kind is Chain or not template.saver.storage


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
async def test_an_authors_checkpointer_is_neither_used_nor_replaced(in_acme: Any) -> None:
    template, compiled = Hoarder(), {}  # type: ignore[var-annotated]
    thread = checkpoints.thread_of(in_acme.id, in_acme.id)
    told = await play(template, run_of(template, thread, compiled=compiled))
    assert told[-2] == Checkpointed(await last_checkpoint(thread) or "")
    assert (await compiled["graph"]).checkpointer.storage == {}
