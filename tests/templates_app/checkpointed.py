"""Graphs that lose their run on demand, and what a test asks of the checkpoint tables."""

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from django.db import connection
from pydantic import BaseModel

from core.aio import in_db_thread
from templates_app.checkpoints import stored_checkpoints
from templates_app.context import AgentContext
from templates_app.events import Event
from templates_app.langgraph import LangGraphTemplate
from tests.templates_app.fakes import PlayedModel, context

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


class Note(BaseModel):
    text: str


class Chain(LangGraphTemplate):
    """Nodes one after the other; "two" never ends while `stuck` is set. `ran` has the names of those that began."""

    slug, version, title = "chain", "1.0.0", "Chain"
    edges = (("__start__", "one"), ("one", "two"), ("two", "three"), ("three", "__end__"))

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.stuck = False
        self.reached = asyncio.Event()

    def graph(self, config: Any, model: Any, tools: Any) -> Any:
        from langgraph.graph import MessagesState, StateGraph

        class State(MessagesState):
            note: Note

        graph = StateGraph(State)
        for name in sorted({name for edge in self.edges for name in edge} - {"__start__", "__end__"}):
            graph.add_node(name, self.node(name))
        for before, after in self.edges:
            graph.add_edge(before, after)
        return graph

    def node(self, name: str) -> Any:
        async def run(state: Any) -> Any:
            from langchain_core.messages import AIMessage

            self.ran.append(name)
            if name == "two" and self.stuck:
                self.reached.set()
                await asyncio.Event().wait()
            said = {"messages": [AIMessage(f"{state['messages'][-1].text} {name}")]}
            return {**said, "note": Note(text=name)} if name == "one" else said

        return run


class Siblings(Chain):
    """ "one" and "two" run at once."""

    slug, title = "siblings", "Siblings"
    edges = (("__start__", "one"), ("__start__", "two"), ("one", "three"), ("two", "three"), ("three", "__end__"))


def run_of(template: LangGraphTemplate, thread: str | None, **fields: Any) -> AgentContext:
    return context(template, PlayedModel(), thread=thread, **fields)


async def play(template: LangGraphTemplate, run: AgentContext, told: list[Event] | None = None) -> list[Event]:
    told = [] if told is None else told
    async with aclosing(template.run(run)) as events:
        async for event in events:
            told.append(event)
    return told


async def lose(template: Chain, run: AgentContext) -> list[Event]:
    """What a run told until it was lost in its second node."""
    template.stuck = True
    told: list[Event] = []
    task = asyncio.create_task(play(template, run, told))
    await asyncio.wait_for(template.reached.wait(), 30)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    template.stuck = False
    return told


def _rows() -> list[int]:
    counts = []
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT count(*) FROM {table}")
            counts.append(cursor.fetchone()[0])
    return counts


async def rows() -> list[int]:
    """How many rows the current tenant sees in each table."""
    return await in_db_thread(_rows)


async def last_checkpoint(thread: str) -> str | None:
    return next(reversed(await stored_checkpoints(thread)), None)
