"""The hot statements keep their plans on tables that are not small."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.queueing import query

from docyard_queue import batches as batches_module
from docyard_queue import claim as claim_module
from docyard_queue import prune as prune_module
from docyard_queue import rescue as rescue_module
from docyard_queue.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema import Database

CLAIM = {"worker": 1, "slots": 100, "kinds": ["work"], "limits": [3], "queues": None}


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


@pytest.mark.parametrize("generic", ["force_custom_plan", "force_generic_plan"])
async def test_claim_walks_the_priority_index_and_stops_when_it_has_enough(
    database: Database, generic: str
) -> None:
    await fill(database)
    found = await explain(database, claim_module._statements.claim, CLAIM, generic)
    walks = [node for node in found if node.get("Index Name") == "procrastinate_jobs_priority_idx_v1"]
    assert [node["Node Type"] for node in walks] == ["Index Scan"], found
    assert walks[0]["Actual Rows"] <= 100
    sorted_rows = [node["Actual Rows"] for node in found if "Sort" in node["Node Type"]]
    assert all(rows <= 100 for rows in sorted_rows), "the backlog is sorted"
    read = [
        node
        for node in found
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "procrastinate_jobs"
    ]
    assert not read, "the whole table is read"


@pytest.mark.parametrize("generic", ["force_custom_plan", "force_generic_plan"])
async def test_claim_asks_an_index_whether_a_lock_is_held(database: Database, generic: str) -> None:
    await fill(database)
    found = await explain(database, claim_module._statements.claim, CLAIM, generic)
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
    assert len(jobs) == 4, [node["Node Type"] for node in jobs]
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
