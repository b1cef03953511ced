"""What the agents of one run share when one asks another: the rows of their tool calls, and who asked whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from toolsets.ledger import Answer, Call, Ledger

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

    def asks_now(self, slug: str, depth: int) -> "AgentRun":
        """The agent that this one asks."""
        self.asks.append(slug)
        return AgentRun(AskedLedger(self.ledger), (*self.chain, slug), depth, self.asks)


class AskedLedger:
    """Of an agent that another one asked. The call that asked it is made once, so its own need no key over attempts.

    With the model's ids as keys, as in the run's own calls, an agent that is asked the same twice would find its first
    calls made already.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def begin(self, call: Call) -> Answer | None:
        return await self._ledger.begin(replace(call, key=str(call.id)))

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        await self._ledger.finish(replace(call, key=str(call.id)), answer, begun=begun)


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
