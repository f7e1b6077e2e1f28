"""What a person sees of schedules, and running one at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from docyard_queue.enqueue import enqueue_async
from docyard_schema.errors import InvalidInput, NotFound
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue.schedules import Schedule
    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_queue", "schedules.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule as code and database tell of it.

    What code says is None for a schedule that only the database knows: without the registry, or renamed
    since. ``last_moment`` is the latest moment that was dealt with, at first the one when a worker saw the
    schedule; None before that. ``last_job_id`` is the job of the latest moment that has one; None when there
    was none, or it was deleted. ``next_moment`` is None too when the expression never fires again.
    """

    name: str
    periodic_id: str
    cron: str | None
    timezone: str | None
    kind: str | None
    queue: str | None
    last_moment: datetime | None
    last_job_id: int | None
    next_moment: datetime | None


async def list_schedules(database: Database, schedules: Sequence[Schedule] = ()) -> list[ScheduleRow]:
    """The schedules of a registry in their order, then those that only the database knows, by name."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.list_dealt))
        rows = await cursor.fetchall()
        now = await _now(database, connection)
    dealt = {(name, periodic_id): (moment, job_id) for name, periodic_id, moment, job_id in rows}
    found = []
    for schedule in schedules:
        moment, job_id = dealt.pop((schedule.name, schedule.periodic_id), (None, None))
        found.append(
            ScheduleRow(
                name=schedule.name,
                periodic_id=schedule.periodic_id,
                cron=schedule.cron,
                timezone=schedule.timezone,
                kind=schedule.kind,
                queue=schedule.queue,
                last_moment=moment,
                last_job_id=job_id,
                next_moment=schedule.times.next(now),
            )
        )
    for (name, periodic_id), (moment, job_id) in sorted(dealt.items()):
        found.append(
            ScheduleRow(
                name=name,
                periodic_id=periodic_id,
                cron=None,
                timezone=None,
                kind=None,
                queue=None,
                last_moment=moment,
                last_job_id=job_id,
                next_moment=None,
            )
        )
    return found


async def run_schedule(
    database: Database, schedules: Sequence[Schedule], name: str, *, periodic_id: str | None = None
) -> int:
    """Enqueue a job of the schedule ``name`` now, beside its own moments; returns its id.

    The moment in its payload is the present second. Where the schedule has a unique key that is held, the id
    is the holder's. Raises :class:`NotFound` for a name that none of ``schedules`` has, and
    :class:`InvalidInput` when procrastinate's ``periodic_id`` has to tell several apart.
    """
    named = [schedule for schedule in schedules if schedule.name == name]
    fitting = [schedule for schedule in named if periodic_id is None or schedule.periodic_id == periodic_id]
    if not fitting:
        known = ", ".join(sorted({schedule.name for schedule in schedules})) or "none"
        raise NotFound(f"There is no schedule {name!r}.", hint=f"The registry has: {known}.")
    if len(fitting) > 1:
        ids = ", ".join(repr(schedule.periodic_id) for schedule in fitting)
        raise InvalidInput(
            f"{len(fitting)} schedules are named {name!r}.", hint=f"Name the periodic id, one of: {ids}."
        )
    [schedule] = fitting
    async with database.transaction() as connection:
        now = await _now(database, connection)
        moment = now.replace(microsecond=0).astimezone(ZoneInfo(schedule.timezone))
        return await enqueue_async(connection, schedule.job(moment), schema=database.namespace.schema)


async def _now(database: Database, connection: Connection) -> datetime:
    cursor = await connection.execute(database.sql(_statements.clock))
    [[now]] = await cursor.fetchall()
    assert isinstance(now, datetime)  # noqa: S101 - the server's clock
    return now
