"""The seam between running jobs and storing them: a few verbs, and their Postgres.

Above it nobody knows procrastinate's words (defer, todo, doing) or tables; below it nobody knows handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import override

from docyard_queue import batch_callbacks, finish, lock_lines, minutes, rescue
from docyard_queue import claim as claiming
from docyard_queue import limited_claim as limiting
from docyard_queue import queues as naming
from docyard_queue.bulk import enqueue_many

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from docyard_queue.claim import Front
    from docyard_queue.jobs import Job, NewJob
    from docyard_queue.limited_claim import LimitedClaim
    from docyard_queue.outcomes import Outcome, Snooze
    from docyard_queue.rescue import Rescued
    from docyard_queue.schedules import Fired, Schedule
    from docyard_schema.database import Connection, Database


class Engine(Protocol):
    """What a worker and a producer need of a store of jobs.

    Each verb is atomic. Verbs that end an attempt are guarded by its lease and tell when it was lost.
    """

    async def enqueue(self, jobs: Iterable[NewJob], *, connection: Connection | None = None) -> list[int]:
        """Add jobs, in the caller's transaction if there is one; returns their ids in order."""

    async def claim(
        self,
        worker_id: int,
        *,
        slots: int,
        kinds: Mapping[str, int],
        queues: Sequence[str] | None,
        after: Job | None = None,
        apart: Collection[str] = (),
    ) -> list[Job]:
        """Take up to ``slots`` runnable jobs of queues without limits; their attempts are counted.

        Of those ``apart`` it takes none.
        ``after`` goes on behind a job that was just claimed: quicker, and blind for what is more urgent.
        """

    async def claim_aged(
        self,
        worker_id: int,
        *,
        slots: int,
        kinds: Mapping[str, int],
        queues: Sequence[str] | None,
        apart: Collection[str] = (),
    ) -> list[Job]:
        """Take up to ``slots`` jobs that have waited too long, whatever their priority."""

    async def claim_weighed(
        self,
        worker_id: int,
        queue: str,
        *,
        slots: int,
        room: float,
        whatever_it_weighs: bool,
        kinds: Mapping[str, int],
    ) -> list[Job]:
        """Take up to ``slots`` jobs of one queue that weigh ``room`` together at most, or one job."""

    async def fronts(self, queues: Sequence[str] | None, places: int) -> list[Front]:
        """What kinds stand at the first ``places`` of queues (None: of all in which something waits)."""

    async def limited_queues(self, queues: Sequence[str] | None) -> list[str]:
        """The queues, of these or of all, in which jobs wait for :meth:`claim_limited`."""

    async def claim_limited(
        self, worker_id: int, queue: str, *, slots: int, kinds: Mapping[str, int], after: str = ""
    ) -> LimitedClaim:
        """Take up to ``slots`` jobs of a queue with limits or partitions, within them."""

    async def next_due(self, queues: Sequence[str] | None) -> float | None:
        """Seconds until a job's time comes, or a cool-down ends; None: nothing is known to come."""

    async def complete(self, finished: Sequence[tuple[Job, Any]]) -> list[Job]:
        """Complete attempts with their results; returns those whose lease was lost."""

    async def park(self) -> int:
        """Take jobs that are far behind in the line of their lock key out of the claims' way; how many."""

    async def unpark(self) -> int:
        """Bring those back whose turn comes near; how many."""

    async def wake_next(self, locks: Collection[str], queues: Collection[str]) -> None:
        """Tell workers that these lock keys, or places within the limits of these queues, came free."""

    async def settle(self, job: Job, outcome: Outcome) -> bool:
        """Write any outcome of one attempt; False when its lease was lost."""

    async def release(self, job: Job, reason: str) -> bool:
        """Give back a job whose attempt did not begin or was cut short; it does not count."""

    async def put_back(self, jobs: Sequence[tuple[Job, Snooze | None, str]]) -> set[tuple[int, int]]:
        """Snooze many jobs, or without a snooze release them; id and lease of those that were still held."""

    async def begin_alone(self, job: Job) -> bool:
        """Write down that a job which must run alone begins; False when its lease was lost."""

    async def began_together(self, jobs: Sequence[Job]) -> set[tuple[int, int]]:
        """Those that began in one child with others in a worker that was lost; now each begins by itself."""

    async def completed_of(self, jobs: Sequence[Job]) -> set[tuple[int, int]]:
        """Those of these attempts that have completed their jobs."""

    async def is_completed(self, job: Job) -> bool:
        """Whether this attempt completed the job before its process died."""

    async def cancel_requested(self, worker_id: int) -> list[int]:
        """The worker's running jobs that somebody wants cancelled."""

    async def rescue(self, worker_id: int, *, scope: str, silent: bool) -> list[Rescued]:
        """Take jobs from workers that are gone; returns what became of them."""

    async def release_strays(
        self, worker_id: int, held: Collection[tuple[int, int]], *, grace_seconds: float
    ) -> list[int]:
        """Give back jobs claimed by this worker that never reached it: all but the ``held`` (id, lease)."""

    async def fire_due(self, wanted: Sequence[Schedule]) -> tuple[list[Fired], timedelta | None]:
        """Enqueue what is due, each moment once; returns that, and how long until there is more."""

    async def close_batches(self, batch_ids: Collection[UUID] | None) -> list[tuple[UUID, int]]:
        """Enqueue the callbacks of those batches (None: of any) that have ended; returns (batch, job)."""

    async def count_minutes(self) -> bool:
        """Write down what happened in the minutes that have ended; False when there was nothing to do."""


