import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from toolsets.base import Risk, Tool, ToolArguments, ToolCallContext, ToolsetConfig, ToolsetKind
from toolsets.exceptions import ToolError


class SealConfig(ToolsetConfig):
    """Each field becomes a field of the form in the admin. Give it a title, and a default if it can have one."""

    length: int = Field(16, ge=8, le=64, title="Length", description="Of a seal, in characters.")


# What a model must give. It is shown the names and descriptions; whatever does not fit is refused before the tool is
# called, with every fault named, so that the model can mend its call.
class Text(ToolArguments):
    text: str = Field(max_length=100_000, description="The text to seal, whole.")


class SealedText(Text):
    seal: str = Field(max_length=64, description="The seal that the text was given.")


class SealKind(ToolsetKind):
    # A toolset row names the slug; it must not be one of Agentsite's own.
    slug = "seal"
    title = "Seals (an example)"
    description = "Seals texts with a key, and tells whether a sealed text was changed."
    Config = SealConfig
    # Stored encrypted, never shown again. A call finds them in `context.secrets`.
    secrets: ClassVar[Mapping[str, str]] = {"key": "Key"}
    # `places` would name the fields of the config that say where a secret goes: a host, an address.

    def tools(self, config: SealConfig) -> Sequence[Tool]:
        # Asked for at every turn of an agent that has the toolset, so it must be cheap and open nothing. One instance
        # serves all tenants and all calls: what a call needs comes with its arguments and its context.
        async def seal(arguments: Text, context: ToolCallContext) -> str:
            return _seal(arguments.text, config, context)

        async def check_seal(arguments: SealedText, context: ToolCallContext) -> dict[str, bool]:
            # Text or JSON: whatever is no text is shown to the model as JSON.
            wanted = _seal(arguments.text, config, context)
            return {"unchanged": hmac.compare_digest(wanted.encode(), arguments.seal.encode())}

        return [
            # `risk` says what a tool may do: READ, WRITE, EGRESS or CODE. A call of anything but READ is stored before
            # it is made and never made twice, even when the server is killed. `timeout` is in seconds; `parallel=False`
            # is for a tool that bears no other beside it, `untrusted=True` for what comes from outside, `approval=True`
            # for what a person shall allow first.
            Tool("seal", "A seal for a text: keep both, and a change of the text shows.", Text, seal, risk=Risk.READ),
            Tool("check_seal", "Whether a text is still the one that was sealed.", SealedText, check_seal, timeout=5),
        ]


def _seal(text: str, config: SealConfig, context: ToolCallContext) -> str:
    key = context.secrets.get("key")
    if not key:
        # The model reads this. Anything else that is raised is logged, and the model is told that the tool failed.
        raise ToolError("The toolset has no key: give it the secret 'key'.")
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[: config.length]
