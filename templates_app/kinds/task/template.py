import asyncio
import random
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from core.deadline import deadline
from core.errors import ApplicationError
from core.json_schemas import Schema, SchemaFault
from templates_app.chat import with_instructions
from templates_app.context import Message
from templates_app.events import StepFailed
from templates_app.kinds.task.answer import answer_of, as_text
from templates_app.kinds.task.config import TaskConfig, TaskStep
from templates_app.stepwise.journal import Result
from templates_app.stepwise.talk import Talk
from templates_app.stepwise.template import Progress, StepwiseTemplate, history, talk_of, user_message
from templates_app.stepwise.texts import Values

PAUSE = 1.0  # seconds before the second attempt; each further one waits twice as long, to a random part of it
LONGEST_PAUSE = 15.0


class TaskFailed(ApplicationError):
    """A step failed for good, in strict mode."""

    status, type, code = 502, "provider_error", "step_failed"


class _Fault(NamedTuple):
    code: str
    message: str
    passes: bool = True  # may another attempt do better?


class TaskTemplate(StepwiseTemplate):
    slug = "task"
    version = "1.0.0"
    title = "Task"
    description = (
        "Works through steps that depend on each other, in parallel where they do not, tries failed ones again, and "
        "tells the result of each."
    )
    Config = TaskConfig
    event: ClassVar[str] = "task_progress"

    def steps(self, config: TaskConfig) -> Sequence[TaskStep]:
        return config.ordered

    def at_once(self, config: TaskConfig) -> bool:
        return config.parallelExecution

    def conclude(self, config: TaskConfig, values: Values) -> tuple[str, str]:
        return answer_of(config, values.results), "stop"

    async def perform(self, step: TaskStep, run: Progress) -> Result:
        """Raises TaskFailed, in strict mode."""
        missing = [name for name in step.depends_on if run.results[name]["status"] != "ok"]
        if missing:
            error = {"code": "dependency_failed", "message": f"It needs the result of {', '.join(missing)}."}
            return {"status": "skipped", "output": None, "attempts": 0, "error": error}
        config: TaskConfig = run.context.config
        schema = await asyncio.to_thread(Schema, step.output_schema) if step.output_schema is not None else None
        talk = await _talk(step, run, schema)
        entry = run.journal.entry(step.name)
        while True:
            found = await _attempt(talk, schema, config.stepTimeout)
            if not isinstance(found, _Fault):
                return {"status": "ok", "output": found, "attempts": entry.attempt, "error": None}
            again = found.passes and entry.attempt <= config.retryCount
            await run.tell(StepFailed(step.name, entry.attempt, found.code, found.message, again))
            if not again:
                break
            await _pause(entry.attempt)
            entry.attempt += 1
            await talk.again()
        error = {"code": found.code, "message": found.message}
        if config.strictMode:
            message = f"The step '{step.name}' failed: {found.message}"
            raise TaskFailed(message, details=[{"path": f"steps.{step.name}", **error}])
        return {"status": "failed", "output": None, "attempts": entry.attempt, "error": error}


async def _pause(attempt: int) -> None:
    longest = min(PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
    await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311


async def _attempt(talk: Talk, schema: Schema | None, seconds: float) -> Any:
    """The step's output, or a _Fault. While a call of it waits for a person, its time stands still."""
    try:
        async with deadline(seconds) as limit:
            said = await talk.answer()
    except ApplicationError as error:
        passes = getattr(error, "retryable", error.status >= 500 or error.status in (408, 429))
        return _Fault(error.code, error.message, passes and error.code != "budget_exceeded")
    except TimeoutError:
        if not limit.expired:
            raise
        return _Fault("step_timeout", f"The step took longer than {seconds:g} s; stepTimeout raises this limit.")
    text = said.answer.get("content") or ""
    if schema is None:
        return text
    try:
        found, wrong = await asyncio.to_thread(schema.read, text)
    except SchemaFault as fault:
        return _Fault("invalid_schema", str(fault), passes=False)
    return found if found is not None else _Fault("invalid_output", f"The result does not satisfy its schema. {wrong}")


async def _talk(step: TaskStep, run: Progress, schema: Schema | None) -> Talk:
    """The model is shown the task with the results that the step needs, and the instruction as a message of its own."""
    context = run.context
    pieces = [f"The task:\n\n{run.values.input}"]
    pieces += [
        f"The result of the step '{name}':\n\n{as_text(run.results[name]['output'])}" for name in step.depends_on
    ]
    task = user_message("\n\n".join(pieces), context, with_media=True)
    asked: list[Message] = [*history(context, context.config.history_turns), task]
    instructions, params = context.instructions, {}
    if schema is not None:
        wanted = f"Answer with one JSON object alone, which satisfies this JSON Schema:\n{schema.text}"
        instructions = "\n\n".join(filter(None, [instructions, wanted]))
        if await context.model.takes_schemas():
            params["response_format"] = _response_format(step)
    asked.append({"role": "user", "content": step.instruction})
    return talk_of(step, run, with_instructions(instructions, asked), **params)


def _response_format(step: TaskStep) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "result", "schema": step.output_schema}}
