import re
from collections.abc import AsyncGenerator

from llm.exceptions import ProviderRejected
from llm.providers.base import Adapter
from llm.wire import ChatRequest, Delta, Usage


class EchoAdapter(Adapter):
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        # Messages and parameters come in OpenAI's shape, and the deltas go back in it, whatever the provider speaks.
        said = request.messages[-1]["content"]
        if not isinstance(said, str):
            # Raise llm.exceptions and nothing else; each says whether the same call may succeed when repeated. Never
            # put a provider's own words into one: they may hold keys.
            raise ProviderRejected("The echo only repeats text.", param="messages")
        answer = self._prefix + (said.upper() if request.model == "loud" else said)
        words = re.findall(r"\s*\S+", answer)
        # One delta a piece. When the caller has gone, the generator is closed at the `yield`: hold connections in
        # `async with`, so that the provider stops generating. Retries and deadlines are Agentsite's, not yours.
        for word in words:
            yield Delta(text=word)
        # An answer ends with exactly one finish reason, and with the tokens that the provider counted. An answer that
        # breaks off before its end raises StreamTruncated instead.
        yield Delta(finish_reason="stop", usage=Usage(len(said.split()), len(words), len(said.split()) + len(words)))