class PostgresEngine(Engine):
    """The :class:`Engine` over a docyard database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def enqueue(self, jobs: Iterable[NewJob], *, connection: Connection | None = None) -> list[int]:
        async with self._database.transaction(connection) as opened:
            return await enqueue_many(opened, jobs, schema=self._database.namespace.schema)

    @override
    async def claim(
        self,
        worker_id: int,
        *,
        slots: int,
        kinds: Mapping[str, int],
        queues: Sequence[str] | None,
        after: Job | None = None,
        apart: Collection[str] = (),
    ) -> list[Job]:
        return await claiming.claim(
            self._database, worker_id, slots=slots, kinds=kinds, queues=queues, after=after, apart=apart
        )

    @override
    async def claim_aged(
        self,
        worker_id: int,
        *,
        slots: int,
        kinds: Mapping[str, int],
        queues: Sequence[str] | None,
        apart: Collection[str] = (),
    ) -> list[Job]:
        return await claiming.claim_aged(
            self._database, worker_id, slots=slots, kinds=kinds, queues=queues, apart=apart
        )

    @override
    async def claim_weighed(
        self,
        worker_id: int,
        queue: str,
        *,
        slots: int,
        room: float,
        whatever_it_weighs: bool,
        kinds: Mapping[str, int],
    ) -> list[Job]:
        return await claiming.claim_weighed(
            self._database,
            worker_id,
            queue,
            slots=slots,
            room=room,
            whatever_it_weighs=whatever_it_weighs,
            kinds=kinds,
        )

    @override
    async def fronts(self, queues: Sequence[str] | None, places: int) -> list[Front]:
        return await claiming.fronts(self._database, queues, places)

    @override
    async def limited_queues(self, queues: Sequence[str] | None) -> list[str]:
        return await limiting.limited_queues(self._database, queues)

    @override
    async def claim_limited(
        self, worker_id: int, queue: str, *, slots: int, kinds: Mapping[str, int], after: str = ""
    ) -> LimitedClaim:
        return await limiting.claim_limited(
            self._database, worker_id, queue, slots=slots, kinds=kinds, after=after
        )

    @override
    async def next_due(self, queues: Sequence[str] | None) -> float | None:
        return await limiting.next_due(self._database, queues)

    @override
    async def complete(self, finished: Sequence[tuple[Job, Any]]) -> list[Job]:
        return await finish.complete(self._database, finished)

    @override
    async def park(self) -> int:
        return await lock_lines.park(self._database)

    @override
    async def unpark(self) -> int:
        return await lock_lines.unpark(self._database)

    @override
    async def wake_next(self, locks: Collection[str], queues: Collection[str]) -> None:
        await naming.wake_next(self._database, locks, queues)

    @override
    async def settle(self, job: Job, outcome: Outcome) -> bool:
        return await finish.settle(self._database, job, outcome)

    @override
    async def release(self, job: Job, reason: str) -> bool:
        return await finish.put_back(self._database, job.id, job.lease, outcome="released", message=reason)

    @override
    async def put_back(self, jobs: Sequence[tuple[Job, Snooze | None, str]]) -> set[tuple[int, int]]:
        return await finish.put_back_many(self._database, jobs)

    @override
    async def begin_alone(self, job: Job) -> bool:
        return await finish.begin_alone(self._database, job)

    @override
    async def began_together(self, jobs: Sequence[Job]) -> set[tuple[int, int]]:
        return await finish.began_together(self._database, jobs)

    @override
    async def completed_of(self, jobs: Sequence[Job]) -> set[tuple[int, int]]:
        return await finish.completed_of(self._database, jobs)

    @override
    async def is_completed(self, job: Job) -> bool:
        return await finish.is_completed(self._database, job)

    @override
    async def cancel_requested(self, worker_id: int) -> list[int]:
        return await rescue.cancel_requested(self._database, worker_id)

    @override
    async def rescue(self, worker_id: int, *, scope: str, silent: bool) -> list[Rescued]:
        return await rescue.rescue(self._database, worker_id, scope=scope, silent=silent)

    @override
    async def release_strays(
        self, worker_id: int, held: Collection[tuple[int, int]], *, grace_seconds: float
    ) -> list[int]:
        return await rescue.release_strays(self._database, worker_id, held, grace_seconds=grace_seconds)

    @override
    async def fire_due(self, wanted: Sequence[Schedule]) -> tuple[list[Fired], timedelta | None]:
        # Not at the top: who has no schedules never loads croniter.
        from docyard_queue.schedules import fire_due

        return await fire_due(self._database, wanted)

    @override
    async def close_batches(self, batch_ids: Collection[UUID] | None) -> list[tuple[UUID, int]]:
        return await batch_callbacks.close_batches(self._database, batch_ids)

    @override
    async def count_minutes(self) -> bool:
        return await minutes.count_minutes(self._database)
