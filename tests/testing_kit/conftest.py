"""A table for effects, and a registry of handlers that do something to it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from support.queueing import query

from docyard_queue import Backoff, Cancel, NewJob, PermanentError, RateLimited, Registry, Snooze

if TYPE_CHECKING:
    from docyard_queue import Attempt
    from docyard_schema import Database

MINUTE = Backoff(base=timedelta(minutes=1), jitter=False)


class Order(BaseModel):
    order: int


class Effects:
    """Handlers, and what they wrote."""

    def __init__(self, database: Database) -> None:
        self.registry = registry = Registry()
        self.database = database
        self.begun: list[int] = []
        self.problems: list[Exception] = []

        @registry.handler("charge", queue="billing", max_attempts=3, backoff=MINUTE)
        async def charge(attempt: Attempt, payload: Order) -> str:
            self.begun.append(attempt.number)
            if self.problems:
                raise self.problems.pop(0)
            async with attempt.commit(result={"charged": payload.order}) as connection:
                await connection.execute("INSERT INTO public.effects VALUES (%s)", [payload.order])
                await attempt.enqueue(NewJob("receipt", {"order": payload.order}), connection=connection)
            self.begun.append(-attempt.number)
            return "not the result"

        @registry.handler("charge_sync", max_attempts=3, backoff=MINUTE)
        def charge_sync(attempt: Attempt, payload: dict[str, Any]) -> None:
            self.begun.append(attempt.number)
            with attempt.commit_sync(result={"charged": payload["order"]}) as connection:
                connection.execute("INSERT INTO public.effects VALUES (%s)", [payload["order"]])

        @registry.handler("receipt")
        def receipt(attempt: Attempt, payload: dict[str, Any]) -> dict[str, Any]:
            return {"printed": payload["order"]}

        @registry.handler("snooze")
        async def snooze(attempt: Attempt, payload: dict[str, Any]) -> Snooze | str:
            self.begun.append(attempt.number)
            return Snooze(timedelta(hours=1), "not yet") if len(self.begun) < 3 else "at last"

        @registry.handler("cancel")
        async def cancel(attempt: Attempt, payload: dict[str, Any]) -> Cancel:
            return Cancel("no longer wanted")

        @registry.handler("limited")
        async def limited(attempt: Attempt, payload: dict[str, Any]) -> None:
            raise RateLimited("slow down", retry_after=timedelta(seconds=9))

        @registry.handler("hopeless")
        async def hopeless(attempt: Attempt, payload: dict[str, Any]) -> None:
            raise PermanentError("never")

    async def rows(self) -> list[int]:
        found = await query(self.database, "SELECT * FROM public.effects ORDER BY 1")
        return [row["order_id"] for row in found]


@pytest.fixture
async def effects(database: Database) -> Effects:
    await query(database, "CREATE TABLE public.effects (order_id int)")
    return Effects(database)
