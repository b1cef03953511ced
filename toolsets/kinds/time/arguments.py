from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from toolsets.base import ToolArguments
from toolsets.kinds.time.zones import known_timezone

Timezone = Annotated[str, Field(max_length=64, examples=["Europe/Berlin", "UTC"]), AfterValidator(known_timezone)]
Moment = Annotated[
    datetime, Field(description="ISO 8601, such as 2026-03-01T09:30; without an offset it is in `timezone`.")
]


class CurrentTime(ToolArguments):
    timezone: Timezone | None = Field(None, description="IANA name; left out: the default one.")


class ConvertTime(ToolArguments):
    time: Moment
    timezone: Timezone | None = Field(None, description="IANA name of the zone that `time` is in.")
    to_timezone: Timezone = Field(description="IANA name of the zone to convert to.")


class AddDuration(ToolArguments):
    time: Moment
    timezone: Timezone | None = Field(None, description="IANA name of the zone that `time` is in.")
    months: int = Field(0, ge=-12_000, le=12_000)
    days: int = Field(0, ge=-366_000, le=366_000, description="Calendar days: the hour of the day stays.")
    hours: int = Field(0, ge=-1_000_000, le=1_000_000, description="Elapsed hours, across changes of the clock.")
    minutes: int = Field(0, ge=-60_000_000, le=60_000_000)


class TimeBetween(ToolArguments):
    start: Moment
    end: Moment
    timezone: Timezone | None = Field(None, description="IANA name of the zone that both are in.")
