import json
from datetime import datetime

import pytest

from tests.toolsets.tools import Recorded
from toolsets.kinds.time.toolset import TimeConfig
from toolsets.registry import toolset_kinds
from toolsets.toolbox import GrantedToolset


@pytest.fixture
def clock() -> Recorded:
    tools = toolset_kinds()["time"].tools(TimeConfig(default_timezone="Europe/Berlin"))
    return Recorded(GrantedToolset("clock", "1", tools))


async def ask(clock: Recorded, name: str, **arguments: object) -> dict:
    text = await clock.ask(name, json.dumps(arguments))
    assert not clock.results[-1].is_error, text
    return json.loads(text)


async def test_current_time_is_in_the_default_zone_or_the_one_asked_for(clock: Recorded) -> None:
    here = await ask(clock, "current_time")
    there = await ask(clock, "current_time", timezone="Asia/Tokyo")
    assert (here["timezone"], there["timezone"]) == ("Europe/Berlin", "Asia/Tokyo")
    assert abs(here["unix"] - datetime.now().timestamp()) < 5
    assert there["time"].endswith("+09:00")


async def test_convert_time(clock: Recorded) -> None:
    found = await ask(clock, "convert_time", time="2026-07-01T09:30", to_timezone="America/New_York")
    assert (found["time"], found["weekday"]) == ("2026-07-01T03:30:00-04:00", "Wednesday")
    found = await ask(clock, "convert_time", time="2026-01-01T00:00:00Z", to_timezone="Asia/Kolkata")
    assert found["time"] == "2026-01-01T05:30:00+05:30"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"time": "2026-01-31T12:00", "months": 1}, "2026-02-28T12:00:00+01:00"),
        ({"time": "2024-01-31T12:00", "months": 1}, "2024-02-29T12:00:00+01:00"),
        ({"time": "2026-01-15T12:00", "months": -13}, "2024-12-15T12:00:00+01:00"),
        # Over the change to summer time: a day later the clock says the same, 24 hours later it does not.
        ({"time": "2026-03-28T12:00", "days": 1}, "2026-03-29T12:00:00+02:00"),
        ({"time": "2026-03-28T12:00", "hours": 24}, "2026-03-29T13:00:00+02:00"),
        ({"time": "2026-03-28T12:00", "minutes": -90}, "2026-03-28T10:30:00+01:00"),
    ],
)
async def test_add_duration(clock: Recorded, arguments: dict, expected: str) -> None:
    assert (await ask(clock, "add_duration", **arguments))["time"] == expected


async def test_time_between(clock: Recorded) -> None:
    found = await ask(clock, "time_between", start="2026-03-28T12:00", end="2026-03-29T12:00")
    assert (found["total_seconds"], found["days"], found["hours"]) == (23 * 3600, 0, 23)
    back = await ask(clock, "time_between", start="2026-03-29T12:00", end="2026-03-28T12:00")
    assert (back["total_seconds"], back["hours"]) == (-23 * 3600, 23)


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "America", "", "Europe/Berlin\0"]
)
async def test_a_time_zone_that_does_not_exist_is_explained(clock: Recorded, zone: str) -> None:
    text = await clock.ask("current_time", json.dumps({"timezone": zone}))
    assert "unknown time zone" in text


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_duration", {"time": "9999-12-31T00:00", "days": 366}),
        ("add_duration", {"time": "0001-01-02T00:00", "months": -12000}),
        ("convert_time", {"time": "0001-01-01T00:00", "timezone": "Asia/Tokyo", "to_timezone": "UTC"}),
        ("time_between", {"start": "9999-12-31T23:59", "timezone": "America/New_York", "end": "2026-01-01T00:00"}),
    ],
)
async def test_the_ends_of_the_calendar_are_explained(clock: Recorded, name: str, arguments: dict) -> None:
    assert await clock.ask(name, json.dumps(arguments)) == "The result lies outside the years 1 to 9999."
