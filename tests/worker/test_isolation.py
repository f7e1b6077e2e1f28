"""A handler in a child process of its own: whatever becomes of it, the worker and other jobs go on."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states
from support.worker_app import a_registry, registry
from support.working import drain, running

from docyard_queue import Inspection, NewJob, Registry
from docyard_schema import ConfigError
from docyard_workers.process import Recipe, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = pytest.mark.slow


def a_job(**payload: Any) -> NewJob:
    return NewJob("isolated", payload, max_attempts=1)


async def is_running(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "running"


async def test_it_runs_in_a_fresh_process_each_time(database: Database) -> None:
    first, second = await add(database, a_job(), a_job())
    worker = await drain(database, registry)
    results = [(await row(database, job_id))["result"] for job_id in (first, second)]
    assert worker.completed == 2
    assert len({os.getpid(), *(result["pid"] for result in results)}) == 3
    assert len({result["parent"] for result in results}) == 1, "both are children of one nursery"


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        ({"do": "exit", "code": 9}, "exit code 9"),
        ({"do": "exit", "code": 0}, "exit code 0"),
        ({"do": "segfault"}, "SIGSEGV"),
        ({"do": "kill"}, "SIGKILL"),
    ],
    ids=["exit", "exit 0", "segfault", "kill"],
)
async def test_a_child_that_dies_is_a_crash_and_no_more_than_a_failed_attempt(
    database: Database, payload: dict[str, Any], cause: str
) -> None:
    crashing, harmless = await add(database, a_job(**payload), a_job())
    worker = await drain(database, registry)
    assert (worker.completed, worker.failed) == (1, 1), "the worker lives on"
    assert [await state(database, job_id) for job_id in (crashing, harmless)] == ["dead", "completed"]
    stored = await row(database, crashing)
    assert (stored["attempts"], stored["error_code"]) == (1, "crashed")
    assert stored["error_message"] == f"the child process died: {cause}"
    [told] = await attempts(database, crashing)
    assert (told["outcome"], told["error_class"]) == ("crashed", None)


async def test_a_crash_is_retried_until_the_attempts_are_used_up(database: Database) -> None:
    [job_id] = await add(database, NewJob("isolated", {"do": "exit"}))
    await drain(database, registry)
    [letter] = await query(database, "SELECT * FROM docyard.dead_letters")
    assert (letter["job_id"], letter["attempts"], letter["error_code"]) == (job_id, 2, "crashed")
    assert [told["outcome"] for told in await attempts(database, job_id)] == ["crashed", "crashed"]


async def test_one_that_loops_for_ever_is_killed_when_its_time_is_over(database: Database) -> None:
    job = NewJob("isolated", {"do": "hang"}, max_attempts=1, timeout=timedelta(seconds=0.3))
    [job_id] = await add(database, job)
    await drain(database, registry)
    stored = await row(database, job_id)
    assert (stored["status"], stored["error_code"]) == ("failed", "timeout")
    assert "longer than its 0.3 s" in stored["error_message"]
    assert [told["outcome"] for told in await attempts(database, job_id)] == ["failed"]


async def test_one_that_takes_more_memory_than_its_limit_fails(database: Database) -> None:
    modest, greedy = await add(
        database,
        NewJob("isolated_sync", {"allocate": 10 << 20}),
        NewJob("isolated_sync", {"allocate": 1 << 30}, max_attempts=1),
    )
    await drain(database, registry)
    assert (await row(database, modest))["result"] == 10 << 20
    stored = await row(database, greedy)
    assert (stored["status"], stored["error_code"]) == ("failed", "memory_limit")
    assert "419,430,400 bytes" in stored["error_message"]


async def test_exceptions_come_back_with_their_traceback(database: Database) -> None:
    usual, final = await add(
        database, a_job(do="raise"), NewJob("isolated", {"do": "raise permanent"}, max_attempts=9)
    )
    await drain(database, registry)
    told = await Inspection(database).attempts(usual)
    assert (told[0].error_class, told[0].error_message) == ("ValueError", "what it raised")
    assert "worker_app.py" in (told[0].traceback or "")
    stored = await row(database, final)
    assert (stored["status"], stored["error_code"], stored["attempts"]) == ("failed", "permanent", 1)


async def test_retry_rules_and_payload_models_hold_in_the_child(database: Database) -> None:
    refused, unreadable = await add(
        database, NewJob("isolated_choosy", {"do": "raise"}), NewJob("isolated_choosy", {"what": 1})
    )
    await drain(database, registry)
    stored = [await row(database, job_id) for job_id in (refused, unreadable)]
    assert [(found["status"], found["attempts"]) for found in stored] == [("failed", 1)] * 2
    assert stored[0]["error_message"] == "what it raised"
    assert "does not fit Isolated: do: Field required" in stored[1]["error_message"]


async def test_outcomes_come_back(database: Database) -> None:
    snoozed, cancelled = await add(database, a_job(do="snooze"), a_job(do="cancelled"))
    async with running(database, registry):
        await eventually(lambda: none_runs(database))
    assert [await state(database, job_id) for job_id in (snoozed, cancelled)] == ["scheduled", "cancelled"]
    assert [(await attempts(database, job_id))[0]["error_message"] for job_id in (snoozed, cancelled)] == [
        "not yet",
        "not wanted",
    ]


async def none_runs(database: Database) -> bool:
    return not {"running", "available"} & set(await states(database))


@pytest.mark.parametrize("kind", ["isolated", "isolated_sync"])
async def test_what_it_commits_happens_once(
    database: Database, effects: Callable[[], Any], kind: str
) -> None:
    [job_id] = await add(database, NewJob(kind, {"commit": "once"}))
    worker = await drain(database, registry)
    [(written, pid)] = await effects()
    assert written == job_id
    assert pid != os.getpid()
    assert (await state(database, job_id), worker.completed) == ("completed", 1)


async def test_one_that_dies_after_its_commit_is_completed(
    database: Database, effects: Callable[[], Any]
) -> None:
    [job_id] = await add(database, NewJob("isolated", {"commit": "and exit"}))
    worker = await drain(database, registry)
    assert [written for written, _ in await effects()] == [job_id]
    assert (await state(database, job_id), worker.completed) == ("completed", 1)
    assert (await row(database, job_id))["attempts"] == 1


async def test_a_cancel_reaches_the_child(database: Database) -> None:
    polite, listening, deaf = await add(
        database,
        a_job(do="sleep", seconds=60),
        NewJob("isolated_sync", {"wait_for_cancel": True}),
        a_job(do="hang"),
    )
    async with running(database, registry):
        await eventually(lambda: all_run(database))
        await Inspection(database).cancel([polite, listening, deaf])
        await eventually(lambda: none_runs(database))
    assert set(await states(database)) == {"cancelled"}
    assert (await row(database, listening))["error_message"] in ("as it was told", "cancelled while it ran")


async def all_run(database: Database) -> bool:
    return set(await states(database)) == {"running"}


async def test_a_stopped_worker_gives_the_job_back(database: Database) -> None:
    [job_id] = await add(database, a_job(do="hang"))
    async with running(database, registry, shutdown_seconds=0.1):
        await eventually(lambda: is_running(database, job_id))
    assert await state(database, job_id) == "available"
    assert (await row(database, job_id))["attempts"] == 0


async def test_a_worker_that_ended_leaves_no_process(database: Database) -> None:
    [job_id] = await add(database, a_job())
    await drain(database, registry)
    assert not exists((await row(database, job_id))["result"]["parent"])


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_when_the_nursery_dies_its_children_have_crashed_and_another_takes_its_place(
    database: Database,
) -> None:
    [first] = await add(database, a_job())
    async with running(database, registry):
        await eventually(lambda: is_completed(database, first))
        nursery = (await row(database, first))["result"]["parent"]
        [hanging] = await add(database, a_job(do="sleep", seconds=60))
        await eventually(lambda: has_begun(database, hanging))
        os.kill(nursery, signal.SIGKILL)
        await eventually(lambda: is_dead(database, hanging))
        [next_one] = await add(database, a_job())
        await eventually(lambda: is_completed(database, next_one))
    assert (await row(database, hanging))["error_code"] == "crashed"
    assert (await row(database, next_one))["result"]["parent"] != nursery


async def has_begun(database: Database, job_id: int) -> bool:
    return (await row(database, job_id))["progress"] is not None


async def is_dead(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "dead"


# How a child finds the handler


async def test_an_isolated_handler_that_no_child_can_find_is_refused(database: Database) -> None:
    local = Registry()
    local.handler("nested", isolated=True)(lambda attempt, payload: None)
    with pytest.raises(ConfigError, match=r"isolated, but a child cannot find it: .*made inside a function"):
        Worker(database, local)


async def test_a_memory_limit_needs_isolation() -> None:
    with pytest.raises(ConfigError, match="for an isolated handler"):
        Registry().handler("work", memory_limit=1 << 30)


async def test_a_recipe_makes_handlers_that_have_no_name(database: Database) -> None:
    recipe = Recipe(target="support.worker_app:a_registry", arguments={"answer": "made"})
    [job_id] = await add(database, NewJob("closure", max_attempts=1))
    async with Worker(database, a_registry(database, answer="here"), recipe=recipe) as worker:
        await worker.drain()
    assert (await row(database, job_id))["result"] == "made from docyard"


async def test_a_recipe_that_gives_something_else_is_a_failure_that_says_so(database: Database) -> None:
    recipe = Recipe(target="support.worker_app:registry")
    [job_id] = await add(database, NewJob("closure", max_attempts=1))
    async with Worker(database, a_registry(database, answer="here"), recipe=recipe) as worker:
        await worker.drain()
    stored = await row(database, job_id)
    assert (stored["status"], stored["error_code"]) == ("failed", "isolation_failed")
    assert "gave no handler of 'closure'" in stored["error_message"]


async def test_a_script_of_its_own_is_found_too(
    database: Database, url: str, start: Callable[..., Any]
) -> None:
    worker = start(url)
    [job_id] = await add(database, a_job())
    await eventually(lambda: is_completed(database, job_id))
    assert (await row(database, job_id))["result"]["pid"] != worker.pid
    assert worker.stop() == 0


async def is_completed(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "completed"


# When the worker itself ends


async def test_a_child_dies_with_its_worker_and_commits_nothing(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    worker = start(url)
    [job_id] = await add(database, NewJob("isolated", {"commit": "once", "inside": 30}))
    await eventually(lambda: holding(database), what="the child to hold its job's row")
    [(pid,)] = [(found["pid"],) for found in await holding(database)]
    worker.kill()
    await eventually(lambda: is_gone(database, pid), what="the child's session to end")
    heir = start(url)
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET args = '{\"commit\": \"once\"}' WHERE id = %s", job_id,
    )  # fmt: skip
    await eventually(lambda: is_completed(database, job_id))
    assert [written for written, _ in await effects()] == [job_id]
    assert (await row(database, job_id))["attempts"] == 2, "it was the only one: its crash counts"
    assert heir.stop() == 0


async def holding(database: Database) -> list[dict[str, Any]]:
    return await query(
        database,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND state = 'idle in transaction' AND query LIKE 'INSERT INTO public.effects%%'",
    )


async def is_gone(database: Database, pid: int) -> bool:
    return not await query(database, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid)
