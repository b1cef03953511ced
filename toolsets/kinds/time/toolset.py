from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from toolsets.base import Tool, ToolsetConfig, ToolsetKind
from toolsets.kinds.time.arguments import AddDuration, ConvertTime, CurrentTime, TimeBetween, Timezone
from toolsets.kinds.time.clock import Clock


class TimeConfig(ToolsetConfig):
    default_timezone: Timezone = Field(
        "UTC", title="Time zone", description="IANA name; used when the model names no time zone."
    )


class TimeToolset(ToolsetKind):
    slug = "time"
    title = "Time"
    description = "The current time, time zones and durations, which models cannot know or often get wrong."
    Config: ClassVar[type[TimeConfig]] = TimeConfig

    def tools(self, config: TimeConfig) -> Sequence[Tool]:
        clock = Clock(config.default_timezone)
        return [
            Tool("current_time", "The current date and time in a time zone.", CurrentTime, clock.now),
            Tool("convert_time", "A time of one time zone in another.", ConvertTime, clock.convert),
            Tool("add_duration", "A time with a duration added, or taken off.", AddDuration, clock.add),
            Tool("time_between", "How long it is from one time to another.", TimeBetween, clock.between),
        ]
