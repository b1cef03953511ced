"""A kind with everything: a secret, a place, and tools of each risk that note what they do."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
from pydantic import Field

from toolsets.base import Risk, Tool, ToolArguments, ToolCallContext, ToolsetConfig, ToolsetKind
from toolsets.registry import toolset_kinds

DONE: list[str] = []  # what the writing tools have done
WITH: list[str] = []  # the secrets that they had


class VaultConfig(ToolsetConfig):
    host: str = Field("vault.example.com", max_length=100)


class Name(ToolArguments):
    name: str


async def look(arguments: Name, context: ToolCallContext) -> str:
    return f"{arguments.name} is there"


async def put(arguments: Name, context: ToolCallContext) -> str:
    DONE.append(arguments.name)
    WITH.append(context.secrets.get("token", "none"))
    return f"put {arguments.name}"


async def one_by_one(arguments: Name, context: ToolCallContext) -> str:
    DONE.append(f"{arguments.name} begins")
    await asyncio.sleep(0.02)
    DONE.append(f"{arguments.name} ends")
    return "done"


async def stuck(arguments: Name, context: ToolCallContext) -> str:
    DONE.append(arguments.name)
    await asyncio.sleep(60)
    return "late"


class VaultKind(ToolsetKind):
    slug = "vault"
    title = "Vault"
    Config: ClassVar[type[VaultConfig]] = VaultConfig
    secrets: ClassVar[dict[str, str]] = {"token": "Token", "pin": "PIN"}
    places: ClassVar[frozenset[str]] = frozenset({"host"})

    def tools(self, config: VaultConfig) -> Sequence[Tool]:
        return [
            Tool("look", "Looks.", Name, look),
            Tool("put", "Puts.", Name, put, risk=Risk.WRITE),
            Tool("ask", "Sends.", Name, put, risk=Risk.EGRESS, approval=True),
            Tool("one_by_one", "Puts slowly.", Name, one_by_one, risk=Risk.WRITE, parallel=False),
            Tool("stuck", "Never ends.", Name, stuck, risk=Risk.WRITE),
        ]


@pytest.fixture
def vault() -> Iterator[None]:
    """The kind is installed, and nothing is done."""
    toolset_kinds()["vault"] = VaultKind()
    DONE.clear()
    WITH.clear()
    yield
    del toolset_kinds()["vault"]
