"""A kind that asks a server of the test's own for its tools."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import Field

from tests.toolsets.tools import Amount, double
from toolsets.base import LearningKind, Tool, ToolCallContext, ToolsetConfig
from toolsets.registry import toolset_kinds

Learn = Callable[[ToolCallContext], Awaitable[Any]]


class Server:
    """Answers with `tools`, or does what `learn` says instead; `asked` are the contexts that it was asked with."""

    def __init__(self) -> None:
        self.tools: Any = ["double"]
        self.learn: Learn | None = None
        self.asked: list[ToolCallContext] = []


class FarConfig(ToolsetConfig):
    host: str = Field("a.example.com", max_length=100)
    here: bool = False  # has its tools at hand
    note: str = ""


class FarKind(LearningKind):
    slug = "far"
    title = "Far"
    Config: ClassVar[type[FarConfig]] = FarConfig
    secrets: ClassVar[dict[str, str]] = {"token": "Token"}
    places: ClassVar[frozenset[str]] = frozenset({"host", "here"})

    def __init__(self, server: Server) -> None:
        self._server = server

    async def learn(self, config: FarConfig, context: ToolCallContext) -> Any:
        self._server.asked.append(context)
        if self._server.learn is not None:
            return await self._server.learn(context)
        return {"tools": self._server.tools}

    def learned_tools(self, config: FarConfig, learned: Any) -> Sequence[Tool]:
        names = ["near"] if config.here else learned["tools"] if learned else []
        return [Tool(name, "Doubles.", Amount, double) for name in names]

    def needs_learning(self, config: FarConfig) -> bool:
        return not config.here


@pytest.fixture
def far() -> Iterator[Server]:
    server = Server()
    toolset_kinds()["far"] = FarKind(server)
    yield server
    toolset_kinds().pop("far", None)
