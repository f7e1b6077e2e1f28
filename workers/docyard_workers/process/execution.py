"""Runs one attempt: a job goes in, an outcome comes out, whatever the handler does.

A pipe of small steps: read the payload, call, classify.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from docyard_queue.errors import JobTimeout, LeaseLost, PermanentError
from docyard_queue.outcomes import Cancel, Done, Outcome, Snooze
from docyard_workers.process.classification import classify

if TYPE_CHECKING:
    from docyard_queue.attempt import Attempt
    from docyard_queue.jobs import Job
    from docyard_queue.registry import HandlerSpec
    from docyard_workers.process.threads import Threads


async def execute(spec: HandlerSpec, attempt: Attempt, threads: Threads, *, timed: bool = True) -> Outcome:
    """Run a handler once and say what became of it; without ``timed`` somebody else looks at the clock.

    Raises only :class:`LeaseLost`, cancellation of the task that runs it, and what ends the whole process.
    """
    try:
        payload = read_payload(spec, attempt.job)
        if timed:
            returned = await _call(spec, attempt, payload, threads)
        else:
            returned = await _run(spec, attempt, payload, threads)
    except (LeaseLost, GeneratorExit):
        raise
    except KeyboardInterrupt as error:
        # Inside the event loop it is a person's at the terminal; threads get none, so there a handler's own.
        if spec.is_async:
            raise
        return classify(spec, attempt.job, error)
    except asyncio.CancelledError as error:
        # One that nobody asked of this task is the handler's own: something it awaited was cancelled.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return classify(spec, attempt.job, error)
    except BaseException as error:  # noqa: BLE001 - SystemExit too: a handler does not end the worker
        return classify(spec, attempt.job, error)
    return returned if isinstance(returned, (Done, Snooze, Cancel)) else Done(returned)


def read_payload(spec: HandlerSpec, job: Job) -> Any:
    """The payload as the handler expects it. Raises :class:`PermanentError` when it does not fit."""
    if spec.payload_model is None:
        return job.payload
    try:
        return spec.payload_model.model_validate(job.payload)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'payload'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise PermanentError(
            f"The payload does not fit {spec.payload_model.__name__}: {problems}",
            hint=f"Whoever enqueues {job.kind!r} jobs must send what the handler expects.",
        ) from None


def too_long(spec: HandlerSpec, seconds: float) -> JobTimeout:
    """The error of a handler that ran longer than it may."""
    return JobTimeout(
        f"The handler of {spec.kind!r} ran longer than its {seconds:g} s.",
        hint="Raise the timeout, or do less in one job.",
    )


async def _call(spec: HandlerSpec, attempt: Attempt, payload: Any, threads: Threads) -> Any:
    seconds = attempt.job.timeout_seconds
    if seconds is None and spec.timeout is not None:
        seconds = spec.timeout.total_seconds()
    if seconds is None:
        return await _run(spec, attempt, payload, threads)
    try:
        async with asyncio.timeout(seconds) as limit:
            return await _run(spec, attempt, payload, threads)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise too_long(spec, seconds) from error


async def _run(spec: HandlerSpec, attempt: Attempt, payload: Any, threads: Threads) -> Any:
    if spec.is_async:
        return await spec.run(attempt, payload)
    returned = await threads.call(spec.run, attempt, payload)
    # A sync function around an async one gives a coroutine.
    return await returned if inspect.isawaitable(returned) else returned
