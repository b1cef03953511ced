"""What the agents of one run share when one asks another: the rows of their tool calls, and who asked whom."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from uuid import UUID

from core.deadline import Deadline, current_deadlines, stopped
from toolsets.ledger import Answer, Call, Ledger, Reason

MAX_DEPTH = 5  # agents below the run's own


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One agent of a run. `chain` are the slugs of those that asked, the run's own first and this one last.

    `depth` is how many may be below the run's own, and `asks` whom any agent of the run has asked so far.
    """

    ledger: Ledger
    chain: tuple[str, ...]
    depth: int = MAX_DEPTH
    asks: list[str] = field(default_factory=list)

    def asks_now(self, slug: str, depth: int, call: UUID | None) -> "AgentRun":
        """The agent that this one asks, by its own call of a tool."""
        self.asks.append(slug)
        asked = AskedLedger(self.ledger, slug, call, current_deadlines())
        return AgentRun(asked, (*self.chain, slug), depth, self.asks)


class AskedLedger:
    """Of an agent that another one asked. The call that asked it is made once, so its own need no key over attempts.

    With the model's ids as keys, as in the run's own calls, an agent that is asked the same twice would find its first
    calls made already. While a person decides about one of its calls, the call that asked it has time: `deadlines`.
    """

    def __init__(self, ledger: Ledger, agent: str, call: UUID | None, deadlines: Sequence[Deadline]) -> None:
        self._ledger = ledger
        self._agent = agent
        self._above = call
        self._deadlines = deadlines

    @property
    def untrusted(self) -> bool:
        return self._ledger.untrusted

    @untrusted.setter
    def untrusted(self, value: bool) -> None:
        self._ledger.untrusted = value

    async def approve(self, call: Call, reason: Reason) -> str | None:
        with stopped(self._deadlines):
            return await self._ledger.approve(self._own(call), reason)

    async def begin(self, call: Call, *, once: bool) -> Answer | None:
        return await self._ledger.begin(self._own(call), once=once)

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        await self._ledger.finish(self._own(call), answer, begun=begun)

    def give_up(self, call: Call) -> None:
        self._ledger.give_up(self._own(call))

    def _own(self, call: Call) -> Call:
        above = (self._above, *call.above) if self._above else call.above
        return replace(call, key=str(call.id), agent=call.agent or self._agent, above=above)


_run: ContextVar[AgentRun | None] = ContextVar("agent_run", default=None)


def current_agent_run() -> AgentRun | None:
    """None outside of a run."""
    return _run.get()


@contextmanager
def agent_run(run: AgentRun) -> Iterator[None]:
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)
