"""Any order of the queue's verbs leaves the database as a model in plain Python says.

With ``HYPOTHESIS_PROFILE=long`` it looks by chance and for long; without, it is short and always the same.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import psycopg
import pytest
from conftest import opened
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.queue_model import FINAL, HEARTBEAT, QueueModel
from support.queueing import query

from docyard_queue import (
    Attempt,
    Cancel,
    Done,
    Inspection,
    LeaseLost,
    NewJob,
    PostgresEngine,
    Snooze,
    lock_lines,
)
from docyard_queue.enqueue import enqueue_async
from docyard_queue.outcomes import Failure
from docyard_queue.prune import prune
from docyard_queue.queues import pause, resume
from docyard_queue.rescue import statements as worker_statements
from docyard_queue.selection import Change, Selection, change_selected
from docyard_queue.states import state_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from docyard_queue import Job
    from docyard_queue.outcomes import Outcome

_T = TypeVar("_T")

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
KINDS = {"work": 3, "other": 2}
QUEUES = ("a", "b")
WORKERS = 3
STATUSES = {"completed": {"succeeded"}, "cancelled": {"cancelled", "aborted"}, "dead": {"failed"}}

settings.register_profile(
    "docyard",
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "long",
    settings.get_profile("docyard"),
    max_examples=20_000,
    stateful_step_count=60,
    derandomize=False,
    print_blob=True,
)

DELAYS = st.sampled_from([timedelta(seconds=seconds) for seconds in (0, 0, 0, 1, 30, 600)])
IDS = st.lists(st.integers(0, 30), min_size=1, max_size=4)
SCOPES = st.sampled_from(
    [{}, {"unique_scope": "until_done"}, {"unique_for": timedelta(seconds=40)}, {"unique_for": timedelta(1)}]
)
SELECTIONS = st.builds(
    Selection,
    kind=st.sampled_from([None, "work"]),
    queue=st.sampled_from([None, "a"]),
    older_than=st.sampled_from([None, timedelta(seconds=20)]),
)


ENDS = st.one_of(
    st.just(Done()),
    st.just("commit"),
    st.sampled_from(["roll back", "release", Cancel("no longer wanted")]),
    st.builds(Snooze, DELAYS),
    st.builds(
        Failure,
        code=st.just("boom"),
        error_class=st.just("Boom"),
        message=st.just("boom"),
        traceback=st.just(""),
        retry_in=st.one_of(DELAYS, DELAYS, st.none()),
    ),
)


@st.composite
def new_jobs(draw: st.DrawFn) -> tuple[NewJob, timedelta | None]:
    """A job, and how long from now it is to run (None: at once)."""
    key = draw(st.sampled_from([None, None, "k1", "k2"]))
    job = NewJob(
        draw(st.sampled_from([*KINDS])),
        queue=draw(st.sampled_from(QUEUES)),
        priority=draw(st.sampled_from([0, 0, 0, 1, -1])),
        max_attempts=draw(st.sampled_from([None, 1, 9, 9])),
        lock_key=draw(st.sampled_from([None, "l1", "l1", "l2"])),
        unique_key=key,
        **(draw(SCOPES) if key else {}),
    )
    return job, draw(st.sampled_from([None, None]) | DELAYS)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the model knows of a job, as the database has it."""

    status: str
    attempts: int
    lease: int
    worker: int | None
    abort: bool
    key: str | None
    run_at: datetime | None
    ended: datetime | None
    max_attempts: int | None


class QueueMachine(RuleBasedStateMachine):
    """Producers, three workers and an operator over one database, and the model of it."""

    url: ClassVar[str]
    runner: ClassVar[asyncio.Runner]
    database: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.engine = PostgresEngine(self.database)
        self.inspection = Inspection(self.database)
        self.model = QueueModel(BEGINNING)
        # Every claim that ever was, so that late ones are tried as well.
        self.claims: list[Job] = []
        self.before: dict[int, Stored] = {}
        self.retried: set[int] = set()
        self.pruned: set[int] = set()
        self.claimed: set[int] = set()
        self.committed: list[tuple[int, int]] = []

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(work)

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        return self.run(query(self.database, statement, *values))

    @initialize()
    def an_empty_queue(self) -> None:
        self.sql(
            "TRUNCATE docyard.procrastinate_jobs, docyard.job_attempts, docyard.unique_keys, docyard.queues, "
            "docyard.procrastinate_workers, public.effects RESTART IDENTITY CASCADE"
        )
        self._set_clock()
        for _ in range(WORKERS):
            self._register()
        self.enqueue([(NewJob("work", queue="a", lock_key="l1"), None)] * 2, together=True)

    # Producers

    @rule(jobs=st.lists(new_jobs(), min_size=1, max_size=2), together=st.booleans())
    def enqueue(self, jobs: list[tuple[NewJob, timedelta | None]], together: bool) -> None:
        wanted = [
            replace(job, run_at=None if delay is None else self.model.now + delay) for job, delay in jobs
        ]
        if together:
            ids = self.run(self.engine.enqueue(wanted))
            # Those without a key go first, the others in the order of their keys.
            order = sorted(range(len(wanted)), key=lambda position: _turn(wanted[position]))
        else:
            ids = [self.run(self._enqueue_one(job)) for job in wanted]
            order = [*range(len(wanted))]
        for position in order:
            holder = self.model.holder(wanted[position])
            if holder is None:
                self.model.add(ids[position], wanted[position])
            else:
                assert ids[position] == holder

    async def _enqueue_one(self, job: NewJob) -> int:
        async with self.database.transaction() as connection:
            return await enqueue_async(connection, job)

    # Workers

    @rule(
        worker=st.integers(1, WORKERS), slots=st.integers(1, 4), ends=st.lists(st.none() | ENDS, max_size=4)
    )
    def work(self, worker: int, slots: int, ends: list[Outcome | str | None]) -> None:
        """Claim, and end some of what was claimed; None goes on running."""
        for job, end in zip(self.claim(worker, slots, KINDS, None), ends, strict=False):
            if end is not None:
                self.end(job, end)

    @rule(
        worker=st.integers(1, WORKERS),
        slots=st.integers(1, 4),
        kinds=st.sampled_from([KINDS, KINDS, {"work": 3}]),
        queues=st.sampled_from([None, None, ("a",), ("a", "b")]),
    )
    def claim_some(
        self, worker: int, slots: int, kinds: dict[str, int], queues: tuple[str, ...] | None
    ) -> None:
        self.claim(worker, slots, kinds, queues)

    def claim(
        self, worker: int, slots: int, kinds: dict[str, int], queues: tuple[str, ...] | None
    ) -> list[Job]:
        # A worker does so before it believes that nothing is left: parking never changes the order.
        self.run(self.engine.unpark())
        taken = self.run(self.engine.claim(worker, slots=slots, kinds=kinds, queues=queues))
        self.model.claim([job.id for job in taken], worker, slots, kinds, queues)
        for job in taken:
            known = self.model.jobs[job.id]
            assert (job.lease, job.attempt, job.max_attempts) == (
                known.lease, known.attempts, known.max_attempts
            )  # fmt: skip
            assert job.alone == known.alone
            if job.alone and job.id % 2:
                assert self.run(self.engine.begin_alone(job))
                known.began_alone = job.lease
        self.claims += taken
        self.claimed = {job.id for job in taken}
        return taken

    @precondition(lambda self: self.claims)
    @rule(which=st.integers(0, 30), any_claim=st.sampled_from([False, False, True]), end=ENDS)
    def end_an_attempt(self, which: int, any_claim: bool, end: Outcome | str) -> None:
        """One that runs, or any that ever was: then mostly nothing is written."""
        among = [job for job in self.claims if self.model.held(job.id, job.lease)]
        among = self.claims if any_claim or not among else among
        self.end(among[which % len(among)], end)

    @precondition(lambda self: self.superseded)
    @rule(which=st.integers(0, 30), end=ENDS)
    def end_an_attempt_too_late(self, which: int, end: Outcome | str) -> None:
        """Its job runs again by now, under another lease."""
        self.end(self.superseded[which % len(self.superseded)], end)

    @property
    def superseded(self) -> list[Job]:
        """Claims whose job runs under a later one."""
        running = {job.id: job.lease for job in self.model.jobs.values() if job.status == "doing"}
        return [job for job in self.claims if running.get(job.id, 0) > job.lease]

    def end(self, job: Job, end: Outcome | str) -> None:
        held = self.model.held(job.id, job.lease)
        match end:
            case Done():
                lost = self.run(self.engine.complete([(job, {"by": job.lease})]))
                assert (lost == []) == (held is not None or self.model.completed_before(job.id, job.lease))
            case "commit" | "roll back":
                # A lost lease is told of before the block; a block that raises leaves the job as it is.
                assert self.run(self._commit(job, fails=end == "roll back")) == (held is not None)
                if held and end == "commit":
                    self.committed.append((job.id, job.lease))
            case "release":
                assert self.run(self.engine.release(job, "the worker was stopped")) == (held is not None)
            case Failure() | Snooze() | Cancel():
                assert self.run(self.engine.settle(job, end)) == (held is not None)
        if held is None:
            return
        match end:
            case Done() | "commit":
                self.model.complete(held)
            case "release":
                self.model.put_back(held, "released")
            case Failure(retry_in=retry_in):
                self.model.fail(held, retry_in)
            case Snooze(delay=delay):
                self.model.put_back(held, "snoozed", delay)
            case Cancel():
                self.model.cancel_running(held)

    async def _commit(self, job: Job, *, fails: bool) -> bool:
        attempt = Attempt(job, self.database)
        try:
            async with attempt.commit() as connection:
                await connection.execute("INSERT INTO public.effects VALUES (%s, %s)", [job.id, job.lease])
                if fails:
                    raise ZeroDivisionError
        except LeaseLost:
            return False
        except ZeroDivisionError:
            assert not attempt.committed
        return True

    def give_back_strays(self, worker: int, lost: int) -> None:
        """The answer to its claim was lost for some of the worker's jobs."""
        running = [job for job in self.model.by_id() if job.status == "doing" and job.worker == worker]
        strays, kept = running[:lost], running[lost:]
        held = [(job.id, job.lease) for job in kept]
        given_back = self.run(self.engine.release_strays(worker, held, grace_seconds=0))
        assert given_back == [job.id for job in strays]
        for job in strays:
            self.model.put_back(job, "released")

    def heartbeat(self, worker: int, signs_off: bool) -> None:
        """Or its end; the jobs that it still has are for whoever rescues next."""
        if signs_off:
            self._worker_statement(worker_statements.unregister, worker=worker)
            self.model.workers.pop(worker, None)
            return
        wanted = {
            job.id
            for job in self.model.jobs.values()
            if job.status == "doing" and job.worker == worker and job.abort
        }
        assert set(self.run(self.engine.cancel_requested(worker))) == wanted
        self._beat(worker)

    def die(self, worker: int) -> None:
        """One worker is silent for three heartbeats; the others go on beating."""
        self._advance(3 * HEARTBEAT + timedelta(seconds=1))
        for other in range(1, WORKERS + 1):
            if other != worker:
                self._beat(other)

    def rescue(self, asker: int, silent: bool) -> None:
        rescued = self.run(self.engine.rescue(asker, scope="", silent=silent))
        assert {job.job_id: job.dead for job in rescued} == self.model.rescue(asker, silent=silent)

    # A person

    def change_a_few(self, positions: list[int], retries: bool) -> None:
        """Retry or cancel jobs by their ids, the same one now and then twice."""
        known = sorted(self.model.jobs)
        ids = [known[position % len(known)] for position in positions] if known else []
        if not ids:
            return
        if retries:
            self.retried = set(self.run(self.inspection.retry(ids)))
            assert sorted(self.retried) == self.model.retry(ids)
        else:
            assert self.run(self.inspection.cancel(ids)) == self.model.cancel(dict.fromkeys(ids))

    def change_many(self, selection: Selection, redrives: bool, limit: int | None, size: int) -> None:
        fitting = self._fitting(selection, {"failed"} if redrives else {"todo", "doing"})[:limit]
        change = Change.RETRY if redrives else Change.CANCEL
        chosen = replace(selection, state="dead") if redrives else selection
        done = self.run(change_selected(self.database, change, chosen, limit=limit, batch_size=size))
        if redrives:
            # The first of several with one key takes it along, in whatever batches they are.
            assert done == [job_id for one in fitting for job_id in self.model.retry([one])]
            self.retried = set(done)
        else:
            assert done == fitting == [*self.model.cancel(fitting)]

    def pause(self, queue: str, resumes: bool) -> None:
        if resumes:
            assert self.run(resume(self.database, queue)) == (queue in self.model.paused)
            self.model.paused.discard(queue)
        else:
            self.run(pause(self.database, queue))
            self.model.paused.add(queue)

    def prune(self, state: str, older_than: timedelta, size: int) -> None:
        done = self.run(prune(self.database, older_than=older_than, states=[state], batch_size=size))
        self.pruned = self.model.prune(STATUSES[state], older_than)
        assert done == {state: len(self.pruned)}

    def time_passes(self, by: int) -> None:
        self._advance(timedelta(seconds=by))

    # The rules of those that need few words: fewer rules, so that each comes often enough.

    @rule(
        by=st.sampled_from([1, 5, 11, 11, 20, 60, 700, 100_000]),
        dying=st.none() | st.integers(1, WORKERS),
        asker=st.none() | st.integers(1, WORKERS),
        silent=st.sampled_from([True, True, False]),
    )
    def time_goes_by(self, by: int, dying: int | None, asker: int | None, silent: bool) -> None:
        if dying is None:
            self._advance(timedelta(seconds=by))
        else:
            self.die(dying)
        if asker is not None:
            self.rescue(asker, silent)

    @rule(
        positions=IDS, retries=st.booleans(), selection=st.none() | SELECTIONS,
        limit=st.sampled_from([1, 2, None]), size=st.sampled_from([1, 2, 1000]),
    )  # fmt: skip
    def a_person_changes_jobs(
        self, positions: list[int], retries: bool, selection: Selection | None, limit: int | None, size: int
    ) -> None:
        if selection is None:
            self.change_a_few(positions, retries)
        else:
            # Nobody cancels everything all the time.
            self.change_many(selection, retries, limit if retries else 1, size)

    @rule(what=st.integers(0, 4), worker=st.integers(1, WORKERS), which=st.integers(0, 5), now=st.booleans())
    def a_chore_is_done(self, what: int, worker: int, which: int, now: bool) -> None:
        if what == 0:
            self.pause(QUEUES[which % 2], resumes=which > 1)
        elif what == 1:
            state = [*STATUSES][which % 3]
            self.prune(state, timedelta(0) if now else timedelta(minutes=1), size=1 + which)
        elif what == 2:
            self.give_back_strays(worker, lost=which % 3)
        elif what == 3:
            # A crowd comes, and all but its first are parked.
            job = NewJob("work", queue=QUEUES[which % 2], lock_key="l2")
            self.enqueue([(job, None)] * 5, together=True)
            self.run(self.engine.park())
        else:
            self.heartbeat(worker, signs_off=now)

    # What must hold

    @invariant()
    def the_database_is_as_the_model_says(self) -> None:
        if not self.model.workers and not self.model.seen:
            return
        stored = self._stored()
        assert stored == {
            job.id: Stored(
                job.status, job.attempts, job.lease, job.worker, job.abort, job.key, job.run_at, job.ended,
                job.max_attempts,
            )
            for job in self.model.jobs.values()
        }  # fmt: skip
        told = self.sql("SELECT job_id, lease, outcome FROM docyard.job_attempts")
        assert {(row["job_id"], row["lease"]): row["outcome"] for row in told} == {
            (job.id, lease): outcome
            for job in self.model.jobs.values()
            for lease, outcome in job.story.items()
        }
        held = self.sql("SELECT key, job_id, expires_at FROM docyard.unique_keys")
        assert {row["key"]: (row["job_id"], row["expires_at"]) for row in held} == self.model.keys
        workers = self.sql("SELECT id, last_heartbeat FROM docyard.procrastinate_workers")
        assert {row["id"]: row["last_heartbeat"] for row in workers} == self.model.workers
        effects = self.sql("SELECT job_id, lease FROM public.effects")
        assert sorted((row["job_id"], row["lease"]) for row in effects) == sorted(self.committed)
        self._always(stored)
        self.before, self.retried, self.pruned, self.claimed = stored, set(), set(), set()

    def _always(self, stored: dict[int, Stored]) -> None:
        """What holds whatever the model says."""
        locks = {job.id: job.lock for job in self.model.jobs.values()}
        running = [locks[job_id] for job_id, row in stored.items() if row.status == "doing" and locks[job_id]]
        assert len(running) == len(set(running)), "two jobs run under one lock key"
        waiting = [row.key for row in stored.values() if row.status == "todo" and row.key]
        assert len(waiting) == len(set(waiting)), "two jobs wait under one unique key"
        assert self.before.keys() - stored.keys() == self.pruned, "a job was lost"
        assert all(self.before[job_id].status in FINAL for job_id in self.pruned)
        done_once = [job_id for job_id, _ in self.committed]
        assert len(done_once) == len(set(done_once)), "a job's effects happened twice"
        for job_id, row in stored.items():
            assert 0 <= row.attempts <= (row.max_attempts or row.attempts)
            assert (row.status in FINAL) == (row.ended is not None)
            if row.status == "doing":
                assert row.worker in range(1, WORKERS + 1)
                assert row.attempts > 0
            before = self.before.get(job_id)
            if before is None:
                continue
            assert row.lease == before.lease + (job_id in self.claimed)
            if before.status in FINAL and row.status != before.status:
                assert job_id in self.retried, "an ended job began again by itself"
                assert before.status != "succeeded"
            # Whoever looked away between two steps sees what the view says.
            assert state_of(row.status, row.attempts, row.run_at, self.model.now) is not None

    def _stored(self) -> dict[int, Stored]:
        rows = self.sql(
            "SELECT id, status::text, attempts, lease, worker_id, abort_requested, queueing_lock, "
            "scheduled_at, finished_at, max_attempts FROM docyard.procrastinate_jobs"
        )
        return {
            row["id"]: Stored(
                row["status"], row["attempts"], row["lease"], row["worker_id"], row["abort_requested"],
                row["queueing_lock"], row["scheduled_at"], row["finished_at"], row["max_attempts"],
            )
            for row in rows
        }  # fmt: skip

    def _fitting(self, selection: Selection, statuses: set[str]) -> list[int]:
        since = self.sql(
            "SELECT id, coalesce(finished_at, created_at) AS since FROM docyard.procrastinate_jobs"
        )
        age = selection.older_than
        old = {row["id"] for row in since if age is None or row["since"] < self.model.now - age}
        return [
            job.id
            for job in self.model.by_id()
            if job.status in statuses
            and selection.kind in (None, job.kind)
            and selection.queue in (None, job.queue)
            and job.id in old
        ]

    def _advance(self, by: timedelta) -> None:
        self.model.now += by
        self._set_clock()

    def _set_clock(self) -> None:
        self.sql("SELECT set_config('docyard.now', %s, false)", self.model.now.isoformat())

    def _register(self) -> None:
        [(worker,)] = self._worker_statement(
            worker_statements.register, host="h", pid=1, scope="s", session=None, queues=None, kinds=None,
            heartbeat=HEARTBEAT.total_seconds(),
        )  # fmt: skip
        self.model.workers[worker] = self.model.now

    def _beat(self, worker: int) -> None:
        [(known, _)] = self._worker_statement(worker_statements.beat, worker=worker, state="running")
        assert known == (worker in self.model.workers)
        if not known:
            self._worker_statement(
                worker_statements.come_back, worker=worker, host="h", pid=1, scope="s", session=None,
                queues=None, kinds=None, heartbeat=HEARTBEAT.total_seconds(),
            )  # fmt: skip
        self.model.workers[worker] = self.model.now

    def _worker_statement(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        async def work() -> list[tuple[Any, ...]]:
            async with self.database.connection() as connection:
                cursor = await connection.execute(self.database.sql(statement), values)
                return await cursor.fetchall() if cursor.description else []

        return self.run(work())


def _turn(job: NewJob) -> tuple[bool, str, bool]:
    if job.unique_key is None:
        return False, "", False
    return True, job.unique_key, job.unique_scope == "waiting" and job.unique_for is None


@pytest.mark.slow
def test_any_order_of_verbs_leaves_what_the_model_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lines of a few jobs count as long.
    monkeypatch.setattr(lock_lines, "_FRONT", 2)
    profile = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "docyard"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.effects (job_id bigint, lease bigint)")
    with asyncio.Runner() as runner:
        # One connection, so that the clock that is set in it is everybody's.
        entered = opened(url, pool_min_size=1, pool_max_size=1, pool_lifetime_seconds=1_000_000)
        machine = type(
            "Queue", (QueueMachine,), {"runner": runner, "database": runner.run(entered.__aenter__())}
        )
        try:
            run_state_machine_as_test(machine, settings=profile)
        finally:
            runner.run(entered.__aexit__(None, None, None))
