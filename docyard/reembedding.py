"""A change of the embedding model: begun or joined, watched, and how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from docyard_queue import Inspection
from docyard_queue.selection import Change, Selection, change_selected
from docyard_workers.migrate.standing import Standing, standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from docyard_schema import Database, EmbeddingModel
    from docyard_workers.migrate.planning import Begun

_LONGEST_PAUSE = 0.5


class Reembedding:
    """A reembed in the database: its ``model`` and its batch's id.

    ``joined``: it was under way before. ``batch_id`` is None when the model was active already: then nothing
    was begun.
    """

    def __init__(self, database: Database, model: EmbeddingModel, begun: Begun | None) -> None:
        self.model = model
        self.batch_id: UUID | None = None if begun is None else begun.batch_id
        self.joined = begun is not None and begun.joined
        self.paused = begun is not None and begun.paused
        self._database = database

    async def standing(self) -> Standing | None:
        """How far it is, now; None when nothing was begun."""
        return None if self.batch_id is None else await standing(self._database, self.batch_id)

    async def hurry(self) -> None:
        """Let run at once what waits out a backoff, and again what was given up: a person is there now."""
        if self.batch_id is None:
            return
        for state in ("dead", "retryable"):
            selection = Selection(state=state, batch_id=self.batch_id)
            await change_selected(self._database, Change.RETRY, selection)
        now = await standing(self._database, self.batch_id)
        if now.last_job_id is not None and now.last_status == "todo":
            await Inspection(self._database).retry([now.last_job_id])

    async def done(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a convenience for scripts
        on_progress: Callable[[Standing], None] | None = None,
    ) -> Standing | None:
        """Wait until it has ended, by workers here or elsewhere; None when nothing was begun.

        ``timeout`` in seconds raises :class:`TimeoutError`; None waits for ever, also while it is paused.
        ``on_progress`` is called with every look.
        """
        async with asyncio.timeout(timeout):
            pause = 0.05
            while (now := await self.standing()) is not None:
                if on_progress is not None:
                    on_progress(now)
                if now.has_ended:
                    return now
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            return None
