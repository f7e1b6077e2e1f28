"""Cron expressions and the moments at which they fire, in a time zone with its summer time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import croniter

from docyard_schema.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_YEARS = timedelta(days=366 * 8)
# croniter draws R by chance, and every worker would draw another; H wants a name that it never gets here.
_DRAWN = re.compile(r"(?<![A-Za-z])[RH](?![A-Za-z])", re.IGNORECASE)


class Cron:
    """A cron expression (five fields, a sixth for seconds, or a word such as ``@hourly``) in a time zone.

    Where clocks change, an expression with ``*`` as its hours fires by real time: nothing at what does not
    exist, twice at what comes twice. One that names its hours fires once a day all the same: a time that does
    not exist is taken an hour later, and one that comes twice at its first coming.

    Raises :class:`ConfigError` for what is no cron expression, never fires, or names no time zone.
    """

    def __init__(self, expression: str, timezone: str = "UTC", *, owner: str) -> None:
        self.expression = expression
        self.timezone = timezone
        if _DRAWN.search(expression) or not croniter.croniter.is_valid(expression):
            raise ConfigError(
                f"The cron expression of {owner} cannot be read: {expression!r}.",
                hint="minute hour day month weekday, for example '0 3 * * *' for every night at three.",
            )
        try:
            croniter.croniter(expression, datetime(2026, 1, 1)).get_next(datetime)  # noqa: DTZ001
        except croniter.CroniterError as error:
            raise ConfigError(f"The cron expression of {owner} never fires: {expression!r}.") from error
        try:
            self._zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"The time zone of {owner} is not known: {timezone!r}.",
                hint="A name of the tz database, such as 'Europe/Berlin'.",
            ) from error

    def between(self, after: datetime, until: datetime, *, limit: int) -> list[datetime]:
        """The last ``limit`` moments later than ``after`` and not later than ``until``, the first one first.

        They are aware, in the time zone of the expression.
        """
        found: set[datetime] = set()
        slack = self._slack(until)
        start = self._wall(until) + slack + _SECOND
        for wall in self._walk(start, "get_prev", end=self._wall(after) - slack - _SECOND):
            found |= {moment for moment in self._moments(wall) if after < moment <= until}
            # Around a change of the clocks they do not come quite in order.
            if not slack and len(found) >= limit:
                break
        return [moment.astimezone(self._zone) for moment in sorted(found)[-limit:]]

    def next(self, after: datetime) -> datetime | None:
        """The first moment later than ``after``; None when there is none within eight years."""
        slack = self._slack(after)
        first: datetime | None = None
        start = self._wall(after) - slack - _SECOND
        for wall in self._walk(start, "get_next", end=start + _YEARS):
            for moment in self._moments(wall):
                if moment > after and (first is None or moment < first):
                    first = moment
            if first is not None and wall > self._wall(first) + slack:
                break
        return None if first is None else first.astimezone(self._zone)

    @cached_property
    def _by_real_time(self) -> bool:
        fields = self.expression.split()
        return fields[0].lower() == "@hourly" or (len(fields) > 1 and fields[1].startswith("*"))

    def _walk(self, start: datetime, step: str, *, end: datetime) -> Iterator[datetime]:
        """Times on the wall from ``start`` (exclusive) on or back, up to ``end``."""
        cron: Any = croniter.croniter(self.expression, start)
        take = getattr(cron, step)
        while True:
            try:
                wall: datetime = take(datetime)
            except croniter.CroniterError:
                # One with a year, which has no more.
                return
            if (wall > end) if step == "get_next" else (wall < end):
                return
            yield wall

    def _moments(self, wall: datetime) -> set[datetime]:
        """When the wall shows this: once, in some hours of a year twice or never."""
        first = wall.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
        if not self._by_real_time:
            return {first}
        both = {first, wall.replace(tzinfo=self._zone, fold=1).astimezone(UTC)}
        return {moment for moment in both if self._wall(moment, microseconds=True) == wall}

    def _wall(self, moment: datetime, *, microseconds: bool = False) -> datetime:
        wall = moment.astimezone(self._zone).replace(tzinfo=None, fold=0)
        return wall if microseconds else wall.replace(microsecond=0)

    def _slack(self, around: datetime) -> timedelta:
        """By how much the clocks change within a day of this; nearly always zero."""
        offsets = [
            (around + away).astimezone(self._zone).utcoffset() or timedelta() for away in (-_DAY, _DAY)
        ]
        return abs(offsets[0] - offsets[1])
