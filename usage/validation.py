"""What budgets and prices may be; all faults of one are told at once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from django.core.exceptions import ValidationError as MailFault
from django.core.validators import validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
)

from core.ids import parse_uuid
from core.validation import SLUG, parse, slug_faults

MOST = Decimal(100_000_000_000)  # US dollars, or tokens; ten times that does not fit the columns
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_BY_ID = ("user", "api_key", "agent", "session", "run")


def _email(text: str) -> str:
    try:
        validate_email(text)
    except MailFault:
        raise ValueError("This is no e-mail address.") from None
    return text


def _written(pattern: str) -> Any:
    """How the API's schema describes text whose validator says what is wrong in words."""
    return Field(json_schema_extra={"pattern": pattern})


def _slug(text: str) -> str:
    if faults := slug_faults(text):
        raise ValueError(faults[0]["message"])
    return text


def _provider(text: str) -> str:
    if text and not SLUG.fullmatch(text):
        raise ValueError("Give the slug of a provider; empty means every provider.")
    return text


def _models(text: str) -> str:
    if not text or "*" in text[:-1] or "\0" in text:
        raise ValueError("Give a model's name, the beginning of names followed by '*', or '*' for every model.")
    return text


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", str_max_length=1000)


class BudgetChangeable(_Fields):
    slug: Annotated[str, _written(r"^[a-z0-9][a-z0-9-]{0,62}$"), AfterValidator(_slug)]
    amount: Decimal = Field(ge=0, le=MOST, max_digits=24, decimal_places=6)
    hard: StrictBool = True
    notify_at: list[Annotated[StrictInt, Field(ge=1, le=1000)]] = Field(default=[], max_length=10)
    notify_emails: list[Annotated[str, Field(max_length=254), AfterValidator(_email)]] = Field(
        default=[], max_length=20
    )
    is_active: StrictBool = True


class _BudgetFixed(_Fields):
    """They are what a budget is: they never change."""

    scope: Literal["tenant", "user", "api_key", "end_user", "agent", "session", "run"]
    subject: str = Field(default="", max_length=200)
    unit: Literal["usd", "tokens"] = "usd"
    period: Literal["day", "week", "month", "total"] = "month"

    @field_validator("subject")
    @classmethod
    def _subject_fits(cls, subject: str, known: ValidationInfo) -> str:
        scope = known.data.get("scope")
        if scope == "tenant" and subject:
            raise ValueError("A budget of the tenant has no subject: leave it empty.")
        if not subject or scope not in _BY_ID:
            return subject
        if parse_uuid(subject) is None:
            raise ValueError(f"The subject must be the id of the {scope}; empty means each one for itself.")
        return str(parse_uuid(subject))


class BudgetFields(BudgetChangeable, _BudgetFixed):
    """Those that never change come first, for the others to be checked by them."""

    @field_validator("amount")
    @classmethod
    def _tokens_are_whole(cls, amount: Decimal, known: ValidationInfo) -> Decimal:
        if known.data.get("unit") == "tokens" and amount != amount.to_integral_value():
            raise ValueError("A number of tokens is whole.")
        return amount


class PriceFields(_Fields):
    """US dollars for a million tokens."""

    provider: Annotated[str, _written(r"^([a-z0-9][a-z0-9-]{0,62})?$"), AfterValidator(_provider)] = ""
    model: Annotated[str, Field(max_length=255), _written(r"^([^*\x00]+\*?|\*)$"), AfterValidator(_models)]
    input: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    output: Decimal | None = Field(
        default=None, validate_default=True, ge=0, le=1_000_000, max_digits=14, decimal_places=6
    )
    cached: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    cache_write: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    markup_percent: Decimal = Field(default=Decimal(0), ge=-100, le=10_000, max_digits=8, decimal_places=3)
    effective_from: AwareDatetime | None = Field(default=None, ge=_FIRST, lt=_LAST)

    @field_validator("output")
    @classmethod
    def _both(cls, output: Decimal | None, known: ValidationInfo) -> Decimal | None:
        if "input" in known.data and (known.data["input"] is None) != (output is None):
            raise ValueError("Give both input and output, or neither to keep the list price.")
        return output

    @field_validator("cached", "cache_write")
    @classmethod
    def _not_alone(cls, price: Decimal | None, known: ValidationInfo) -> Decimal | None:
        if price is not None and known.data.get("input", 0) is None:
            raise ValueError("A price of cached tokens needs the prices of input and output.")
        return price


def checked(schema: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values as the schema has them; raises InvalidRequest with every fault."""
    return dict(parse(schema, values))


def as_json(values: dict[str, Any]) -> dict[str, Any]:
    """For the audit: decimals and times as text."""
    return {name: str(value) if isinstance(value, Decimal | datetime) else value for name, value in values.items()}
