"""What an agent's code may ask of the host while it runs: the agent's model, its granted tools, and to be heard."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

import orjson

from core.errors import ApplicationError
from sandbox.jobs import HostError
from templates_app.chat import tool_calls, tool_name, with_instructions
from templates_app.context import AgentContext, Message, Speech
from templates_app.current_step import in_step
from templates_app.events import RESERVED, Custom

# What the code may say of a call of the model, beside its messages and tools.
PARAMS = frozenset(
    [
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "response_format",
        "tool_choice",
        "reasoning_effort",
    ]
)
MAX_NAME = 100  # characters, of an event's
STEP = "model"  # to which belongs what the model says that is no part of the answer


class Host:
    """Answers the calls of one run's job, in the run's own context: the pool that hears them serves every tenant.

    `events` are what the code tells. `failure` is what the platform said last, when it refused or failed a call.
    """

    def __init__(self, context: AgentContext) -> None:
        self._run = context
        self._within: Context = copy_context()
        self._methods = {
            "model": self._model,
            "tools": self._tools,
            "tool": self._tool,
            "say": self._say,
            "event": self._event,
        }
        self._names = {tool_name(tool) for tool in context.tools.definitions}
        self._asked: dict[str, Message] = {}  # calls that the model asked for and nobody made, by id
        self._own_calls = 0
        self._speech: Speech | None = None
        self.said = ""
        self.events: asyncio.Queue[Custom] = asyncio.Queue()
        self.failure: ApplicationError | None = None
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Raises HostError."""
        work = asyncio.get_running_loop().create_task(self._answered(method, params), context=self._within.copy())
        return await work

    async def _answered(self, method: str, params: dict[str, Any]) -> Any:
        made = self._methods.get(method)
        if made is None:
            raise HostError(f"There is no '{method}' to call; there are {', '.join(self._methods)}.")
        try:
            return await made(params)
        except HostError:
            raise
        except ApplicationError as error:
            self.failure = error
            raise HostError(error.message) from None
        except Exception as error:  # the run's own end, such as a lost lease: the job is of no use any more
            if not self.broken.done():
                self.broken.set_exception(error)
            raise HostError("The run has ended.") from None

    async def _model(self, params: dict[str, Any]) -> dict[str, Any]:
        """The answer of the model. Followers of the run are told its tokens; `answer`: as those of the run's answer."""
        given = dict(params)
        answers = given.pop("answer", False)
        if not isinstance(answers, bool):
            raise HostError("'answer' is true or false.")
        messages = _messages(given.pop("messages", None)) or self._conversation()
        tools = self._offered(given.pop("tools", None))
        if unknown := sorted(given.keys() - PARAMS):
            known = ", ".join(["messages", "tools", "answer", *sorted(PARAMS)])
            raise HostError(f"'model' takes no {unknown[0]}; it takes {known}.")
        await self.be_silent()
        with in_step("" if answers else STEP):
            reply = await self._run.model.reply(messages, tools=tools or None, **given)
        self._asked.update((call["id"], call) for call in tool_calls(reply))
        return {"message": reply.message, "finish_reason": reply.finish_reason, "usage": reply.usage}

    def _conversation(self) -> list[Message]:
        return with_instructions(self._run.instructions, self._run.messages)

    def _offered(self, wanted: Any) -> list[Message]:
        """`wanted` is true for all granted tools, or a list of names."""
        definitions = self._run.tools.definitions
        if wanted is None or wanted is False:
            return []
        if wanted is True:
            return definitions
        if not (isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)):
            raise HostError("'tools' is true for all tools, or a list of names.")
        for name in wanted:
            self._check_granted(name)
        return [tool for tool in definitions if tool_name(tool) in wanted]

    def _check_granted(self, name: Any) -> None:
        if not isinstance(name, str) or name not in self._names:
            granted = ", ".join(sorted(self._names)) or "none"
            raise HostError(f"The agent was granted no tool '{str(name)[:100]}'. Granted: {granted}.")

    async def _tools(self, params: dict[str, Any]) -> list[Message]:
        return self._run.tools.definitions

    async def _tool(self, params: dict[str, Any]) -> str:
        """The text that answers the call; a fault of the tool is told in it, as the model would see it.

        `id` is that of a call that the model asked for. Without one the call is the code's own.
        """
        name, id = params.get("name"), params.get("id")
        if not isinstance(name, str):
            raise HostError("'tool' takes the name of a granted tool, and its arguments.")
        self._check_granted(name)
        call = self._asked.get(id) if isinstance(id, str) else None
        if call is not None and tool_name(call) == name:
            del self._asked[call["id"]]
            arguments = params.get("arguments", call["function"]["arguments"])
            call = {**call, "function": {**call["function"], "arguments": _text(arguments)}}
        elif id is not None:
            raise HostError(f"The model asked for no call '{str(id)[:100]}' of '{name}', or it was answered already.")
        else:
            call = await self._own_call(str(name), params.get("arguments", {}))
        answer = await self._run.tools.call(call)
        return str(answer["content"])

    async def _own_call(self, name: str, arguments: Any) -> Message:
        """Told as the model's calls are, under an id that is the same in another attempt of the run."""
        self._own_calls += 1
        call = {
            "id": f"call_{self._run.run_id.hex if self._run.run_id else 'code'}_{self._own_calls}",
            "type": "function",
            "function": {"name": name, "arguments": _text(arguments)},
        }
        await self.be_silent()
        await self._run.model.tell_calls([call])
        return call

    async def _say(self, params: dict[str, Any]) -> None:
        """Text of the answer, piece by piece."""
        text = params.get("text")
        if not isinstance(text, str):
            raise HostError("'say' takes a text.")
        if not text:
            return
        if self._speech is None:
            self._speech, self.said = self._run.model.speak(), ""
        self.said += text
        await self._speech.say(text)

    async def be_silent(self) -> None:
        """End the message that is being said."""
        speech, self._speech = self._speech, None
        if speech is not None:
            await speech.end()

    async def _event(self, params: dict[str, Any]) -> None:
        name = params.get("name")
        if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME):
            raise HostError(f"'event' takes a name of 1 to {MAX_NAME} characters, and a value.")
        if name in RESERVED:
            raise HostError(f"'{name}' is an event of the platform's own. These are: {', '.join(sorted(RESERVED))}.")
        self.events.put_nowait(Custom(name, params.get("value")))

    async def told(self, job: asyncio.Task[Any]) -> AsyncIterator[Custom]:
        """The code's events until its job has ended. Raises what broke the run."""
        while not job.done() or not self.events.empty():
            event = asyncio.ensure_future(self.events.get())
            try:
                await asyncio.wait({event, job, self.broken}, return_when=asyncio.FIRST_COMPLETED)
                if self.broken.done():
                    self.broken.result()
                if event.done():
                    yield event.result()
            finally:
                event.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({event})
        if self.broken.done():
            self.broken.result()

    async def settle(self) -> None:
        """Whatever the code left open is ended: the message that it said, and calls that it did not make."""
        await self.be_silent()
        for call in self._asked.values():
            await self._run.tools.answer(call, "The agent's code did not make this call.", is_error=True)
        self._asked.clear()


def _messages(given: Any) -> list[Message]:
    if given is None:
        return []
    if not (isinstance(given, list) and given and all(isinstance(each, Mapping) and "role" in each for each in given)):
        raise HostError("'messages' is a list of messages, each with a role and content.")
    return given


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
