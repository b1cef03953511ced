"""What a model can do and costs: one row of the capability matrix, wherever it is known from."""

from decimal import Decimal

import msgspec


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """None means that it is not known.

    `context_tokens` is the most that goes in, `output_tokens` the longest answer; prices are what counts for the
    tenant, in USD for a million tokens.
    """

    tools: bool | None = None
    parallel_tools: bool | None = None
    json_schema: bool | None = None
    vision: bool | None = None
    audio: bool | None = None
    documents: bool | None = None
    reasoning: bool | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    input_price: Decimal | None = None
    output_price: Decimal | None = None

    def known(self) -> dict[str, bool | int | Decimal]:
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


FIELDS = Capabilities.__struct_fields__
FEATURES = ("tools", "parallel_tools", "json_schema", "vision", "audio", "documents", "reasoning")
