"""Attempts of a batch handler that must run alone: together in one child, halved when it dies.

So a poison among n is found in about 2 · log2 n children, and what ran beside it pays nothing: only who dies
in a child of its own is to blame.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from docyard_queue.errors import IsolationFailed
from docyard_queue.outcomes import Cancel, Snooze
from docyard_workers.process.classification import classify, crashed
from docyard_workers.process.execution import too_long
from docyard_workers.process.isolation import messages
from docyard_workers.process.isolation.apart import GRACE_SECONDS, NOT_NOW, Died, NotNow, cause_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue.attempt import Attempt
    from docyard_queue.engine import Engine
    from docyard_queue.registry import HandlerSpec
    from docyard_workers.process.batch_call import BatchCall
    from docyard_workers.process.isolation.apart import Apart
    from docyard_workers.process.isolation.nursery import Child

# How often a child is told of attempts that have ended here, by a cancel.
_TELL_SECONDS = 0.1


class Group:
    """Runs the attempts of one call in children. Raises :class:`Unready` when no child finds the handler."""

    def __init__(self, apart: Apart, engine: Engine, spec: HandlerSpec, call: BatchCall) -> None:
        self._apart = apart
        self._engine = engine
        self._spec = spec
        self._call = call
        self._by_id = {attempt.job.id: attempt for attempt in call.attempts}

    async def run(self) -> None:
        """End all attempts of the call, whatever their handler does to its process."""
        suspects = await self._engine.began_together([attempt.job for attempt in self._call.attempts])
        groups: list[list[Attempt]] = [[]]
        for attempt in self._call.attempts:
            if (attempt.job.id, attempt.job.lease) in suspects:
                groups.append([attempt])
            else:
                groups[0].append(attempt)
        while groups:
            members = [attempt for attempt in groups.pop(0) if not attempt.ended]
            if not members:
                continue
            died = await self._in_a_child(members)
            left = [attempt for attempt in members if not attempt.ended]
            if died is None or not left:
                continue
            if len(members) == 1:
                self._call.end(left[0], died)
                continue
            half = (len(left) + 1) // 2
            groups[:0] = [left[:half], left[half:]]

    async def _in_a_child(self, members: Sequence[Attempt]) -> Any:
        """What its end means for a member that was alone in the child; None when it did not die."""
        first = members[0].job
        try:
            async with self._apart.child(self._spec, [attempt.job for attempt in members]) as child:
                await self._until_it_ends(child, members)
                return None
        except NotNow as reason:
            self._end(members, Snooze(NOT_NOW, str(reason)))
            return None
        except Died as how:
            await self._note_completed(members)
            return crashed(self._spec, first, f"the child process died {how}")
        except TimeoutError:
            # One of several that hangs is found as one that crashes is.
            await self._note_completed(members)
            return classify(self._spec, first, too_long(self._spec, self._seconds(members) or 0))
        except IsolationFailed as error:
            for attempt in members:
                self._call.end(attempt, classify(self._spec, attempt.job, error))
            return None

    async def _until_it_ends(self, child: Child, members: Sequence[Attempt]) -> None:
        telling = asyncio.create_task(self._tell_of_cancels(child, members))
        try:
            async with asyncio.timeout(self._seconds(members)):
                while (told := await child.receive()) is not None:
                    if told["says"] == "over":
                        return
                    self._hear(told)
            raise Died(f"while it ran: {await cause_of(child)}")
        except asyncio.CancelledError:
            await self._stop(child)
            raise
        finally:
            telling.cancel()

    def _seconds(self, members: Sequence[Attempt]) -> float | None:
        seconds = members[0].job.timeout_seconds if len(members) == 1 else None
        if seconds is None and self._spec.timeout is not None:
            seconds = self._spec.timeout.total_seconds()
        return seconds

    def _hear(self, told: dict[str, Any]) -> None:
        attempt = self._by_id[told["job_id"]]
        match told["says"]:
            case "committed" if not attempt.ended:
                attempt.end_committed(None)
            case "lost" if not attempt.ended:
                attempt.end_lost()
            case "released":
                self._call.end(attempt, told["reason"])
            case _:
                outcome = messages.read_outcome(told)
                if outcome is not None:
                    self._call.end(attempt, outcome)

    async def _tell_of_cancels(self, child: Child, members: Sequence[Attempt]) -> None:
        known: set[int] = set()
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            new = [a.job.id for a in members if a.cancel_requested and a.job.id not in known]
            if new:
                known.update(new)
                await child.send({"cancelled": new})

    async def _stop(self, child: Child) -> None:
        """Tell a child to end, and hear what it still says."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await child.send({"stop": True})
                while (told := await child.receive()) is not None and told["says"] != "over":
                    self._hear(told)
        except TimeoutError:
            return

    async def _note_completed(self, members: Sequence[Attempt]) -> None:
        """End those that the child had committed, and could not say so any more."""
        left = [attempt for attempt in members if not attempt.ended]
        done = await self._engine.completed_of([attempt.job for attempt in left])
        for attempt in left:
            if (attempt.job.id, attempt.job.lease) in done:
                attempt.end_committed(None)

    def _end(self, members: Sequence[Attempt], outcome: Snooze | Cancel) -> None:
        for attempt in members:
            self._call.end(attempt, outcome)
