import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from django.conf import settings

from core.errors import ApplicationError, Unavailable
from core.validation import Found
from sandbox.jobs import Job, JobFailed, Outcome, run_job
from templates_app.base import AgentTemplate, ReadFile
from templates_app.context import AgentContext, Published
from templates_app.events import Answer, Event
from templates_app.kinds.custom import pins
from templates_app.kinds.custom.config import CustomConfig
from templates_app.kinds.custom.host import Host
from templates_app.kinds.custom.publish import folders, publish
from templates_app.requirements import Requirements

MAX_ANSWER = 1_000_000  # characters
_PLACE = re.compile(r'File "main\.py", line (\d+)|main\.[jt]s:(\d+)')


class BadAnswer(ApplicationError):
    """What the entry point returned is no answer."""

    status, type, code = 422, "job_error", "bad_result"


class CustomTemplate(AgentTemplate):
    slug = "custom"
    version = "1.0.0"
    title = "Custom code"
    description = "Runs a function of yours in a sandbox; it may ask the agent's model and use its granted tools."
    capabilities: ClassVar[frozenset[str]] = frozenset({"tools", "history", "structured_output"})
    Config = CustomConfig
    publishes = True

    async def publish(self, config: Any, read: ReadFile) -> Published:
        return await publish(config, read)

    @classmethod
    def server_faults(cls, config: Mapping[str, Any]) -> list[Found]:
        found: list[Found] = []
        if settings.SANDBOX_LEVEL == "off":
            message = "This server runs no code; SANDBOX_LEVEL on the server turns it on."
            found.append(((), "sandbox_unavailable", message))
        allowed = f"allowed are {', '.join(sorted(settings.SANDBOX_PACKAGES)) or 'none'}"
        for index, name in pins.refused(config.get("language"), config.get("dependencies")):
            message = f"The package '{name}' is not allowed; {allowed} (SANDBOX_PACKAGES on the server)."
            found.append((("dependencies", index), "package_not_allowed", message))
        return found

    @classmethod
    def requirements(cls, config: Any) -> Requirements:
        return Requirements(sandbox=2)

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        """The job ends with the run, however that ends."""
        host = Host(context)
        job = asyncio.create_task(_outcome(context, host))
        try:
            async for event in host.told(job):
                yield event
            outcome = job.result()
        finally:
            job.cancel()
            await asyncio.wait({job})
            host.broken.cancel()
            for future in (job, host.broken):
                _ = future.cancelled() or future.exception()  # or asyncio would say that nobody looked
        await host.settle()
        yield Answer(_message(outcome.value, host.said), "stop")


async def _outcome(context: AgentContext, host: Host) -> Outcome:
    code = await context.published()
    if code is None:
        raise Unavailable("The agent's code is not there; save its configuration again.", code="agent_unusable")
    config: CustomConfig = context.config
    job = Job(
        config.language,
        code.source,
        entry_point=config.entryPoint,
        input=_input(context),
        timeout=config.timeout,
        packages=folders(code.packages),
        tenant_id=context.tenant_id,
    )
    try:
        return await run_job(job, host.call)
    except JobFailed as failed:
        if host.failure is not None and host.failure.message in failed.message:
            raise host.failure from None  # which the code did not handle
        raise _told(failed, config.timeout) from None


def _input(context: AgentContext) -> dict[str, Any]:
    return {
        "messages": context.messages,
        "instructions": context.instructions,
        "metadata": context.metadata,
        "params": context.params,
    }


def _told(failed: JobFailed, timeout: int) -> JobFailed:
    """For who talks with the agent: what failed and in which line, without the stack."""
    if failed.code == "timeout":
        message = f"The agent's code did not end within {timeout} seconds: `timeout` in its config, at most 300."
        return JobFailed(message, code=failed.code)
    if failed.code != "error":
        return failed
    lines = failed.message.strip().splitlines()
    first = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    places = [next(filter(None, found)) for found in _PLACE.findall(failed.message)]
    where = f" (line {places[-1]})" if places else ""
    return JobFailed(f"The agent's code failed: {first[:500]}{where}", code=failed.code)


def _message(value: Any, said: str) -> dict[str, Any]:
    """An assistant message. Raises BadAnswer."""
    if value is None and said:
        value = said
    if isinstance(value, str):
        value = {"content": value}
    if not isinstance(value, dict):
        raise BadAnswer('The entry point must return a text, or a message such as {"content": "…"}.')
    if unknown := sorted(map(str, value.keys() - {"role", "content"})):
        raise BadAnswer(f"The message that the entry point returned has a '{unknown[0][:100]}', which none may have.")
    content = value.get("content")
    if value.get("role", "assistant") != "assistant":
        raise BadAnswer("The message that the entry point returns must have the role 'assistant', or none.")
    if not isinstance(content, str):
        raise BadAnswer("The content of the message that the entry point returns must be a text.")
    if len(content) > MAX_ANSWER:
        raise BadAnswer(f"The entry point returned {len(content):,} characters; at most {MAX_ANSWER:,} are taken.")
    return {"role": "assistant", "content": content}
