"""A deterministic model: it answers by rule, and plays the script that a message holds (docs: the public contract).

It stands in for a real model in tests and demos, and obeys what a real one would: stop sequences, token limits, forced
tool calls and response formats. A token is a word.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

import orjson

from llm.catalog.matrix import Capabilities
from llm.exceptions import ProviderError, ProviderRateLimited, StreamTruncated
from llm.providers.base import Adapter, ProviderConnection, ProviderKind
from llm.providers.script import Call, Fail, Finish, Word, plan_answer, text_of
from llm.wire import ChatRequest, Delta, ToolCallDelta, Usage
from usage.list_prices import FREE


class ScriptedAdapter(Adapter):
    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        plan = plan_answer(request)
        words = 0
        for item in plan:
            await asyncio.sleep(item.delay)
            match item:
                case Word():
                    words += 1
                    yield Delta(text=item.text)
                case Call():
                    yield _call(item, request)
                case Fail():
                    await _fail(item)
                case Finish():
                    yield Delta(finish_reason=item.reason, model=request.model, usage=usage_of(request, words))


def _call(item: Call, request: ChatRequest) -> Delta:
    """The id is made from the conversation: the same request gets the same one, and no other does."""
    seed = orjson.dumps([request.messages, item.name], default=str)
    call_id = f"call_{hashlib.blake2b(seed, digest_size=12).hexdigest()}"
    return Delta(tool_calls=[ToolCallDelta(0, call_id, item.name, item.arguments)])


async def _fail(item: Fail) -> None:
    match item.fail:
        case 429:
            raise ProviderRateLimited("The provider's rate limit is reached.", retry_after=item.retry_after)
        case 500:
            raise ProviderError("The provider failed.", retry_after=item.retry_after)
        case "cut":
            raise StreamTruncated("The provider's answer broke off before its end.")
        case "hang":
            await asyncio.Event().wait()


def usage_of(request: ChatRequest, words: int) -> Usage:
    asked = sum(len(text_of(message).split()) for message in request.messages)
    return Usage(asked, words, asked + words)


class ScriptedKind(ProviderKind):
    slug = "scripted"
    title = "Scripted (deterministic, for tests)"
    vendor: ClassVar[str] = FREE
    remote = False
    static_models: ClassVar[Sequence[str] | None] = ("default",)

    def capabilities(self, model: str) -> Capabilities:
        """It takes parts of every type, and reads the text in them."""
        return Capabilities(
            tools=True,
            parallel_tools=False,
            json_schema=True,
            vision=True,
            audio=True,
            documents=True,
            reasoning=False,
        )

    def open(self, connection: ProviderConnection) -> Adapter:
        return ScriptedAdapter()

    async def list_models(self, connection: ProviderConnection) -> list[str]:
        return list(self.static_models or ())
