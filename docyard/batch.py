"""The jobs of one ``ingest`` call, seen together."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal  # noqa: TC003 - a row's field
from typing import TYPE_CHECKING

from docyard_queue import BatchProgress, batch_progress
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from docyard_schema import Database
    from docyard_workers.ingest.sources import Refused

_statements = load_statements("docyard", "batch.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSummary:
    """What became of a batch's files; ``chunks`` are those of new and changed documents.

    ``cost`` is in US dollars, of the requests whose price was known; None: of none.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    tokens: int = 0
    cost: Decimal | None = None
    jobs: int = 0
    seconds: float = 0
    failures: Sequence[tuple[int, str, str, str]] = field(default=())
    """The first dead jobs as (job id, source, error code, message)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindProgress:
    """How far a batch's jobs of one kind are; ``ended`` includes the ``dead`` and the cancelled ones."""

    total: int = 0
    ended: int = 0
    dead: int = 0


class Batch:
    """A batch in the database: its ``id``, how many files were found and which were ``refused``, and why."""

    def __init__(self, database: Database, batch_id: UUID, *, files: int, refused: Sequence[Refused]) -> None:
        self.id = batch_id
        self.files = files
        self.refused = tuple(refused)
        self._database = database

    async def progress(self) -> BatchProgress:
        """How far it is, now."""
        return await batch_progress(self._database, self.id)

    async def kinds(self) -> dict[str, KindProgress]:
        """How far each of its kinds of jobs is, now: ``ingest`` reads files, ``embed`` makes vectors."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(self._database.sql(_statements.kinds), {"batch": self.id})
            return {
                kind: KindProgress(total=total, ended=ended, dead=dead)
                for kind, total, ended, dead in await cursor.fetchall()
            }

    async def done(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a convenience for scripts
        on_progress: Callable[[BatchProgress], None] | None = None,
    ) -> BatchProgress:
        """Wait until every job of the batch has ended, by workers here or elsewhere.

        ``timeout`` in seconds raises :class:`TimeoutError`; None waits for ever. ``on_progress`` is called
        with every look.
        """
        async with asyncio.timeout(timeout):
            pause = 0.05
            while True:
                progress = await self.progress()
                if on_progress is not None:
                    on_progress(progress)
                if progress.has_ended:
                    return progress
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.5)

    async def summary(self, *, failures: int = 20) -> IngestSummary:
        """Counts of what the batch's jobs did, and its first ``failures`` dead jobs."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(self._database.sql(_statements.results), {"batch": self.id})
            counts: Counter[str] = Counter()
            rows = await cursor.fetchall()
            for status, number in rows:
                counts[status] += number
            cursor = await connection.execute(self._database.sql(_statements.totals), {"batch": self.id})
            totals = await cursor.fetchone()
            cursor = await connection.execute(
                self._database.sql(_statements.failures), {"batch": self.id, "limit": failures}
            )
            dead = await cursor.fetchall()
        jobs, failed, chunks, embedded, reused, tokens, cost, seconds = totals or (
            0,
            0,
            0,
            0,
            0,
            0,
            None,
            0.0,
        )
        return IngestSummary(
            created=counts["created"],
            updated=counts["updated"],
            unchanged=counts["unchanged"],
            failed=failed,
            chunks=chunks,
            embedded=embedded,
            reused=reused,
            tokens=tokens,
            cost=cost,
            jobs=jobs,
            seconds=seconds,
            failures=tuple((row[0], row[1], row[2], row[3]) for row in dead),
        )
