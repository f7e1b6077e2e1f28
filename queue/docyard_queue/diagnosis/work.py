"""Checks of the work itself: who does it, what waits, what was given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_queue.diagnosis.finding import Finding, counted, duration, ok, problem, warning
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_queue.diagnosis.patient import Patient

_statements = load_statements("docyard_queue.diagnosis", "work.sql")

_LONG_WAIT_SECONDS = 15 * 60


async def workers(patient: Patient) -> list[Finding]:
    """Workers that fell silent, and whether any lives."""
    rows = await patient.ask(_statements.workers)
    found = [
        warning(
            "workers",
            f"worker {number} (host {host}, pid {pid}) has been silent for {duration(silent)} and holds "
            f"{counted(running, 'job')}",
            "It is stopped, cut off or gone; the next living worker takes its jobs. Look at that process.",
        )
        for number, host, pid, state, running, silent in rows
        if state == "lost"
    ]
    living = len(rows) - len(found)
    if living:
        return [*found, ok("workers", f"{living} {'lives' if living == 1 else 'live'}")]
    waiting = sum(available for _, _, available, *_ in await patient.ask(_statements.queues))
    if waiting:
        found.append(
            problem(
                "workers", f"none lives, and {counted(waiting, 'job')} could run", "Start one: docyard worker"
            )
        )
    return found or [ok("workers", "none lives, and nothing waits")]


async def orphans(patient: Patient) -> list[Finding]:
    """Jobs that run under a worker that does not live."""
    [(number,)] = await patient.ask(_statements.orphans)
    if number <= 0:
        return [ok("running jobs", "all are in a living worker's hands")]
    return [
        warning(
            "running jobs",
            f"{counted(number, 'job')} under no living worker",
            "The next living worker takes them at its start or its next heartbeat; start one if none lives.",
        )
    ]


async def paused_queues(patient: Patient) -> list[Finding]:
    """Queues whose jobs wait because somebody paused them."""
    found = []
    for queue, paused, available, retryable, scheduled, *_ in await patient.ask(_statements.queues):
        waiting = available + retryable + scheduled
        if paused and waiting:
            found.append(
                warning(
                    "paused queues",
                    f"{queue} is paused with {counted(waiting, 'waiting job')}",
                    f"When they may run again: docyard queues resume {queue}",
                )
            )
    return found or [ok("paused queues", "none has waiting jobs")]


async def unserved(patient: Patient) -> list[Finding]:
    """Waiting jobs that no living worker would take."""
    if not any(row[3] != "lost" for row in await patient.ask(_statements.workers)):
        return [ok("kinds", "not compared: no worker lives")]
    return [
        warning(
            "kinds",
            f"{counted(jobs, 'job')} of kind {kind!r} wait in queue {queue!r}: no living worker takes them",
            "Start one that serves the queue and has the handler (docyard worker --app …), or cancel them.",
        )
        for queue, kind, jobs in await patient.ask(_statements.unserved)
    ] or [ok("kinds", "living workers know every kind that waits")]


async def waiting(patient: Patient) -> list[Finding]:
    """For how long the oldest job of a queue that is not paused has been due."""
    oldest = max(
        (
            (row[6], row[0])
            for row in await patient.ask(_statements.queues)
            if not row[1] and row[6] is not None
        ),
        default=None,
    )
    if oldest is None:
        return [ok("waiting jobs", "none is due")]
    told = f"the oldest has been due for {duration(oldest[0])}, in queue {oldest[1]}"
    if oldest[0] < _LONG_WAIT_SECONDS:
        return [ok("waiting jobs", told)]
    return [
        warning(
            "waiting jobs", told, "More workers, or docyard jobs explain ID for one that should have run."
        )
    ]


async def dead_letters(patient: Patient) -> list[Finding]:
    """What was given up within a day."""
    [(number, kind, code)] = await patient.ask(_statements.dead_letters)
    if not number:
        return [ok("dead letters", "none in the last 24 hours")]
    return [
        warning(
            "dead letters",
            f"{counted(number, 'job')} within 24 hours, most of kind {kind}, most for {code}",
            "docyard jobs list --state dead; mend the cause, then docyard jobs redrive",
        )
    ]
