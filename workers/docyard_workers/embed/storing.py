"""Vectors and the completion of the jobs that wait for nothing else: one transaction per answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from docyard_queue import Cancel, commit_together
from docyard_queue.collisions import until_it_passes
from docyard_queue.outage import OUTAGE, brief
from docyard_schema.errors import ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from decimal import Decimal

    from docyard_schema import Connection, Database, EmbeddingModel, VectorRepository
    from docyard_schema.embeddings import NewVector
    from docyard_workers.embed.work import Work

_log = structlog.get_logger("docyard.embed")

# What is paid for is worth some patience with the database.
_TRIES = 8
_LONGEST_PAUSE_SECONDS = 8.0


class Storing:
    """Writes the answers of one lane.

    ``beside`` may write more in the same transaction. ``cost_of`` says what tokens cost, None if unknown.
    """

    def __init__(
        self,
        database: Database,
        model: EmbeddingModel,
        vectors: VectorRepository,
        *,
        cost_of: Callable[[int], Decimal | None],
        beside: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._database = database
        self._model = model
        self._vectors = vectors
        self._cost_of = cost_of
        self._beside = beside

    async def store(
        self,
        wants: Sequence[tuple[Work, int]],
        vectors: Sequence[NewVector] = (),
        failures: Sequence[tuple[int, str, str]] = (),
    ) -> None:
        """Write this, which answers ``wants``, and complete the jobs that have all of theirs now, if their
        leases hold.

        A job whose lease is lost is left to its new holder; its vectors are written all the same. Raises when
        the database refuses, or cannot be had for long.
        """
        counts = Counter(work for work, _ in wants)
        for work, count in counts.items():
            work.left -= count
            work.writing += 1
        # Who has another answer being written waits for that too: it might fail.
        done = [work for work in counts if not work.left and work.writing == 1 and not work.is_over]
        try:
            await self._write(done, vectors, failures)
        except ModelMismatch as error:
            # It was dropped meanwhile: nobody wants its vectors.
            for work in counts:
                work.end(Cancel(error.message))
        except Exception as error:
            for work in counts:
                work.end(error)
            raise
        finally:
            for work in counts:
                work.writing -= 1
        late = [work for work in counts if not work.left and not work.writing and not work.attempt.committed]
        late = [work for work in late if not work.is_over]
        if late:
            await self._write(late, [], [])
        for work in counts:
            if work.attempt.committed or work.is_over:
                work.end()

    async def _write(
        self,
        done: Sequence[Work],
        vectors: Sequence[NewVector],
        failures: Sequence[tuple[int, str, str]],
    ) -> None:
        async def transaction() -> None:
            results = {work.attempt: work.result(self._cost_of) for work in done}
            async with commit_together(self._database, results) as connection:
                if vectors:
                    await self._vectors.write(self._model, vectors, connection=connection)
                    await self._beside(connection)
                if failures:
                    await self._vectors.record_failures(self._model, failures, connection=connection)

        for attempt in range(1, _TRIES):
            try:
                await until_it_passes(transaction)
            except OUTAGE as error:
                pause = min(0.1 * 2**attempt, _LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1)  # noqa: S311
                _log.warning("embedding.store_deferred", error=brief(error), retry_in_s=round(pause, 1))
                await asyncio.sleep(pause)
            else:
                return
        await until_it_passes(transaction)
