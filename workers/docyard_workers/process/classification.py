"""What an exception means for the job: a pause, another attempt after a wait, or the end."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docyard_queue.errors import PermanentError, RateLimited
from docyard_queue.outage import brief
from docyard_queue.outcomes import Failure, Outcome, Snooze
from docyard_schema.connection_string import mask_password
from docyard_schema.errors import DocyardError

if TYPE_CHECKING:
    from docyard_queue.jobs import Job
    from docyard_queue.registry import HandlerSpec

# More than is ever kept: only so that masking a message of megabytes takes no time.
_READ = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What is kept of an exception: the same for every attempt that it ends."""

    code: str
    error_class: str
    message: str
    traceback: str

    @classmethod
    def of(cls, spec: HandlerSpec, error: BaseException) -> Described:
        """The description of an exception. Never raises itself."""
        code, message = "exception", mask_password(_message(error)[:_READ])
        if isinstance(error, DocyardError):
            code = str(error.code)
        elif isinstance(error, MemoryError) and spec.memory_limit is not None:
            code = "memory_limit"
            message = f"The handler needed more memory than the {spec.memory_limit:,} bytes that it may take."
        return cls(
            code=code,
            error_class=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
            message=message,
            traceback=mask_password("".join(traceback.format_exception(error))[-_READ:]),
        )


def classify(
    spec: HandlerSpec, job: Job, error: BaseException, described: Described | None = None
) -> Outcome:
    """The outcome of an attempt that raised. Never raises itself.

    ``described`` saves describing an exception again that ends many attempts.
    """
    backoff, is_final = spec.backoff, _is_permanent(error)
    if isinstance(error, RateLimited):
        # Not the job's fault: the attempt is given back.
        delay = backoff.delay(job.attempt) if error.retry_after is None else error.retry_after
        return Snooze(delay, mask_password(brief(error)))
    for kind, policy in spec.retry.items():
        if isinstance(error, kind):
            is_final, backoff = policy is None, policy or backoff
            break
    retry_in = None if is_final or job.attempt >= job.max_attempts else backoff.delay(job.attempt)
    described = described or Described.of(spec, error)
    return Failure(
        code=described.code,
        error_class=described.error_class,
        message=described.message,
        traceback=described.traceback,
        retry_in=retry_in,
    )


def crashed(spec: HandlerSpec, job: Job, how: str) -> Outcome:
    """The outcome of an attempt whose own process died, and ``how``."""
    return Failure(
        code="crashed",
        error_class="",
        message=how,
        traceback="",
        retry_in=None if job.attempt >= job.max_attempts else spec.backoff.delay(job.attempt),
        crashed=True,
    )


def _is_permanent(error: BaseException) -> bool:
    if isinstance(error, PermanentError):
        return True
    # docyard's own errors know; of anything else we do not, and trying again is the safer guess.
    return isinstance(error, DocyardError) and not error.retryable


def _message(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an exception of somebody else's, with a __str__ of its own
        return f"{type(error).__name__}, which cannot be printed"
