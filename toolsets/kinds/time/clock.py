"""The tools' own work. Years outside 1 to 9999 are a ToolError."""

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo

from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.time.arguments import AddDuration, ConvertTime, CurrentTime, TimeBetween


def _in_range(tool: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(tool)
    async def call(*args: Any) -> Any:
        try:
            return await tool(*args)
        except (OverflowError, ValueError):
            raise ToolError("The result lies outside the years 1 to 9999.") from None

    return call


class Clock:
    """A time without an offset is in the call's time zone, else in the default one."""

    def __init__(self, default: str) -> None:
        self._default = default

    async def now(self, arguments: CurrentTime, context: ToolCallContext) -> dict[str, Any]:
        return _told(datetime.now(self._zone(arguments.timezone)))

    @_in_range
    async def convert(self, arguments: ConvertTime, context: ToolCallContext) -> dict[str, Any]:
        moment = self._placed(arguments.time, arguments.timezone)
        return _told(moment.astimezone(ZoneInfo(arguments.to_timezone)))

    @_in_range
    async def add(self, arguments: AddDuration, context: ToolCallContext) -> dict[str, Any]:
        moment = self._placed(arguments.time, arguments.timezone)
        shifted = _add_months(moment, arguments.months) + timedelta(days=arguments.days)
        elapsed = timedelta(hours=arguments.hours, minutes=arguments.minutes)
        return _told((shifted.astimezone(UTC) + elapsed).astimezone(moment.tzinfo))

    @_in_range
    async def between(self, arguments: TimeBetween, context: ToolCallContext) -> dict[str, Any]:
        start = self._placed(arguments.start, arguments.timezone)
        end = self._placed(arguments.end, arguments.timezone)
        seconds = int((end.astimezone(UTC) - start.astimezone(UTC)).total_seconds())
        minutes, rest = divmod(abs(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": rest}
        return {"total_seconds": seconds, **parts, "weekday_start": f"{start:%A}", "weekday_end": f"{end:%A}"}

    def _zone(self, name: str | None) -> ZoneInfo:
        return ZoneInfo(name or self._default)

    def _placed(self, moment: datetime, zone: str | None) -> datetime:
        if moment.tzinfo is None:
            return moment.replace(tzinfo=self._zone(zone))
        return moment.astimezone(self._zone(zone))


def _add_months(moment: datetime, months: int) -> datetime:
    """The same day of a later month, or that month's last day where it is shorter."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _told(moment: datetime) -> dict[str, Any]:
    return {
        "time": moment.isoformat(timespec="seconds"),
        "timezone": str(moment.tzinfo),
        "weekday": f"{moment:%A}",
        "week": moment.isocalendar().week,
        "unix": int(moment.timestamp()),
    }
