"""A step's talk with the model: it may use tools, a bounded number of times."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import ApplicationError
from core.words import counted
from templates_app.chat import tool_name
from templates_app.context import AgentContext, Message
from templates_app.stepwise.journal import Entry, Journal, Round

_UNKNOWN = "The step was stopped before this call had ended: it is not known whether it was done. It is not made again."


@dataclass
class Talk:
    """`asked` are the messages that it begins with, `tools` the definitions of those that the step may use."""

    name: str
    context: AgentContext
    journal: Journal
    asked: list[Message]
    tools: Sequence[Message]
    most_rounds: int
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def _entry(self) -> Entry:
        return self.journal.entry(self.name)

    async def answer(self) -> Round:
        """The model's last answer, without calls. Raises ApplicationError."""
        rounds = self._entry.rounds
        while not rounds or rounds[-1].calls:
            if rounds:
                await self._make(rounds[-1])
            rounds.append(await self._ask(len(rounds)))
            self._refuse_more(rounds)
            if rounds[-1].calls:
                await self.journal.keep(self.name)
        if rounds[-1].answer.get("refusal") and not rounds[-1].answer.get("content"):
            raise ApplicationError("The model refused to answer.", code="model_refused")
        return rounds[-1]

    async def retell(self) -> None:
        """What an earlier attempt of the run has done of the step is told once more."""
        for one in self._entry.rounds:
            await self.context.model.retell(one.answer, one.finish_reason)
            for place, call in enumerate(one.calls):
                if (content := one.results.get(str(place))) is not None:
                    await self.context.tools.answer(call, content)

    async def again(self) -> None:
        """After a failure: the last answer is asked for again, and no call is made again."""
        rounds = self._entry.rounds
        if rounds and not rounds[-1].calls:
            rounds.pop()
        for one in rounds[-1:]:
            for place, call in one.open_calls:
                one.results[place] = _UNKNOWN
                await self.context.tools.answer(call, _UNKNOWN, is_error=True)
        await self.journal.keep(self.name)

    def _refuse_more(self, rounds: list[Round]) -> None:
        """The model insists on tools although it has used them as often as it may."""
        if rounds[-1].calls and len(rounds) > self.most_rounds:
            del rounds[-1].answer["tool_calls"]
            message = (
                f"The step '{self.name}' wanted tools more than {counted(self.most_rounds, 'time')}; "
                "max_tool_rounds raises this limit."
            )
            raise ApplicationError(message, code="too_many_tool_rounds")

    async def _ask(self, used: int) -> Round:
        messages = [*self.asked, *(message for one in self._entry.rounds for message in one.messages)]
        params = {**self.params, "tool_choice": "none"} if self.tools and used == self.most_rounds else self.params
        reply = await self.context.model.reply(messages, tools=list(self.tools) or None, **params)
        return Round(reply.message, reply.finish_reason)

    async def _make(self, one: Round) -> None:
        if open_calls := one.open_calls:
            await asyncio.gather(*(self._call(one, place, call) for place, call in open_calls))
            await self.journal.keep(self.name)

    async def _call(self, one: Round, place: str, call: dict[str, Any]) -> None:
        tools, known = self.context.tools, {tool_name(tool) for tool in self.tools}
        if tool_name(call) in known:
            message = await tools.call(call)
        else:
            text = f"This step has no tool '{tool_name(call)}'. Available: {', '.join(sorted(known)) or 'none'}."
            message = await tools.answer(call, text, is_error=True)
        one.results[place] = message["content"]
