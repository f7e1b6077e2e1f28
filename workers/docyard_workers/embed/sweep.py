"""The scheduled job ``embed_sweep``: enqueues what was left without a vector.

A safety net, not a way of working: documents bring their own jobs. It finds what these left behind when they
were given up or cancelled, and vectors that somebody deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from docyard_queue import Done, NewJob, enqueue_many
from docyard_schema.embeddings.sweep import SweepPlan, end_page, find_lacking, plan_sweep

if TYPE_CHECKING:
    from uuid import UUID

    from docyard_queue import Attempt, Backoff, Registry
    from docyard_schema import Database

KIND = "embed_sweep"
_QUEUE = "maintain"
_HOURLY = "17 * * * *"
# Jobs that make vectors, by the state of the model: of the active one, and of all others that are kept.
_ACTIVE = ("embed", "embed")
_OTHERS = ("backfill", "migrate")
_ONCE_IN = timedelta(days=1)
# What people have just uploaded comes first.
_PRIORITY = -1


class Sweep:
    """Handles ``embed_sweep`` jobs. A run looks at ``pages`` of ``page_size`` chunks of each model at most.

    It ends with the page on which it has found ``documents`` of them; the next run goes on behind it.
    """

    def __init__(
        self,
        database: Database,
        *,
        pages: int = 200,
        page_size: int = 5_000,
        documents: int = 10_000,
    ) -> None:
        self._database = database
        self._pages = pages
        self._page_size = page_size
        self._documents = documents

    def register(self, registry: Registry, backoff: Backoff | None = None) -> None:
        """Add the handler and its schedule: every hour, once over the fleet."""
        run = self.run
        registry.handler(KIND, queue=_QUEUE, max_attempts=3, backoff=backoff)(run)
        registry.schedule(KIND, cron=_HOURLY, queue=_QUEUE, unique_key=KIND)(run)

    async def run(self, attempt: Attempt, payload: dict[str, Any]) -> Done:
        """Sweep all models; the result says by model how many chunks were seen and documents enqueued."""
        kinds, queues = zip(_ACTIVE, _OTHERS, strict=True)
        plans = await plan_sweep(self._database, kinds=kinds, queues=queues)
        return Done({plan.model: await self._sweep(plan) for plan in plans})

    async def _sweep(self, plan: SweepPlan) -> dict[str, int]:
        waiting = set(plan.swept)
        after, examined, found = plan.after_chunk, 0, 0
        for _ in range(self._pages):
            page = await find_lacking(self._database, plan, after=after, size=self._page_size)
            examined += page.examined
            wanted = {
                document: texts
                for document, texts in zip(page.documents, page.texts, strict=True)
                if document not in waiting
            }
            at_end = page.examined < self._page_size or page.last_chunk is None
            after = 0 if at_end else page.last_chunk or 0
            async with self._database.transaction() as connection:
                jobs = [_job(plan, document, texts) for document, texts in wanted.items()]
                await enqueue_many(connection, jobs, schema=self._database.namespace.schema)
                await end_page(self._database, plan, [*wanted], after=after, connection=connection)
            waiting |= wanted.keys()
            found += len(wanted)
            if at_end or found >= self._documents:
                break
        return {"examined": examined, "documents": found}


def _job(plan: SweepPlan, document: UUID, texts: int) -> NewJob:
    kind, queue = _ACTIVE if plan.state == "active" else _OTHERS
    return NewJob(
        kind,
        {"document_id": str(document), "model": plan.model, "swept": True},
        queue=queue,
        priority=_PRIORITY,
        weight=texts,
        # A document whose vectors cannot be made is not worth more than a job a day.
        unique_key=f"{KIND} {plan.model} {document}",
        unique_for=_ONCE_IN,
    )
