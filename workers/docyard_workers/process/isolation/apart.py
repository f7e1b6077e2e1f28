"""Runs one attempt apart from the others: in a child process, or with nothing beside it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from docyard_queue.errors import IsolationFailed, JobTimeout, LeaseLost
from docyard_queue.outcomes import Snooze
from docyard_schema.connection import session_name
from docyard_schema.settings import DatabaseSettings
from docyard_workers.process.classification import classify, crashed
from docyard_workers.process.execution import too_long
from docyard_workers.process.isolation import messages
from docyard_workers.process.isolation.nursery import Nursery
from docyard_workers.process.isolation.reference import Recipe, refer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from docyard_queue.attempt import Attempt
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_queue.registry import HandlerSpec
    from docyard_schema.database import Database
    from docyard_workers.process.isolation.nursery import Child

# To connect and to import the application; not counted as the handler's time.
_START_SECONDS = 60.0
# What a handler gets to end by itself after a cancel.
GRACE_SECONDS = 2.0
NOT_NOW = timedelta(seconds=5)


# After a crash jobs that run alone come as a crowd, and each of their children may load a model of its own.
_LEAST_AT_ONCE = 4


class Unready(Exception):
    """No child can find the handler; nothing of it has run."""


class NotNow(Exception):
    """A child could not begin now, for no fault of its jobs."""


class Died(Exception):
    """A child died, and how."""


class Apart:
    """Runs attempts in children of one nursery. ``waiting`` of them wait for their turn."""

    def __init__(self, database: Database, recipe: Recipe | None) -> None:
        self.waiting = 0
        self._recipe = recipe
        self._database = _write_database(database)
        self._nursery = Nursery()
        self._turns = asyncio.Semaphore(max(_LEAST_AT_ONCE, os.cpu_count() or 1))

    async def close(self) -> None:
        """End what still runs."""
        await self._nursery.close()

    async def execute(self, spec: HandlerSpec, attempt: Attempt) -> Outcome:
        """The outcome of an attempt in a child, as ``execution.execute`` gives it for one in this process.

        A child that dies without an outcome is a crash. Raises also :class:`Unready`, unless the handler is
        isolated.
        """
        try:
            if spec.isolated:
                return await self._in_a_child(spec, attempt)
            await self._turn()
            try:
                return await self._in_a_child(spec, attempt)
            finally:
                self._turns.release()
        except Unready as reason:
            if not spec.isolated:
                raise
            error = IsolationFailed(f"A child process cannot find the handler: {reason}")
            return classify(spec, attempt.job, error)
        except (IsolationFailed, JobTimeout) as error:
            return classify(spec, attempt.job, error)

    async def _turn(self) -> None:
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1

    async def _in_a_child(self, spec: HandlerSpec, attempt: Attempt) -> Outcome:
        reference = self._refer(spec)
        child = await self._nursery.child()
        try:
            begun = await self._ask(spec, child, {"job": messages.write_job(attempt.job)}, reference)
            if begun is None or begun["says"] != "begun":
                return await self._never_begun(spec, attempt, child, begun)
            seconds = attempt.job.timeout_seconds
            if seconds is None and spec.timeout is not None:
                seconds = spec.timeout.total_seconds()
            try:
                async with asyncio.timeout(seconds):
                    told = await child.receive()
            except TimeoutError:
                raise too_long(spec, seconds or 0) from None
            except asyncio.CancelledError:
                told = await _asked_to_end(child, attempt)
            return await self._outcome(spec, attempt, child, told)
        except BaseException:
            child.kill()
            raise
        finally:
            child.close()

    @asynccontextmanager
    async def child(self, spec: HandlerSpec, jobs: Sequence[Job]) -> AsyncIterator[Child]:
        """A child that has begun to run these jobs of a batch handler, when its turn has come.

        Raises :class:`Unready`, :class:`NotBegun` when it could not begin for another reason.
        """
        reference = self._refer(spec)
        async with self._turns:
            child = await self._nursery.child()
            try:
                asked = {"jobs": [messages.write_job(job) for job in jobs]}
                begun = await self._ask(spec, child, asked, reference)
                match begun:
                    case {"says": "begun"}:
                        yield child
                    case {"says": "unready", "reason": reason}:
                        raise Unready(reason)
                    case {"says": "not now", "reason": reason}:
                        raise NotNow(f"a child process could not reach the database: {reason}")
                    case _:
                        raise Died(f"before it began: {await cause_of(child)}")
            except BaseException:
                child.kill()
                raise
            finally:
                child.close()

    def _refer(self, spec: HandlerSpec) -> dict[str, Any]:
        reference = refer(spec, self._recipe)
        if reference is None:
            raise Unready("it is no function at the top of a module, and the worker has no recipe")
        return reference

    async def _ask(
        self, spec: HandlerSpec, child: Child, work: dict[str, Any], reference: dict[str, Any]
    ) -> dict[str, Any] | None:
        """What a child says that was given work: that it has begun, or why not; None when it died."""
        await child.send(
            work
            | {
                "reference": reference,
                "memory_limit": spec.memory_limit,
                "database": self._database,
                "session_name": session_name(),
            }
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                return await child.receive()
        except TimeoutError:
            raise IsolationFailed(
                f"The child process was not ready within {_START_SECONDS:g} s.",
                hint="Importing the handler's module takes too long, or the machine is overloaded.",
            ) from None

    async def _never_begun(
        self, spec: HandlerSpec, attempt: Attempt, child: Child, told: dict[str, Any] | None
    ) -> Outcome:
        match told:
            case {"says": "unready", "reason": reason}:
                raise Unready(reason)
            case {"says": "lost"}:
                raise LeaseLost(attempt.job.id, attempt.job.lease)
            case {"says": "not now", "reason": reason}:
                return Snooze(NOT_NOW, f"a child process could not reach the database: {reason}")
        child.kill()
        code = await child.ended
        if code is None:
            raise IsolationFailed("The process that starts child processes died.")
        # Its module's import may have done it.
        return crashed(spec, attempt.job, f"the child process died before it began: {_cause(code)}")

    async def _outcome(
        self, spec: HandlerSpec, attempt: Attempt, child: Child, told: dict[str, Any] | None
    ) -> Outcome:
        if told is None:
            child.kill()  # It may only have closed its end.
            return crashed(spec, attempt.job, f"the child process died: {_cause(await child.ended)}")
        attempt.committed = told.get("committed", False)
        if told["says"] == "lost":
            raise LeaseLost(attempt.job.id, attempt.job.lease)
        if told["says"] == "cancelled":
            raise asyncio.CancelledError
        outcome = messages.read_outcome(told)
        assert outcome is not None, told  # noqa: S101 - written by our own child
        return outcome


async def _asked_to_end(child: Child, attempt: Attempt) -> dict[str, Any] | None:
    """What a child says that was told of a cancel; raises the cancel when it does not answer in time."""
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await child.send({"cancel_requested": attempt.cancel_requested})
            told = await child.receive()
    except TimeoutError:
        raise asyncio.CancelledError from None
    if told is None:
        raise asyncio.CancelledError
    return told


async def cause_of(child: Child) -> str:
    """How a child ended that says no more; it is killed if it has only closed its end."""
    child.kill()
    return _cause(await child.ended)


def _cause(code: int | None) -> str:
    if code is None:
        return "the process that started it died too"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _write_database(database: Database) -> dict[str, Any]:
    settings = {name: _plain(getattr(database.settings, name)) for name in DatabaseSettings.model_fields}
    return {
        "url": database.url,
        "schema": database.namespace.schema,
        "vectors": database.namespace.vectors,
        "settings": settings | {"pool_min_size": 0},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
