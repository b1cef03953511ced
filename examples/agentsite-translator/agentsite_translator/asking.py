from collections.abc import AsyncIterator, Sequence

from templates_app.context import AgentContext
from templates_app.events import Answer, Event, StepFinished, StepStarted


async def translated(context: AgentContext, languages: Sequence[str], tone: str) -> AsyncIterator[Event]:
    """What all versions share. Import modules of your own at the top, so that a run keeps the code it began with."""
    into = " and into ".join(languages)
    task = f"Translate the user's message into {into}, in a {tone} tone. Add nothing to it."
    # Steps show in the client and in the run's timeline.
    yield StepStarted("translate")
    # The model's words go to the client while it answers; the reply is for us.
    reply = await context.model.reply(
        [
            {"role": "system", "content": f"{context.instructions}\n\n{task}".strip()},
            {"role": "user", "content": context.messages[-1]["content"]},
        ],
        **context.params,
    )
    yield StepFinished("translate")
    # Exactly one answer, and it comes last.
    yield Answer(reply.message, reply.finish_reason)
