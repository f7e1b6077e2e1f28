"""The child's side of a group: one call of a batch handler, each outcome told when it is known."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from docyard_queue.outcomes import Cancel
from docyard_workers.process.batch_call import BatchCall
from docyard_workers.process.isolation import messages
from docyard_workers.process.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from docyard_queue.attempt import Attempt
    from docyard_queue.registry import HandlerSpec
    from docyard_workers.process.batch_call import Ending


async def run_group(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    spec: HandlerSpec,
    attempts: Sequence[Attempt],
    lost: Collection[tuple[int, int]],
) -> None:
    """Run attempts together, but those whose lease was ``lost``, and say of each what became of it."""

    def ended(attempt: Attempt, ending: Ending) -> None:
        messages.post(writer, _told(attempt, ending) | {"job_id": attempt.job.id})

    call = BatchCall(spec, attempts, ended)
    for attempt in attempts:
        if (attempt.job.id, attempt.job.lease) in lost:
            attempt.end_lost()
    running = asyncio.create_task(call.run(Threads(lambda: None), timed=False))

    async def hear() -> None:
        while (order := await messages.receive(reader)) is not None:
            if order.get("stop"):
                running.cancel()
            for attempt in attempts:
                if attempt.job.id in order.get("cancelled", ()):
                    attempt.cancel_requested = True
                    call.end_from_outside(attempt, Cancel("cancelled while it ran"))
        os._exit(1)  # The worker is gone.

    hearing = asyncio.create_task(hear())
    try:
        await running
    except asyncio.CancelledError:
        pass
    finally:
        hearing.cancel()
    await messages.send(writer, {"says": "over"})


def _told(attempt: Attempt, ending: Ending) -> dict[str, object]:
    if attempt.committed:
        return {"says": "committed"}
    if ending is None:
        return {"says": "lost"}
    if isinstance(ending, str):
        return {"says": "released", "reason": ending}
    return messages.write_outcome(ending)
