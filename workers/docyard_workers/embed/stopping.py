"""Stops a queue when a provider refuses what no job can mend: no money, a wrong key, an unknown model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from docyard_queue import queues

if TYPE_CHECKING:
    from docyard_schema import Database
    from docyard_workers.embed.errors import EmbeddingError

_log = structlog.get_logger("docyard.worker")


async def stop_queue(database: Database, queue: str, error: EmbeddingError) -> None:
    """Pause the queue and say why: in ``docyard status``, ``queues list`` and ``jobs explain``.

    A queue that is paused already keeps the reason that it has. ``docyard queues resume`` lets it go on.
    """
    reason = f"{error.message.rstrip('.')}."
    if error.hint:
        reason += f" {error.hint}"
    await queues.pause(database, queue, reason=reason, keep_reason=True)
    _log.error("queue.stopped", queue=queue, reason=reason)
