"""A handler's writes, the completion and what follows commit together, or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.queueing import claim, claim_one, query, row, state, states

from docyard_queue import Attempt, LeaseLost, NewJob, QueueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema import Database


@pytest.fixture
async def effects(database: Database) -> None:
    await query(database, "CREATE TABLE public.effects (job_id bigint)")


async def count(database: Database) -> int:
    [found] = await query(database, "SELECT count(*) FROM public.effects")
    return int(found["count"])


@pytest.mark.usefixtures("effects")
async def test_effects_completion_and_follow_up_are_one(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    async with attempt.commit({"n": 1}) as connection:
        await connection.execute("INSERT INTO public.effects VALUES (%s)", [attempt.job.id])
        [follow_up] = await attempt.enqueue(NewJob("other"), connection=connection)
        assert await states(database) == ["running"], "nobody else sees any of it yet"
    assert attempt.committed
    assert await state(database, attempt.job.id) == "completed"
    assert await state(database, follow_up) == "available"
    assert (await row(database, attempt.job.id))["result"] == {"n": 1}
    assert await count(database) == 1


@pytest.mark.usefixtures("effects")
async def test_an_error_in_the_block_undoes_all_of_it(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with attempt.commit() as connection:
            await connection.execute("INSERT INTO public.effects VALUES (1)")
            await attempt.enqueue(NewJob("other"), connection=connection)
            raise ZeroDivisionError
    assert not attempt.committed
    assert await states(database) == ["running"]
    assert await count(database) == 0
    async with attempt.commit():
        pass
    assert attempt.committed, "a block that was rolled back may be tried again"


@pytest.mark.usefixtures("effects")
async def test_a_rollback_that_the_transaction_swallows_is_no_commit(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    async with attempt.commit() as connection:
        await connection.execute("INSERT INTO public.effects VALUES (1)")
        raise psycopg.Rollback
    assert not attempt.committed
    assert (await state(database, attempt.job.id), await count(database)) == ("running", 0)


async def lose(database: Database, attempt: Attempt) -> None:
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'todo'")
    [newer] = await claim(database)
    assert newer.id == attempt.job.id


async def test_a_lost_lease_raises_before_the_effects(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    await lose(database, attempt)
    entered = False
    with pytest.raises(LeaseLost, match=f"Job {attempt.job.id} is no longer held under lease 1") as caught:
        async with attempt.commit():
            entered = True
    assert not entered
    assert (caught.value.job_id, caught.value.lease, caught.value.code) == (attempt.job.id, 1, "lease_lost")
    assert await state(database, attempt.job.id) == "running"


async def test_the_lease_cannot_be_lost_inside_the_block(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    async with attempt.commit():
        # A rescuer passes over the locked row.
        taken = await query(
            database,
            "SELECT id FROM docyard.procrastinate_jobs WHERE status = 'doing' FOR UPDATE SKIP LOCKED",
        )
        assert taken == []


async def test_a_second_commit_is_refused(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    async with attempt.commit():
        with pytest.raises(QueueError, match="committed already"):
            async with attempt.commit():
                pass
    with pytest.raises(QueueError, match="committed already"):
        async with attempt.commit():
            pass
    assert await state(database, attempt.job.id) == "completed"


# The sync twin


def sync_attempt(database: Database, url: str, job: Any) -> Attempt:
    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    return Attempt(job, database, connect)


@pytest.mark.usefixtures("effects")
async def test_the_sync_twin_commits_all_or_nothing(database: Database, url: str) -> None:
    attempt = sync_attempt(database, url, await claim_one(database))
    with pytest.raises(ZeroDivisionError), attempt.commit_sync() as connection:  # noqa: PT012
        connection.execute("INSERT INTO public.effects VALUES (1)")
        raise ZeroDivisionError
    with attempt.commit_sync() as connection:
        connection.execute("INSERT INTO public.effects VALUES (1)")
        raise psycopg.Rollback
    assert (attempt.committed, await count(database)) == (False, 0)
    with attempt.commit_sync(["done"]) as connection:
        connection.execute("INSERT INTO public.effects VALUES (1)")
    assert (attempt.committed, await count(database)) == (True, 1)
    assert (await row(database, attempt.job.id))["result"] == ["done"]
    with pytest.raises(QueueError, match="committed already"), attempt.commit_sync():
        pass


async def test_the_sync_twin_raises_for_a_lost_lease(database: Database, url: str) -> None:
    attempt = sync_attempt(database, url, await claim_one(database))
    await lose(database, attempt)
    with pytest.raises(LeaseLost), attempt.commit_sync():
        raise AssertionError("the block was entered")


async def test_an_attempt_outside_a_worker_has_no_sync_connections(database: Database) -> None:
    attempt = Attempt(await claim_one(database), database)
    with pytest.raises(QueueError, match="no synchronous connections"), attempt.commit_sync():
        pass
