from collections.abc import AsyncIterator
from typing import ClassVar, Literal

from pydantic import Field

from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.context import AgentContext
from templates_app.events import Answer, Event, StepFinished, StepStarted


class TranslatorConfig(TemplateConfig):
    """Each field becomes a field of the form in the admin: give it a title, a description and, if it can have one, a
    default. Unknown fields are refused because TemplateConfig forbids them.
    """

    language: str = Field(title="Language", description="The language to translate into.", min_length=2, max_length=60)
    tone: Literal["neutral", "formal", "casual"] = Field("neutral", title="Tone", description="How it should sound.")


class TranslatorTemplate(AgentTemplate):
    # An agent names the slug and pins a version. Ship a change that old configs do not fit as a new major version,
    # beside the old class, and agents move to it when their owners want.
    slug = "translator"
    version = "1.0.0"
    title = "Translator"
    description = "Translates each message on its own; remembers nothing."
    capabilities: ClassVar[frozenset[str]] = frozenset({"steps"})
    Config = TranslatorConfig

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        config: TranslatorConfig = context.config
        text = context.messages[-1]["content"]
        task = f"Translate the user's message into {config.language}, in a {config.tone} tone. Add nothing to it."
        # Steps show in the client and in the run's timeline.
        yield StepStarted("translate")
        # The model's words go to the client while it answers; the reply is for us.
        reply = await context.model.reply(
            [
                {"role": "system", "content": f"{context.instructions}\n\n{task}".strip()},
                {"role": "user", "content": text},
            ],
            **context.params,
        )
        yield StepFinished("translate")
        # Exactly one answer, and it comes last.
        yield Answer(reply.message, reply.finish_reason)
