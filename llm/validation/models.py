"""The rules of a model of a provider, checked together so that a caller sees every fault at once."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from core.validation import config_faults, invalid, parse_config
from llm.models import Provider
from llm.providers import provider_kind

MAX_NAME = 255  # characters
MAX_TOKENS = 100_000_000

Feature = bool | None
Tokens = Annotated[int | None, Field(ge=1, le=MAX_TOKENS)]


class ModelOverrides(BaseModel):
    """What a tenant says of a model; what is left out, or null, stays as it is known otherwise."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tools: Feature = Field(None, description="It calls tools.")
    parallel_tools: Feature = Field(None, description="It calls several tools at once.")
    json_schema: Feature = Field(None, description="It answers by a JSON schema.")
    vision: Feature = Field(None, description="It takes images.")
    audio: Feature = Field(None, description="It takes audio.")
    documents: Feature = Field(None, description="It takes documents.")
    reasoning: Feature = Field(None, description="It reasons before it answers.")
    context_tokens: Tokens = Field(None, description="The most tokens that go in.")
    output_tokens: Tokens = Field(None, description="The longest answer, in tokens.")


def check_model(provider: Provider, *, name: str | None = None, overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides as they are stored. Raises InvalidRequest whose `details` hold all faults."""
    faults = _name_faults(provider, name) if name is not None else []
    faults += config_faults(ModelOverrides, overrides, "overrides")
    if faults:
        raise invalid(faults)
    return parse_config(ModelOverrides, overrides).model_dump(mode="json", exclude_none=True)


def is_model_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable() and " " not in name


def _name_faults(provider: Provider, name: str) -> list[dict[str, Any]]:
    if not is_model_name(name):
        message = f"A model's name has 1 to {MAX_NAME} printable characters, without blanks."
        return [{"path": "name", "code": "invalid", "message": message}]
    kind = provider_kind(provider.kind)
    if kind and kind.static_models is not None and name not in kind.static_models:
        message = f"A provider of kind {kind.slug} has these models and no other: {', '.join(kind.static_models)}."
        return [{"path": "name", "code": "unknown_model", "message": message}]
    return []
