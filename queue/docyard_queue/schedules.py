"""Schedules: jobs that are enqueued by the clock, each moment once over any number of workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from docyard_queue.cron import Cron
from docyard_queue.enqueue import enqueue_async, past_any_depth
from docyard_queue.jobs import DEFAULT_QUEUE, MAXIMUM_KIND_LENGTH, NewJob
from docyard_queue.payload import encode_payload
from docyard_schema.errors import ConfigError, InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docyard_schema.database import Database

Missed: TypeAlias = Literal["skip", "once", "all"]

# A moment is missed when nobody took it for so long.
_ON_TIME = timedelta(minutes=1)
# What "all" makes up for at a time, the latest ones.
_MOST_AT_ONCE = 1000

_statements = load_statements("docyard_queue", "schedules.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When jobs of a kind are enqueued, and with what.

    ``missed`` is what becomes of moments that came while no worker ran: ``skip`` leaves them out, ``once``
    runs the latest of them, ``all`` each (the last thousand); never those longer ago than ``look_back``.
    The payload gets ``moment_key``: the moment in ISO 8601, or for a procrastinate task in Unix seconds.
    Raises :class:`ConfigError` for what cannot be a schedule, naming it.
    """

    name: str
    cron: str
    kind: str
    queue: str = DEFAULT_QUEUE
    payload: Mapping[str, Any] = field(default_factory=dict)
    timezone: str = "UTC"
    missed: Missed = "once"
    look_back: timedelta = timedelta(days=7)
    priority: int = 0
    unique_key: str | None = None
    lock_key: str | None = None
    periodic_id: str = ""
    moment_key: Literal["fire_time", "timestamp"] = "fire_time"
    times: Cron = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAXIMUM_KIND_LENGTH:
            raise ConfigError(
                f"A schedule's name has 1 to {MAXIMUM_KIND_LENGTH} characters, got {self.name!r}."
            )
        owner = f"the schedule {self.name!r}"
        if self.missed not in ("skip", "once", "all"):
            raise ConfigError(f"missed of {owner} is 'skip', 'once' or 'all', got {self.missed!r}.")
        if self.look_back <= timedelta(0):
            raise ConfigError(f"look_back of {owner} is longer than zero, got {self.look_back}.")
        if self.moment_key in self.payload:
            raise ConfigError(f"The payload of {owner} has a {self.moment_key!r}, which is put there.")
        object.__setattr__(self, "times", Cron(self.cron, self.timezone, owner=owner))
        try:
            encode_payload(self.job(datetime.now(UTC)))
        except InvalidInput as error:
            raise ConfigError(f"The jobs of {owner} cannot be: {error.message}", hint=error.hint) from error

    def job(self, moment: datetime) -> NewJob:
        """The job of one moment."""
        shown = moment.isoformat() if self.moment_key == "fire_time" else int(moment.timestamp())
        return NewJob(
            self.kind,
            {**self.payload, self.moment_key: shown},
            queue=self.queue,
            priority=self.priority,
            unique_key=self.unique_key,
            lock_key=self.lock_key,
        )

    def due(self, last: datetime, now: datetime) -> list[datetime]:
        """What is to be enqueued now when ``last`` was the last moment dealt with."""
        limit = _MOST_AT_ONCE if self.missed == "all" else 1
        found = self.times.between(max(last, now - self.look_back), now, limit=limit)
        if self.missed == "skip":
            return [moment for moment in found if now - moment <= _ON_TIME]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A moment of a schedule that was enqueued, by us."""

    schedule: str
    moment: datetime
    job_id: int


async def fire_due(database: Database, schedules: Sequence[Schedule]) -> tuple[list[Fired], timedelta | None]:
    """Enqueue what is due and nobody else has; returns it and how long until there is more (None: never).

    Only the database's clock counts. Each moment is taken and enqueued in one transaction, so it is neither
    lost nor enqueued twice, whoever else does the same. A schedule that was never seen before begins now.
    """
    if not schedules:
        return [], None
    names = {
        "names": [schedule.name for schedule in schedules],
        "periodic_ids": [schedule.periodic_id for schedule in schedules],
    }
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.last_fired), names)
        row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - it has no FROM
    now: datetime = row[0]
    fired: list[Fired] = []
    for schedule, dealt in zip(schedules, row[1], strict=True):
        last = dealt
        if last is None:
            # Also when it fires at this very second: that moment is still to come.
            last = int(now.timestamp()) - 1
            await _take(database, schedule, last)
        for moment in schedule.due(datetime.fromtimestamp(last, UTC), now):
            job_id = await _fire(database, schedule, moment)
            if job_id is not None:
                fired.append(Fired(schedule=schedule.name, moment=moment, job_id=job_id))
    coming = [next_ - now for schedule in schedules if (next_ := schedule.times.next(now)) is not None]
    return fired, min(coming, default=None)


async def _take(database: Database, schedule: Schedule, moment: int) -> None:
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.take), _values(schedule, moment))


async def _fire(database: Database, schedule: Schedule, moment: datetime) -> int | None:
    values = _values(schedule, int(moment.timestamp()))
    async with database.transaction() as connection:
        cursor = await connection.execute(database.sql(_statements.take), values)
        taken = await cursor.fetchone()
        if taken is None:
            return None
        await past_any_depth(connection)
        job_id = await enqueue_async(connection, schedule.job(moment), schema=database.namespace.schema)
        await connection.execute(database.sql(_statements.link), {"id": taken[0], "job": job_id})
        await connection.execute(database.sql(_statements.prune), values)
    return job_id


def _values(schedule: Schedule, moment: int) -> dict[str, Any]:
    return {"name": schedule.name, "periodic_id": schedule.periodic_id, "moment": moment}
