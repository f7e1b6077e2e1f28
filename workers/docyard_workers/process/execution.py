"""Runs one attempt: a job goes in, an outcome comes out, whatever the handler does.

A pipe of small steps: find the handler, read the payload, call, classify.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from docyard_queue.errors import JobTimeout, LeaseLost, PermanentError, RateLimited
from docyard_queue.outcomes import Cancel, Done, Failure, Outcome, Snooze
from docyard_schema.connection_string import mask_password
from docyard_schema.errors import DocyardError

if TYPE_CHECKING:
    from docyard_queue.attempt import Attempt
    from docyard_queue.jobs import Job
    from docyard_queue.registry import HandlerSpec


async def execute(spec: HandlerSpec, attempt: Attempt) -> Outcome:
    """Run a handler once and say what became of it; raises only :class:`LeaseLost` and cancellation."""
    try:
        payload = _read_payload(spec, attempt.job)
        returned = await _call(spec, attempt, payload)
    except (LeaseLost, asyncio.CancelledError):
        raise
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)) and not spec.is_async:
            raise
        return classify(spec, attempt.job, error)
    return returned if isinstance(returned, (Done, Snooze, Cancel)) else Done(returned)


def classify(spec: HandlerSpec, job: Job, error: BaseException) -> Outcome:
    """What an exception means for the job: a pause, another attempt after a wait, or the end."""
    if isinstance(error, RateLimited):
        # Not the job's fault: the attempt is given back.
        return Snooze(error.retry_after or spec.backoff.delay(job.attempt))
    backoff, is_final = spec.backoff, _is_permanent(error)
    for kind, policy in spec.retry.items():
        if isinstance(error, kind):
            is_final, backoff = policy is None, policy or backoff
            break
    retry_in = None if is_final or job.attempt >= job.max_attempts else backoff.delay(job.attempt)
    return Failure(
        code=error.code if isinstance(error, DocyardError) else "exception",
        error_class=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        message=mask_password(str(error) or type(error).__name__),
        traceback=mask_password("".join(traceback.format_exception(error))),
        retry_in=retry_in,
    )


def _is_permanent(error: BaseException) -> bool:
    if isinstance(error, PermanentError):
        return True
    # docyard's own errors know; of anything else we do not, and trying again is the safer guess.
    return isinstance(error, DocyardError) and not error.retryable


def _read_payload(spec: HandlerSpec, job: Job) -> Any:
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


async def _call(spec: HandlerSpec, attempt: Attempt, payload: Any) -> Any:
    seconds = attempt.job.timeout_seconds
    if seconds is None and spec.timeout is not None:
        seconds = spec.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds) as limit:
            if spec.is_async:
                return await spec.run(attempt, payload)
            return await asyncio.to_thread(spec.run, attempt, payload)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobTimeout(
            f"The handler of {spec.kind!r} ran longer than its {seconds:g} s.",
            hint="Raise the timeout, or do less in one job.",
        ) from error
