"""The provider kinds: ours, and those that installed packages add."""

import asyncio
import logging
import sys
from functools import cache
from importlib.metadata import entry_points

from llm.providers.anthropic import AnthropicKind
from llm.providers.base import ProviderKind
from llm.providers.cohere import CohereKind
from llm.providers.google import GoogleKind
from llm.providers.huggingface import HuggingFaceKind
from llm.providers.local import LocalKind, local_server
from llm.providers.mistral import MistralKind
from llm.providers.ollama import OllamaKind
from llm.providers.openai import OpenAIKind
from llm.providers.scripted import ScriptedKind

ENTRY_POINTS = "agentsite.providers"
OURS = (
    OpenAIKind,
    AnthropicKind,
    GoogleKind,
    MistralKind,
    CohereKind,
    HuggingFaceKind,
    OllamaKind,
    LocalKind,
    ScriptedKind,
)
logger = logging.getLogger(__name__)


@cache
def _kinds() -> dict[str, ProviderKind]:
    kinds: dict[str, ProviderKind] = {kind.slug: kind() for kind in OURS}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            kind = point.load()
            if not isinstance(kind, ProviderKind):
                raise TypeError(f"{point.value} is no ProviderKind instance")
            if kinds.setdefault(kind.slug, kind) is not kind:
                raise ValueError(f"there is already a provider kind {kind.slug!r}")
        except Exception:  # a stranger's code: whatever it raises must not stop the server
            logger.exception("Provider kind %s did not load", point.name)
    return kinds


def provider_kinds() -> tuple[ProviderKind, ...]:
    """A third party's kind that does not load is logged and left out; none replaces one of ours."""
    return tuple(_kinds().values())


def provider_kind(slug: str) -> ProviderKind | None:
    return _kinds().get(slug)


async def shut_down() -> None:
    """Ends what the kinds hold in this process: connections of the running loop, and the local model."""
    http = sys.modules.get("core.http")  # never imported when no provider was called
    if http is not None:
        await http.close_session()
    await asyncio.to_thread(local_server.stop)
