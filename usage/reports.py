"""Reports of usage, and what a caller may ask of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from core.errors import InvalidRequest
from core.ids import parse_uuid
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.dimensions import DIMENSIONS
from usage.invoices import month_of
from usage.totals import Query, Sums, Totals, summed, totals

MOST_DAYS = 366
MOST_DAYS_BY_HOUR = 31
MOST_ROWS = 10_000
MOST_CSV_ROWS = 100_000


def _moment(value: Any) -> Any:
    """A date stands for its first moment in UTC."""
    if isinstance(value, str) and len(value) == 10:
        value += "T00:00:00Z"
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("Give a time such as 2026-11-01T00:00:00Z, or a date.") from None
    if found.tzinfo is None:
        raise ValueError("The time needs a zone: 'Z', or an offset with its '+' written as %2B.")
    if not 2000 <= found.year < 2100:
        raise ValueError("The time must lie between the years 2000 and 2100.")
    return found.astimezone(UTC)


def _id(value: Any) -> UUID:
    found = parse_uuid(value)
    if found is None:
        raise ValueError("This is no id.")
    return found


def _known(names: list[str]) -> list[str]:
    for name in names:
        if name not in DIMENSIONS:
            raise ValueError(f"'{name}' is none of {', '.join(DIMENSIONS)}.")
    if len(set(names)) < len(names):
        raise ValueError("Name each dimension once.")
    return names


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Id = Annotated[UUID, BeforeValidator(_id)]
Text = Annotated[str, Field(max_length=255)]


class Filters(BaseModel):
    """Calls of which to speak; every one is optional, and an empty text finds the calls without one."""

    model_config = ConfigDict(extra="forbid")

    from_: Moment | None = Field(default=None, alias="from")
    to: Moment | None = None
    provider: Text | None = None
    model: Text | None = None
    route: Text | None = None
    variant: Text | None = None
    agent: Text | None = None
    agent_id: Id | None = None
    agent_version: int | None = Field(default=None, ge=1, lt=2**31)
    session: Id | None = None
    run: Id | None = None
    user: Id | None = None
    api_key: Id | None = None
    end_user: Text | None = None
    key: Text | None = None
    certainty: Literal["exact", "estimated", "unknown"] | None = None
    error_code: Text | None = None
    cached: bool | None = None

    @property
    def filters(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in DIMENSIONS}
        return {name: value for name, value in given.items() if value is not None}


class ReportParameters(Filters):
    """What `GET /v1/usage` takes. Without `to`, until now; without `from`, from the beginning of the month of `to`."""

    group_by: Annotated[list[str], BeforeValidator(_words), Field(max_length=2), AfterValidator(_known)] = []
    bucket: Literal["hour", "day", "week", "month"] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        start, end = self.time
        most = MOST_DAYS_BY_HOUR if self.bucket == "hour" else MOST_DAYS
        if end <= start:
            raise ValueError("`to` must be later than `from`.")
        if end - start > timedelta(days=most):
            by = "by the hour " if self.bucket == "hour" else ""
            raise ValueError(f"A report {by}spans at most {most} days: narrow `from` and `to`.")
        return self

    @property
    def time(self) -> tuple[datetime, datetime]:
        now = datetime.now(UTC)
        if self.from_ is not None:
            return self.from_, self.to or max(now, self.from_ + timedelta(microseconds=1))
        return month_of(now) if self.to is None else (month_of(self.to - timedelta(microseconds=1))[0], self.to)


@dataclass(frozen=True, slots=True)
class Report:
    query: Query
    rows: Sequence[Totals]

    @property
    def total(self) -> Sums:
        return summed(self.rows)


def usage_report(*, actor: Principal, asked: ReportParameters, most: int = MOST_ROWS) -> Report:
    """Raises InvalidRequest for more than `most` rows."""
    authorize(actor, "usage.view")
    start, end = asked.time
    query = Query(start, end, asked.group_by, asked.bucket, asked.filters, limit=most + 1)
    rows = totals(actor.tenant_id, query)
    if len(rows) > most:
        message = f"The answer has more than {most:,} rows: narrow the time, filter, or choose a longer bucket."
        raise InvalidRequest(message, code="too_many_rows", param="group_by")
    return Report(query, rows)
