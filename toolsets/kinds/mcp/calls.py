"""One request to a server, from what a run may say of itself to what the model is told."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from core.net import AddressRefused
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.http.calls import MAY_HAVE_WORKED, RAISES, UNSENT
from toolsets.kinds.http.credentials import Auth, Credentials, credentials_of, hidden
from toolsets.kinds.mcp.conversation import Conversation, Place
from toolsets.kinds.mcp.faults import BadAnswer, Lost, NoSession, ServerError, ServerRefused
from toolsets.kinds.mcp.kept import Key, conversation

NO_PERSON = (
    "This tool is called with the credentials of the person that the run is for, and this run is for nobody: "
    "a member must ask, or the API key must name its end user as metadata.user_id."
)
NO_CREDENTIALS = (
    "This tool needs credentials of the person that the run is for, and none are stored that work here: "
    "the person stores them with PUT /v1/toolsets/{toolset}/credentials."
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Asks one server. `timeout` is in seconds, `most` the bytes of an answer. `personal`: each person has a secret."""

    url: str
    auth: Auth
    auth_name: str
    personal: bool
    timeout: float
    most: int

    async def ask(
        self, method: str, params: Mapping[str, Any], context: ToolCallContext, *, again: bool = False
    ) -> dict[str, Any]:
        """The result, without the secret where the server repeats it. Raises ToolError.

        `again`: a request whose answer was lost may be made once more.
        """
        credentials = self.credentials(context)
        until = asyncio.get_running_loop().time() + self.timeout
        async with self.talking(context, credentials) as talk:
            async with self.asking(credentials, until):
                await talk.opened()
            async with self.asking(credentials, until, again=again):
                found = await _asked(talk, method, params, again)
        shown: dict[str, Any] = hidden(found, credentials.forms)
        return shown

    @asynccontextmanager
    async def asking(self, credentials: Credentials, until: float, *, again: bool = True) -> AsyncIterator[None]:
        """What goes wrong within is a ToolError, without the secret. `until` is a time of the running loop.

        Without `again` the error says that something may have been done.
        """
        try:
            async with asyncio.timeout_at(until):
                yield
        except TimeoutError:
            raise ToolError(_lost(f"The server did not answer within {self.timeout:g} s.", "timeout", again)) from None
        except Exception as error:
            raise ToolError(hidden(_why(error, again), credentials.forms)) from None

    def credentials(self, context: ToolCallContext) -> Credentials:
        """Raises ToolError, which tells a person what to do."""
        secret = context.secrets.get("token", "")
        if self.personal and not secret:
            raise ToolError(NO_CREDENTIALS.format(toolset=context.toolset) if context.person else NO_PERSON)
        return credentials_of(self.auth, self.auth_name, secret)

    def talking(self, context: ToolCallContext, credentials: Credentials) -> AbstractAsyncContextManager[Conversation]:
        place = Place(self.url, tuple(sorted(credentials.headers.items())), self.most, self.timeout)
        scope = context.session_id or context.run_id
        person = context.person if self.personal else ""
        key = Key(context.tenant_id, context.toolset, scope, person, place) if scope else None
        return conversation(place, key)


async def _asked(talk: Conversation, method: str, params: Mapping[str, Any], again: bool) -> dict[str, Any]:
    from core.fetch import Unreachable

    try:
        return await talk.ask(method, params)
    except (Lost, Unreachable):
        if not again:
            raise
        return await talk.ask(method, params)


def _why(error: Exception, again: bool) -> str:
    """Raises what is no expected failure."""
    from core.fetch import FetchFailed

    match error:
        case AddressRefused() | FetchFailed():
            return _lost(error.message, error.code, again)
        case Lost() | BadAnswer():
            return _lost(str(error), "lost", again)
        case ServerRefused() | ServerError() | NoSession():
            return str(error)
    raise error


def _lost(message: str, code: str, again: bool) -> str:
    unclear = "" if again or code in UNSENT or code == AddressRefused.code else MAY_HAVE_WORKED
    return " ".join(filter(None, [message, RAISES.get(code), unclear]))
