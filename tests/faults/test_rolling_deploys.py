"""Line 16: workers of two versions at once: an unknown kind, a renamed kind, changed arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from support.eventually import eventually
from support.queueing import add, row, state
from support.working import running

from docyard_queue import NewJob, Registry

if TYPE_CHECKING:
    from docyard_schema import Database

pytestmark = pytest.mark.fault(16)


class Charge(BaseModel):
    """As the new version has it: with an argument that older jobs lack."""

    cents: int
    currency: str = "CHF"


def versions(seen: list[tuple[str, Any]]) -> tuple[Registry, Registry]:
    old, new = Registry(), Registry()

    @old.handler("bill")
    async def bill(attempt: Any, payload: dict[str, Any]) -> None:
        seen.append(("old", payload["cents"]))

    @new.handler("charge", aliases=("bill",))
    async def charge(attempt: Any, payload: Charge) -> None:
        seen.append(("new", (payload.cents, payload.currency)))

    return old, new


async def test_a_kind_that_no_running_worker_knows_waits_and_burns_no_attempt(database: Database) -> None:
    seen: list[tuple[str, Any]] = []
    old, new = versions(seen)
    unknown, known = await add(database, NewJob("charge", {"cents": 1}), NewJob("bill", {"cents": 2}))
    async with running(database, old, poll_seconds=0.1):
        await eventually(lambda: completed(database, known))
        left = await row(database, unknown)
        assert (left["status"], left["attempts"], left["lease"]) == ("todo", 0, 0)
        # The first worker of the new version joins while the old one still runs.
        async with running(database, new, poll_seconds=0.1):
            await eventually(lambda: completed(database, unknown))
    assert seen == [("old", 2), ("new", (1, "CHF"))]
    assert (await row(database, unknown))["attempts"] == 1


async def test_jobs_of_a_renamed_kind_run_under_their_former_name(database: Database) -> None:
    seen: list[tuple[str, Any]] = []
    _, new = versions(seen)
    ids = await add(database, NewJob("bill", {"cents": 1}), NewJob("charge", {"cents": 2, "currency": "EUR"}))
    async with running(database, new) as worker:
        await eventually(lambda: worker.completed == 2)
    assert sorted(seen) == [("new", (1, "CHF")), ("new", (2, "EUR"))]
    assert [(await row(database, job_id))["task_name"] for job_id in ids] == ["bill", "charge"]


async def test_arguments_that_no_longer_fit_are_a_dead_letter_that_says_so(
    database: Database,
) -> None:
    _, new = versions([])
    [job_id] = await add(database, NewJob("charge", {"euros": 1}))
    async with running(database, new):
        await eventually(lambda: is_(database, job_id, "dead"))
    stored = await row(database, job_id)
    assert stored["attempts"] == 1
    assert "cents: Field required" in stored["error_message"]


async def completed(database: Database, job_id: int) -> bool:
    return await is_(database, job_id, "completed")


async def is_(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted
