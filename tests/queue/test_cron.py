"""When cron expressions fire, also on the days when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docyard_queue.cron import Cron
from docyard_schema import ConfigError


def cron(expression: str, timezone: str = "UTC") -> Cron:
    return Cron(expression, timezone, owner="the schedule 'x'")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(expression: str, timezone: str, after: str, until: str, limit: int = 100) -> list[str]:
    found = cron(expression, timezone).between(utc(after), utc(until), limit=limit)
    return [moment.strftime("%d %H:%M %z") for moment in found]


def test_the_end_counts_and_the_beginning_does_not() -> None:
    every_hour = cron("0 * * * *")
    found = every_hour.between(utc("2026-01-01 03:00"), utc("2026-01-01 05:00"), limit=10)
    assert found == [utc("2026-01-01 04:00"), utc("2026-01-01 05:00")]
    assert every_hour.next(utc("2026-01-01 03:00")) == utc("2026-01-01 04:00")


def test_of_many_the_last_are_given() -> None:
    found = cron("* * * * *").between(utc("2020-01-01"), utc("2026-01-01 00:01:30"), limit=2)
    assert found == [utc("2026-01-01 00:00"), utc("2026-01-01 00:01")]


def test_a_sixth_field_is_seconds() -> None:
    found = cron("* * * * * */20").next(utc("2026-01-01 00:00:01"))
    assert found == utc("2026-01-01 00:00:20")


def test_the_hour_is_that_of_the_time_zone_summer_and_winter() -> None:
    assert between("0 3 * * *", "Europe/Berlin", "2026-01-10", "2026-01-11") == ["10 03:00 +0100"]
    assert between("0 3 * * *", "Europe/Berlin", "2026-07-10", "2026-07-11") == ["10 03:00 +0200"]


# In Berlin the clocks went from 02:00 to 03:00 on 29 March 2026, and from 03:00 to 02:00 on 25 October.
def test_a_night_that_lacks_the_hour_has_the_job_once_an_hour_later() -> None:
    found = between("30 2 * * *", "Europe/Berlin", "2026-03-28", "2026-03-31")
    assert found == ["28 02:30 +0100", "29 03:30 +0200", "30 02:30 +0200"]


def test_a_night_that_has_the_hour_twice_has_the_job_once() -> None:
    found = between("30 2 * * *", "Europe/Berlin", "2026-10-24", "2026-10-27")
    assert found == ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]


def test_every_half_hour_stays_every_half_hour_when_clocks_change() -> None:
    for day in ("2026-03-29", "2026-10-25"):
        start = utc(day) - timedelta(hours=2)
        found = cron("*/30 * * * *", "Europe/Berlin").between(start, start + timedelta(days=1), limit=100)
        assert len(found) == 48
        moments = [moment.astimezone(UTC) for moment in found]
        steps = {later - earlier for earlier, later in pairwise(moments)}
        assert steps == {timedelta(minutes=30)}


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */5 * * *", "15 1-3 * * 0", "@hourly", "59 23 31 * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(0, 365 * 86400),
)
def test_next_and_between_agree_everywhere(expression: str, timezone: str, second: int) -> None:
    times, now = cron(expression, timezone), utc("2026-01-01") + timedelta(seconds=second)
    coming = times.next(now)
    assert coming is not None
    assert coming > now
    assert times.between(now, coming, limit=10) == [coming]
    assert times.between(now, coming - timedelta(microseconds=1), limit=10) == []
    assert coming.tzinfo == ZoneInfo(timezone)


@pytest.mark.parametrize("expression", ["", "0 3 * *", "61 * * * *", "nightly", "R R * * *", "H 3 * * *"])
def test_what_is_no_expression_is_refused_by_name(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"the schedule 'x' cannot be read") as caught:
        cron(expression)
    assert repr(expression) in str(caught.value)


def test_what_never_comes_is_refused() -> None:
    with pytest.raises(ConfigError, match="never fires"):
        cron("0 0 30 2 *")


@pytest.mark.parametrize("timezone", ["Europe/Atlantis", "", "../etc/passwd"])
def test_an_unknown_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(ConfigError, match="time zone of the schedule 'x'"):
        cron("0 3 * * *", timezone)
