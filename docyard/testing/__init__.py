"""For the tests of what uses docyard: look at jobs, run them here, set the clock, let workers crash.

On a real Postgres, the embedded one or yours; docs/testing.md shows it. Fixtures for pytest are in
:mod:`docyard.testing.fixtures`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docyard.testing.assertions import (
        assert_enqueued,
        assert_enqueued_async,
        refute_enqueued,
        refute_enqueued_async,
    )
    from docyard.testing.clock import Clock, freeze
    from docyard.testing.crashing import Crash, crash_at
    from docyard.testing.draining import AT_ONCE, Drained, drain
    from docyard.testing.listing import EnqueuedJob, enqueued, enqueued_async
    from docyard.testing.performed import Performed
    from docyard.testing.performing import perform, perform_batch
    from docyard.testing.rescuing import rescue_now

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
    "perform_batch",
    "refute_enqueued",
    "refute_enqueued_async",
    "rescue_now",
]

# Imported when asked for: pytest loads the fixtures at its start, and they need none of it.
_HOME = {
    "AT_ONCE": "draining",
    "Clock": "clock",
    "Crash": "crashing",
    "Drained": "draining",
    "EnqueuedJob": "listing",
    "Performed": "performed",
    "assert_enqueued": "assertions",
    "assert_enqueued_async": "assertions",
    "crash_at": "crashing",
    "drain": "draining",
    "enqueued": "listing",
    "enqueued_async": "listing",
    "freeze": "clock",
    "perform": "performing",
    "perform_batch": "performing",
    "refute_enqueued": "assertions",
    "refute_enqueued_async": "assertions",
    "rescue_now": "rescuing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
