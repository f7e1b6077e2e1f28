"""For the tests of what uses docyard: look at jobs, run them here, set the clock, let workers crash.

On a real Postgres, the embedded one or yours; docs/testing.md shows it. Fixtures for pytest are in
:mod:`docyard.testing.fixtures`.
"""

from __future__ import annotations

from datetime import timedelta

from docyard.testing.assertions import (
    assert_enqueued,
    assert_enqueued_async,
    refute_enqueued,
    refute_enqueued_async,
)
from docyard.testing.clock import Clock, freeze
from docyard.testing.crashing import Crash, crash_at
from docyard.testing.draining import Drained, drain
from docyard.testing.enqueued import EnqueuedJob, enqueued, enqueued_async
from docyard.testing.performed import Performed
from docyard.testing.performing import perform
from docyard.testing.rescuing import rescue_now
from docyard_queue import Backoff

__all__ = [
    "AT_ONCE",
    "Clock",
    "Crash",
    "Drained",
    "EnqueuedJob",
    "Performed",
    "assert_enqueued",
    "assert_enqueued_async",
    "crash_at",
    "drain",
    "enqueued",
    "enqueued_async",
    "freeze",
    "perform",
    "refute_enqueued",
    "refute_enqueued_async",
    "rescue_now",
]

# A backoff without a wait.
AT_ONCE = Backoff(base=timedelta(0))
