"""The queue as plain Python: what the database must hold after every verb of the queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from docyard_queue import NewJob

HEARTBEAT = timedelta(seconds=5)
FINAL = {"succeeded", "failed", "cancelled", "aborted"}


@dataclass(slots=True)
class ModelJob:
    """A row of the jobs' table, in the words of its columns."""

    id: int
    kind: str
    queue: str
    priority: int
    lock: str | None
    key: str | None
    run_at: datetime | None
    max_attempts: int | None
    status: str = "todo"
    attempts: int = 0
    lease: int = 0
    worker: int | None = None
    abort: bool = False
    ended: datetime | None = None
    started: datetime | None = None
    # After it ran beside others in a lost worker; and the lease under which it then began by itself.
    alone: bool = False
    began_alone: int | None = None
    # Lease → how that attempt ended, of all that did not succeed; and whose it was, and when.
    story: dict[int, str] = field(default_factory=dict)
    told: list[tuple[int | None, str, datetime]] = field(default_factory=list)

    def tell(self, outcome: str, now: datetime) -> None:
        self.story[self.lease] = outcome
        self.told.append((self.worker, outcome, now))


@dataclass(slots=True)
class QueueModel:
    """All jobs, keys and workers, and the time. Every method is a verb of the queue."""

    now: datetime
    jobs: dict[int, ModelJob] = field(default_factory=dict)
    keys: dict[str, tuple[int, datetime | None]] = field(default_factory=dict)
    workers: dict[int, datetime] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)

    # Enqueueing

    def holder(self, job: NewJob) -> int | None:
        """The id of the job that holds this one's unique key."""
        if job.unique_key is None:
            return None
        if job.unique_scope == "waiting" and job.unique_for is None:
            return self._waiting_under(job.unique_key)
        job_id, expires = self.keys.get(job.unique_key, (0, None))
        if not job_id:
            return None
        holds = self.jobs[job_id].status in ("todo", "doing") if expires is None else expires > self.now
        return job_id if holds else None

    def add(self, job_id: int, job: NewJob) -> None:
        """A new job under an id that the database gave it."""
        assert job_id not in self.seen, f"the id {job_id} was given twice"
        self.seen.add(job_id)
        waiting_key = job.unique_key if job.unique_scope == "waiting" and job.unique_for is None else None
        self.jobs[job_id] = ModelJob(
            job_id, job.kind, job.queue, job.priority, job.lock_key, waiting_key, job.run_at, job.max_attempts
        )
        if job.unique_key is not None and waiting_key is None:
            expires = None if job.unique_for is None else self.now + job.unique_for
            self.keys[job.unique_key] = (job_id, expires)

    def _waiting_under(self, key: str | None, *, but: int = 0) -> int | None:
        if key is None:
            return None
        found = [job.id for job in self.jobs.values() if job.key == key and job.status == "todo"]
        return next((job_id for job_id in found if job_id != but), None)

    # Claiming

    def claim(
        self,
        taken: Sequence[int],
        worker: int,
        slots: int,
        kinds: Mapping[str, int],
        queues: Collection[str] | None,
    ) -> None:
        """The database took these: as many as it could, all of which can run, in an order that may be."""
        runnable = {
            job.id: job
            for job in self.jobs.values()
            if job.status == "todo"
            and self._is_due(job)
            and job.kind in kinds
            and (queues is None or job.queue in queues)
            and job.queue not in self.paused
            and not self._is_locked(job)
        }
        assert set(taken) <= runnable.keys(), "what cannot run was claimed"
        assert len(taken) == min(slots, len(runnable)), "what can run was left"
        left = [job for job_id, job in runnable.items() if job_id not in taken]
        for job_id in taken:
            job = runnable[job_id]
            passed_over = [other.id for other in left if _goes_before(other, job)]
            assert not passed_over, f"{job_id} was claimed before {passed_over}"
            job.status, job.worker, job.ended, job.started = "doing", worker, None, self.now
            job.attempts += 1
            job.lease += 1
            job.max_attempts = job.max_attempts or kinds[job.kind]

    def _is_due(self, job: ModelJob) -> bool:
        return job.run_at is None or job.run_at <= self.now

    def _is_locked(self, job: ModelJob) -> bool:
        """Whether another with its lock key runs, or goes first and waits for nothing but its turn."""
        return job.lock is not None and any(
            other.status == "doing"
            or (
                other.status == "todo"
                and (-other.priority, other.id) < (-job.priority, job.id)
                and (self._is_due(other) or other.lease > 0)
            )
            for other in self.jobs.values()
            if other.lock == job.lock and other.id != job.id
        )

    # Ending an attempt

    def held(self, job_id: int, lease: int) -> ModelJob | None:
        """The job, if it runs under this lease; else nothing may be written."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.status == "doing" and job.lease == lease else None

    def completed_before(self, job_id: int, lease: int) -> bool:
        job = self.jobs.get(job_id)
        return job is not None and job.status == "succeeded" and job.lease == lease

    def complete(self, job: ModelJob) -> None:
        self._end(job, "succeeded")

    def fail(self, job: ModelJob, retry_in: timedelta | None) -> None:
        job.tell("failed", self.now)
        assert job.max_attempts is not None
        if job.abort:
            self._end(job, "aborted")
        elif retry_in is None or job.attempts >= job.max_attempts:
            self._end(job, "failed")
        else:
            self._wait(job, self.now + retry_in)

    def put_back(self, job: ModelJob, outcome: str, delay: timedelta = timedelta(0)) -> None:
        job.tell("cancelled" if job.abort else outcome, self.now)
        if job.abort:
            self._end(job, "aborted")
        else:
            job.attempts -= 1
            self._wait(job, self.now + delay if delay else job.run_at)

    def cancel_running(self, job: ModelJob) -> None:
        job.tell("cancelled", self.now)
        self._end(job, "aborted")

    def _end(self, job: ModelJob, status: str) -> None:
        job.status, job.ended, job.abort = status, self.now, False

    def _wait(self, job: ModelJob, run_at: datetime | None) -> None:
        if self._waiting_under(job.key, but=job.id):
            job.key = None
        job.status, job.run_at, job.worker, job.abort = "todo", run_at, None, False

    # Workers

    def alive(self, asker: int, *, silent: bool) -> set[int]:
        oldest = self.now - 3 * HEARTBEAT
        return {
            worker for worker, beat in self.workers.items() if worker == asker or not silent or beat >= oldest
        }

    def rescue(self, asker: int, *, silent: bool) -> dict[int, bool]:
        """Job → whether it is dead now."""
        alive = self.alive(asker, silent=silent)
        lost = [job for job in self.by_id() if job.status == "doing" and job.worker not in alive]
        blamed = {job.id for job in lost if self._is_to_blame(job)}
        for job in lost:
            job.tell("crashed" if job.id in blamed else "released", self.now)
            assert job.max_attempts is not None
            if job.abort:
                self._end(job, "aborted")
            elif job.id not in blamed:
                job.attempts -= 1
                job.alone = True
                self._wait(job, job.run_at)
            elif job.attempts >= job.max_attempts:
                self._end(job, "failed")
            else:
                pause = timedelta(seconds=min(300, 2**job.attempts))
                self._wait(job, self.now + pause if job.attempts > 1 else job.run_at)
        self.workers = {worker: beat for worker, beat in self.workers.items() if worker in alive}
        return {job.id: job.status == "failed" for job in lost}

    def _is_to_blame(self, job: ModelJob) -> bool:
        """Whether nobody else can have ended its worker: it ran by itself, or was the only one."""
        if job.alone:
            return job.began_alone == job.lease
        others = [other for other in self.jobs.values() if other.id != job.id]
        beside = any(other.status == "doing" and other.worker == job.worker for other in others)
        return not beside and not any(
            worker == job.worker and outcome in ("crashed", "released") and job.started and at > job.started
            for other in others
            for worker, outcome, at in other.told
        )

    # What a person does

    def cancel(self, job_ids: Iterable[int]) -> dict[int, bool]:
        """Job → whether it still runs."""
        changed = {}
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if job is not None and job.status in ("todo", "doing"):
                changed[job_id] = job.status == "doing"
                if job.status == "doing":
                    job.abort = True
                else:
                    self._end(job, "cancelled")
        return changed

    def retry(self, job_ids: Collection[int]) -> list[int]:
        chosen = [
            job for job in self.by_id() if job.id in job_ids and job.status not in ("doing", "succeeded")
        ]
        for job in chosen:
            if job.status != "todo" and self._waiting_under(job.key):
                job.key = None
            job.status, job.attempts, job.abort, job.worker, job.ended = "todo", 0, False, None, None
            job.alone, job.began_alone = False, None
            job.run_at = self.now
        return [job.id for job in chosen]

    def prune(self, statuses: Collection[str], older_than: timedelta) -> set[int]:
        old = {
            job.id
            for job in self.jobs.values()
            if job.status in statuses and job.ended is not None and job.ended < self.now - older_than
        }
        for job_id in old:
            del self.jobs[job_id]
        self.keys = {key: held for key, held in self.keys.items() if held[0] not in old}
        return old

    def by_id(self) -> list[ModelJob]:
        return sorted(self.jobs.values(), key=lambda job: job.id)


def _goes_before(one: ModelJob, other: ModelJob) -> bool:
    """Whether one is claimed first. Of one priority, what was put off and what was not are two lines, and two
    queues as well."""
    if one.priority != other.priority:
        return one.priority > other.priority
    if one.queue != other.queue or (one.run_at is None) != (other.run_at is None):
        return False
    if one.run_at is None or other.run_at is None:
        return (-one.priority, one.id) < (-other.priority, other.id)
    return one.priority == other.priority and (one.run_at, one.id) < (other.run_at, other.id)
