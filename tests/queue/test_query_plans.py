"""The hot statements keep their plans on tables that are not small."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.queueing import query

from docyard_queue import batches as batches_module
from docyard_queue import claim as claim_module
from docyard_queue import minutes as minutes_module
from docyard_queue import prune as prune_module
from docyard_queue import rescue as rescue_module
from docyard_queue.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema import Database

CLAIM = {"worker": 1, "slots": 100, "kinds": ["work"], "limits": [3], "queues": None, "apart": []}


async def fill(database: Database) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs "
        "(queue_name, task_name, status, lock, priority, worker_id, finished_at) "
        "SELECT 'default', 'work', (CASE WHEN n <= 20000 THEN 'todo' WHEN n %% 1000 = 0 THEN 'doing' "
        "ELSE 'succeeded' END)::docyard.procrastinate_job_status, "
        "CASE WHEN n %% 2 = 0 THEN 'l' || n END, n %% 3, "
        "CASE WHEN n > 20000 THEN 1 END, CASE WHEN n > 20000 THEN now() END "
        "FROM generate_series(1, 60000) AS n",
    )
    await query(database, "ANALYZE docyard.procrastinate_jobs")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def explain(
    database: Database, statement: str, values: dict[str, Any], generic: str
) -> list[dict[str, Any]]:
    async with database.connection() as connection, connection.transaction(force_rollback=True):
        # A worker's statement is prepared and soon runs with a generic plan.
        await connection.execute(f"SET LOCAL plan_cache_mode = {generic}".encode())
        sql = database.sql(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {statement}")
        cursor = await connection.execute(sql, values, prepare=True)
        [[found]] = await cursor.fetchall()
    plan = json.loads(found) if isinstance(found, str) else found
    return list(nodes(plan[0]["Plan"]))


IN_THE_WAY = {
    "nothing": "SELECT 1 WHERE false",
    "jobs of the future": "SELECT 'default', 'todo', now() + interval '1 day', NULL, 9",
    "jobs of a paused queue": "SELECT 'paused', 'todo', NULL::timestamptz, NULL, 9",
    "jobs of a limited queue": "SELECT 'limited', 'todo', NULL::timestamptz, NULL, 9",
    "jobs with a partition key": "SELECT 'default', 'todo', NULL::timestamptz, 'tenant', 9",
    "jobs that have ended": "SELECT 'default', 'succeeded', NULL::timestamptz, NULL, 0",
}


@pytest.mark.parametrize("generic", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.fault(15)
@pytest.mark.parametrize("others", IN_THE_WAY)
async def test_a_claim_reads_no_more_than_it_takes_whatever_else_waits(
    database: Database, generic: str, others: str
) -> None:
    await query(database, "INSERT INTO docyard.queues (name, paused) VALUES ('paused', true)")
    await query(database, "INSERT INTO docyard.queues (name, concurrency) VALUES ('limited', 1)")
    if others != "nothing":
        await query(
            database,
            "INSERT INTO docyard.procrastinate_jobs "
            "(queue_name, task_name, status, scheduled_at, partition_key, priority) "
            "SELECT one.queue, 'work', one.status::docyard.procrastinate_job_status, one.scheduled_at, "
            f"one.key, one.priority FROM generate_series(1, 30000) AS n CROSS JOIN ({IN_THE_WAY[others]}) "
            "AS one (queue, status, scheduled_at, key, priority)",
        )
    await fill(database)
    found = await explain(database, claim_module.statements.claim, CLAIM, generic)
    scans = [
        node
        for node in found
        if node.get("Relation Name") == "procrastinate_jobs" and "Scan" in node["Node Type"]
    ]
    walks = [node for node in scans if node.get("Index Name") == "jobs_ready_idx" and node["Actual Rows"] > 1]
    assert len(walks) == 1, [(node.get("Index Name"), node["Actual Rows"]) for node in scans]
    for node in scans:
        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        # Of the hundred that are taken, two thirds ask for their lock key.
        assert read <= 250, (node.get("Index Name"), node["Node Type"], read)
        assert node["Node Type"] != "Seq Scan", "the whole table is read"


@pytest.mark.parametrize("generic", ["force_custom_plan", "force_generic_plan"])
async def test_claim_asks_an_index_whether_a_lock_is_held(database: Database, generic: str) -> None:
    await fill(database)
    found = await explain(database, claim_module.statements.claim, CLAIM, generic)
    probes = [node for node in found if node.get("Index Name") == "jobs_lock_idx"]
    assert probes, [node.get("Index Name") for node in found]


async def test_rescue_reads_only_running_jobs(database: Database) -> None:
    await fill(database)
    values = {"dead": [], "worker": 0, "silent": True, "give_up_keys": False}
    found = await explain(database, rescue_module.statements.rescue, values, "force_generic_plan")
    jobs = [
        node
        for node in found
        if node.get("Relation Name") == "procrastinate_jobs" and node.get("Alias") == "job"
    ]
    scans = [node for node in jobs if node["Node Type"] != "ModifyTable"]
    assert scans
    for node in scans:
        assert node["Node Type"] in ("Index Scan", "Bitmap Heap Scan"), node
        removed = node.get("Rows Removed by Filter", 0)
        assert removed <= 100, f"it looked at {removed} other rows through {node.get('Index Name')}"


async def test_rescue_asks_an_index_who_else_was_lost(database: Database) -> None:
    await fill(database)
    # Each of a worker of its own, so that the stored attempts are asked.
    await query(database, "UPDATE docyard.procrastinate_jobs SET worker_id = id WHERE status = 'doing'")
    await query(
        database,
        "INSERT INTO docyard.job_attempts (job_id, lease, attempt, worker_id, started_at, outcome) "
        "SELECT n, 1, 1, n, now(), CASE WHEN n %% 10 = 0 THEN 'crashed' ELSE 'failed' END "
        "FROM generate_series(1, 50000) AS n",
    )
    await query(database, "ANALYZE docyard.job_attempts")
    values = {"dead": [], "worker": 0, "silent": True, "give_up_keys": False}
    found = await explain(database, rescue_module.statements.rescue, values, "force_generic_plan")
    told = [node for node in found if node.get("Alias") == "told" and "Scan" in node["Node Type"]]
    assert [node.get("Index Name") for node in told if "Index Name" in node] == ["job_attempts_lost_idx"], (
        told
    )
    others = [node for node in found if node.get("Alias") == "other"]
    assert others
    assert all(node["Node Type"] != "Seq Scan" for node in others + told), others


async def test_the_beat_and_the_strays_read_only_the_workers_own_jobs(database: Database) -> None:
    await fill(database)
    statement = rescue_module.statements.cancel_requested
    found = await explain(database, statement, {"worker": 1}, "force_generic_plan")
    assert all(node["Node Type"] != "Seq Scan" for node in found), found


async def fill_with_history(database: Database) -> None:
    """Jobs that ended one a minute over forty days, and some that have not."""
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs "
        "(queue_name, task_name, status, worker_id, created_at, finished_at) "
        "SELECT 'q' || n %% 3, 'work', (CASE n %% 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' "
        "WHEN 2 THEN 'todo' WHEN 3 THEN 'doing' ELSE 'succeeded' END)::docyard.procrastinate_job_status, "
        "CASE WHEN n %% 100 <> 2 THEN 1 END, now() - n * interval '1 min', "
        "CASE WHEN n %% 100 NOT IN (2, 3) THEN now() - n * interval '1 min' END "
        "FROM generate_series(1, 60000) AS n",
    )
    await query(database, "VACUUM ANALYZE docyard.procrastinate_jobs")


@pytest.mark.parametrize("generic", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("state", "index"),
    [
        ("completed", "jobs_completed_idx"),
        ("cancelled", "jobs_cancelled_idx"),
        ("dead", "jobs_failed_idx"),
    ],
)
@pytest.mark.fault(15)
async def test_prune_reads_the_oldest_jobs_of_its_state_and_stops(
    database: Database, generic: str, state: str, index: str
) -> None:
    await fill_with_history(database)
    ended, time = prune_module._ENDED[JobState(state)]
    statement = prune_module._statements.delete_batch.replace("{ended}", ended).replace("{time}", time)
    values = {"since": prune_module._BEGINNING, "age": 7 * 86400.0, "size": 100, "passed": [0]}
    found = await explain(database, statement, values, generic)
    [walk] = [node for node in found if node.get("Index Name") == index]
    assert walk["Actual Rows"] <= 100
    read = [
        node
        for node in found
        if node.get("Relation Name") == "procrastinate_jobs"
        and node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan")
        and node["Actual Rows"] > 100
    ]
    assert not read, read


async def test_queue_stats_never_reads_what_ended_long_ago(database: Database) -> None:
    await fill_with_history(database)
    found = await explain(database, "SELECT * FROM docyard.queue_stats", {}, "force_custom_plan")
    jobs = [node for node in found if node.get("Relation Name") == "procrastinate_jobs"]
    assert jobs
    for node in jobs:
        assert node["Node Type"] != "Seq Scan", node
        assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 1500, node


@pytest.mark.parametrize("generic", ["force_custom_plan", "force_generic_plan"])
async def test_whether_a_batch_has_ended_is_asked_of_an_index(database: Database, generic: str) -> None:
    await fill(database)
    await query(
        database,
        "WITH made AS (INSERT INTO docyard.batches (id, callback) "
        "SELECT gen_random_uuid(), '{}' FROM generate_series(1, 100) RETURNING id) "
        "UPDATE docyard.procrastinate_jobs SET batch_id = (SELECT id FROM made LIMIT 1) WHERE id %% 3 = 0",
    )
    await query(database, "ANALYZE docyard.procrastinate_jobs, docyard.batches")
    [batch] = await query(database, "SELECT id FROM docyard.batches LIMIT 1")
    for ids in ([batch["id"]], None):
        found = await explain(database, batches_module._statements.close_one, {"ids": ids}, generic)
        read = [node for node in found if node.get("Relation Name") == "procrastinate_jobs"]
        assert read
        assert all(node["Node Type"] in ("Index Scan", "Index Only Scan") for node in read), read
        assert all(node["Actual Rows"] <= 1 for node in read), read


async def test_counting_a_minute_reads_no_older_jobs(database: Database) -> None:
    await fill_with_history(database)
    [row] = await query(database, "SELECT max(id) - 5 AS first_job_id, now() AS until FROM docyard.jobs")
    values = row | {"since": row["until"] - timedelta(minutes=20)}
    found = await explain(database, minutes_module._statements.count_jobs, values, "force_custom_plan")
    read = [node for node in found if node.get("Relation Name") == "procrastinate_jobs"]
    assert len(read) == 3
    for node in read:
        assert "Index Cond" in node, node
        assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 20, node
