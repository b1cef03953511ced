"""What budgets and prices may be; all faults of one are told at once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

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
    ValidationError,
    model_validator,
)

from core.ids import parse_uuid
from core.validation import invalid, pydantic_faults

MOST = Decimal(100_000_000_000)  # US dollars, or tokens; ten times that does not fit the columns
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_BY_ID = ("user", "api_key", "agent", "session", "run")


def _email(text: str) -> str:
    try:
        validate_email(text)
    except MailFault:
        raise ValueError("This is no e-mail address.") from None
    return text


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", str_max_length=1000)


class BudgetChangeable(_Fields):
    slug: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    amount: Decimal = Field(ge=0, le=MOST, max_digits=24, decimal_places=6)
    hard: StrictBool = True
    notify_at: list[Annotated[StrictInt, Field(ge=1, le=1000)]] = Field(default=[], max_length=10)
    notify_emails: list[Annotated[str, Field(max_length=254), AfterValidator(_email)]] = Field(
        default=[], max_length=20
    )
    is_active: StrictBool = True


class BudgetFields(BudgetChangeable):
    """A budget's scope, subject, unit and period are what it is: they never change."""

    scope: Literal["tenant", "user", "api_key", "end_user", "agent", "session", "run"]
    subject: str = Field(default="", max_length=200)
    unit: Literal["usd", "tokens"] = "usd"
    period: Literal["day", "week", "month", "total"] = "month"

    @model_validator(mode="after")
    def _subject_fits(self) -> Self:
        if self.scope == "tenant" and self.subject:
            raise ValueError("A budget of the tenant has no subject: leave it empty.")
        if self.subject and self.scope in _BY_ID:
            found = parse_uuid(self.subject)
            if found is None:
                raise ValueError(f"The subject must be the id of the {self.scope}; empty means each one for itself.")
            self.subject = str(UUID(str(found)))
        if self.unit == "tokens" and self.amount != self.amount.to_integral_value():
            raise ValueError("A number of tokens is whole.")
        return self


class PriceFields(_Fields):
    """US dollars for a million tokens."""

    provider: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")
    model: str = Field(min_length=1, max_length=255, pattern=r"^[^*\x00]*\*?$")
    input: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    output: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    cached: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    cache_write: Decimal | None = Field(default=None, ge=0, le=1_000_000, max_digits=14, decimal_places=6)
    markup_percent: Decimal = Field(default=Decimal(0), ge=-100, le=10_000, max_digits=8, decimal_places=3)
    effective_from: AwareDatetime | None = Field(default=None, ge=_FIRST, lt=_LAST)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.input is None) != (self.output is None):
            raise ValueError("Give both input and output, or neither to keep the list price.")
        if self.input is None and (self.cached is not None or self.cache_write is not None):
            raise ValueError("A price of cached tokens needs the prices of input and output.")
        return self


def checked(schema: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values as the schema has them; raises InvalidRequest with every fault."""
    try:
        return dict(schema.model_validate(values))
    except ValidationError as error:
        raise invalid(pydantic_faults(error)) from None


def as_json(values: dict[str, Any]) -> dict[str, Any]:
    """For the audit: decimals and times as text."""
    return {name: str(value) if isinstance(value, Decimal | datetime) else value for name, value in values.items()}
