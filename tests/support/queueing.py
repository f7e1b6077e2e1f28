"""Short words for tests of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row
from support.eventually import eventually
from support.locks import waiting_for_locks

from docyard_queue import NewJob, PostgresEngine
from docyard_queue.rescue import rescue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue import Job
    from docyard_queue.rescue import Rescued
    from docyard_schema import Database

KINDS = {"work": 3, "other": 3}


async def add(database: Database, *jobs: NewJob, **options: Any) -> list[int]:
    """Enqueue jobs; without any, one of kind ``work`` with these options."""
    return await PostgresEngine(database).enqueue(jobs or [NewJob("work", **options)])


async def claim(
    database: Database,
    slots: int = 10,
    *,
    worker: int = 1,
    kinds: dict[str, int] | None = None,
    queues: Sequence[str] | None = None,
) -> list[Job]:
    return await PostgresEngine(database).claim(worker, slots=slots, kinds=kinds or KINDS, queues=queues)


async def claim_one(database: Database, **options: Any) -> Job:
    """Enqueue one job and claim it."""
    [job_id] = await add(database, **options)
    [job] = await claim(database)
    assert job.id == job_id
    return job


async def rescue_all(database: Database, worker: int = 0) -> list[Rescued]:
    """What a rescuer takes that sees no process and every silent worker as gone."""
    return await rescue(database, worker, scope="")


async def query(database: Database, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Run a statement (schema named ``docyard``); its rows as dictionaries."""
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(database.sql(statement), values)
        return await cursor.fetchall() if cursor.description else []


async def row(database: Database, job_id: int) -> dict[str, Any]:
    """The stored row of a job."""
    [found] = await query(database, "SELECT * FROM docyard.procrastinate_jobs WHERE id = %s", job_id)
    return found


async def state(database: Database, job_id: int) -> str:
    [found] = await query(database, "SELECT state FROM docyard.jobs WHERE id = %s", job_id)
    return str(found["state"])


async def states(database: Database) -> list[str]:
    """The states of all jobs, in the order of their ids."""
    return [found["state"] for found in await query(database, "SELECT state FROM docyard.jobs ORDER BY id")]


async def attempts(database: Database, job_id: int) -> list[dict[str, Any]]:
    """What the view tells of a job's attempts."""
    return await query(database, "SELECT * FROM docyard.attempts WHERE job_id = %s ORDER BY lease", job_id)


async def until_somebody_waits_for_a_lock(url: str) -> None:
    await eventually(lambda: waiting_for_locks(url), what="a session to wait for a lock")


async def make_due(database: Database) -> None:
    """Let the time come for all that waits for a time."""
    await query(
        database, "UPDATE docyard.procrastinate_jobs SET scheduled_at = now() WHERE scheduled_at > now()"
    )
