"""Event rows are written while they are wanted, as procrastinate's own triggers would write them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import procrastinate
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.queueing import add, claim, claim_one, make_due, query, rescue_all, states
from support.working import drain

from docyard_queue import Inspection, NewJob, PostgresEngine, Registry, Snooze
from docyard_queue.outcomes import Failure
from docyard_queue.prune import prune
from docyard_schema import MigrationError
from docyard_schema.migrations import (
    event_rows_are_written,
    find_drift,
    load_steps,
    migrate,
    migration_status,
    rollback,
    write_event_rows,
)

if TYPE_CHECKING:
    from docyard_schema import Database

BACKOFF = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=timedelta(hours=1))
DEATH = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=None)
TOMORROW = datetime.now(UTC) + timedelta(days=1)

# Its triggers as they are in 0002, before 0003 takes them away.
OWN = {
    "status_events_update": "AFTER UPDATE OF status ON docyard.procrastinate_jobs FOR EACH ROW "
    "EXECUTE FUNCTION docyard.procrastinate_trigger_function_status_events_update_v1()",
    "status_events_insert": "AFTER INSERT ON docyard.procrastinate_jobs FOR EACH ROW "
    "WHEN (new.status = 'todo') "
    "EXECUTE FUNCTION docyard.procrastinate_trigger_function_status_events_insert_v1()",
    "scheduled_events": "AFTER UPDATE OR INSERT ON docyard.procrastinate_jobs FOR EACH ROW "
    "WHEN (new.scheduled_at IS NOT NULL AND new.status = 'todo') "
    "EXECUTE FUNCTION docyard.procrastinate_trigger_function_scheduled_events_v1()",
    "abort_requested_events": "AFTER UPDATE OF abort_requested ON docyard.procrastinate_jobs FOR EACH ROW "
    "WHEN (new.abort_requested) "
    "EXECUTE FUNCTION docyard.procrastinate_trigger_abort_requested_events_procedure_v1()",
}


async def switch(database: Database, *, on: bool) -> bool:
    async with database.dedicated() as connection:
        return await write_event_rows(connection, database.namespace, wanted=on)


async def events(database: Database, job_id: int | None = None) -> list[str]:
    found = await query(
        database,
        "SELECT type::text FROM docyard.procrastinate_events "
        "WHERE %s::bigint IS NULL OR job_id = %s ORDER BY id",
        job_id, job_id,
    )  # fmt: skip
    return [event["type"] for event in found]


async def everything_happens(database: Database) -> list[tuple[int, str, bool]]:
    """Drive jobs through what can become of them; their events: job counted from 0, type, in the future."""
    engine, inspection = PostgresEngine(database), Inspection(database)
    await query(database, "DELETE FROM docyard.procrastinate_jobs")
    first, *_ = await add(database, *[NewJob("work", {"n": n}) for n in range(7)])
    await add(database, NewJob("work", run_at=TOMORROW), NewJob("work", unique_key="k"))
    held = await claim(database, 7)
    await engine.complete([(job, None) for job in held[:2]])
    await engine.settle(held[2], BACKOFF)
    await engine.settle(held[3], DEATH)
    await engine.settle(held[4], Snooze(timedelta(hours=1)))
    await inspection.cancel([held[5].id])
    await engine.release(held[5], "the worker stops")
    await rescue_all(database)
    await inspection.retry([held[3].id])
    await inspection.cancel([first + 7, first + 8])
    await make_due(database)
    await engine.complete([(job, None) for job in await claim(database, 20)])
    found = await query(
        database,
        "SELECT job_id - %s AS job, type::text, at > now() + interval '1 minute' AS later "
        "FROM docyard.procrastinate_events ORDER BY job_id, id",
        first,
    )
    return [(event["job"], event["type"], event["later"]) for event in found]


async def test_they_are_those_that_procrastinates_own_triggers_write(database: Database) -> None:
    for name, trigger in OWN.items():
        await query(database, f"CREATE TRIGGER procrastinate_trigger_{name}_v1 {trigger}")
    expected = await everything_happens(database)
    for name in OWN:
        await query(database, f"DROP TRIGGER procrastinate_trigger_{name}_v1 ON docyard.procrastinate_jobs")
    await switch(database, on=True)
    assert await everything_happens(database) == expected
    assert {type_ for _, type_, _ in expected} == {
        "deferred", "started", "succeeded", "failed", "deferred_for_retry", "cancelled", "abort_requested",
        "aborted", "scheduled", "retried",
    }  # fmt: skip


async def test_none_is_written_unless_they_are_wanted(database: Database) -> None:
    async with database.dedicated() as connection:
        assert not await event_rows_are_written(connection, database.namespace)
    assert await everything_happens(database) == []
    assert await switch(database, on=True)
    assert not await switch(database, on=True)
    await add(database)
    assert await switch(database, on=False)
    assert not await switch(database, on=False)
    await claim(database)
    assert (await events(database))[-1:] == ["deferred"]


async def test_a_worker_and_producers_work_on_while_they_are_switched(database: Database) -> None:
    registry, count = Registry(), 300

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        pass

    async def produce() -> None:
        for _ in range(count):
            await add(database)

    async def toggle() -> None:
        for on in (True, False) * 5:
            await switch(database, on=on)
        await switch(database, on=True)

    async with asyncio.timeout(60):
        await asyncio.gather(produce(), toggle(), drain(database, registry))
        await drain(database, registry)
    assert await states(database) == ["completed"] * count
    [job_id] = await add(database)
    await drain(database, registry)
    assert await events(database, job_id) == ["deferred", "started", "succeeded"]


async def test_a_second_request_to_end_is_no_second_event_and_a_cancelled_job_can_be_retried(
    database: Database,
) -> None:
    await switch(database, on=True)
    job, inspection = await claim_one(database), Inspection(database)
    await inspection.cancel([job.id])
    await inspection.cancel([job.id])
    assert await events(database, job.id) == ["deferred", "started", "abort_requested"]
    [waiting] = await add(database)
    await inspection.cancel([waiting])
    await inspection.retry([waiting])
    assert await events(database, waiting) == ["deferred", "cancelled", "scheduled", "retried"]


async def test_with_them_procrastinates_client_deletes_old_jobs_and_all_that_hangs_on_them(
    database: Database, url: str
) -> None:
    await switch(database, on=True)
    engine = PostgresEngine(database)
    done, dead, young = [
        await claim_one(database, unique_key=key, unique_scope="until_done") for key in ("a", "b", "c")
    ]
    await engine.complete([(done, None), (young, None)])
    await engine.settle(dead, DEATH)
    [waiting] = await add(database)
    await query(
        database,
        "UPDATE docyard.procrastinate_events SET at = at - interval '3 hours' WHERE job_id <> %s",
        young.id,
    )
    conninfo = make_conninfo(url, options="-c search_path=public,docyard")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))
    async with app.open_async():
        await app.job_manager.delete_old_jobs(nb_hours=2)
        assert await states(database) == ["dead", "completed", "available"]
        await app.job_manager.delete_old_jobs(nb_hours=2, include_failed=True)
    left = await query(database, "SELECT id FROM docyard.procrastinate_jobs ORDER BY id")
    assert [job["id"] for job in left] == [young.id, waiting]
    keys = await query(database, "SELECT key FROM docyard.unique_keys")
    assert [key["key"] for key in keys] == ["c"]
    assert await query(database, "SELECT job_id FROM docyard.job_attempts") == []
    assert set(await events(database)) == {"deferred", "started", "succeeded"}


async def test_prune_takes_them_along(database: Database) -> None:
    await switch(database, on=True)
    await PostgresEngine(database).complete([(await claim_one(database), None)])
    assert await prune(database, older_than=timedelta(0)) == {"completed": 1, "cancelled": 0}
    assert await events(database) == []


async def test_whoever_may_change_a_job_need_not_be_able_to_write_events(
    database: Database, url: str
) -> None:
    await switch(database, on=True)
    [job_id] = await add(database)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        role = f"operator_{connection.info.dbname}"
        await connection.execute(f"CREATE ROLE {role}".encode())
        await connection.execute(
            f"GRANT USAGE ON SCHEMA docyard TO {role};"
            f"GRANT SELECT (id, status), UPDATE (status) ON docyard.procrastinate_jobs TO {role}".encode()
        )
        await connection.execute(f"SET LOCAL ROLE {role}".encode())
        await connection.execute(
            "UPDATE docyard.procrastinate_jobs SET status = 'cancelled' WHERE id = %s", [job_id]
        )
        await connection.execute("RESET ROLE")
        cursor = await connection.execute("SELECT type::text FROM docyard.procrastinate_events ORDER BY id")
        assert await cursor.fetchall() == [("deferred",), ("cancelled",)]
        await connection.rollback()  # the role too, which belongs to the whole server


@pytest.mark.parametrize("event", ["insert", "update"])
async def test_their_rights_are_nobodys_on_a_table_of_ones_own(database: Database, event: str) -> None:
    await query(database, "CREATE TABLE public.mine AS SELECT * FROM docyard.procrastinate_jobs")
    await query(database, "INSERT INTO public.mine (id) VALUES (1)")
    tables = "NEW TABLE AS inserted" if event == "insert" else "OLD TABLE AS before NEW TABLE AS updated"
    await query(
        database,
        f"CREATE TRIGGER mine AFTER {event} ON public.mine REFERENCING {tables} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION docyard.record_events_of_{event}()",
    )
    change = (
        "INSERT INTO public.mine (id) VALUES (2)" if event == "insert" else "UPDATE public.mine SET id = 2"
    )
    with pytest.raises(psycopg.errors.RaiseException, match=r"not of public\.mine"):
        await query(database, change)


async def test_drift_knows_them_on_and_off_and_finds_what_was_changed(database: Database) -> None:
    async def drift() -> list[str]:
        async with database.dedicated() as connection:
            return await find_drift(connection, database.namespace, to=len(load_steps()))

    await switch(database, on=True)
    assert await drift() == []
    await query(
        database,
        "ALTER TABLE docyard.procrastinate_jobs DISABLE TRIGGER record_events_of_update",
    )
    [found] = await drift()
    assert found.startswith("changed: trigger procrastinate_jobs.record_events_of_update")
    await query(database, "DROP TRIGGER record_events_of_update ON docyard.procrastinate_jobs")
    assert await drift() == ["missing: trigger procrastinate_jobs.record_events_of_update"]
    await switch(database, on=False)
    assert await drift() == []


async def test_the_step_goes_down_and_up_with_them_and_keeps_the_rows(database: Database) -> None:
    await switch(database, on=True)
    await add(database)
    step = next(step for step in load_steps() if step.name == "procrastinate_functions")
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=step.number - 1)
        status = await migration_status(connection, database.namespace)
        assert await find_drift(connection, database.namespace, to=status.version) == []
        await migrate(connection, database.namespace)
    await claim(database)
    assert await events(database) == ["deferred"]


async def test_a_table_in_long_use_is_not_waited_for_for_ever(database: Database) -> None:
    await add(database)
    async with database.transaction() as reader:
        await reader.execute(database.sql("UPDATE docyard.procrastinate_jobs SET priority = 1"))
        async with database.dedicated() as connection:
            with pytest.raises(MigrationError, match="nothing was changed"):
                await write_event_rows(connection, database.namespace, wanted=True, timeout_seconds=0.1)
    assert await switch(database, on=True)
