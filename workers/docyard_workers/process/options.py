"""How a worker works, as values."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - a field's type
from dataclasses import dataclass

from docyard_schema.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works.

    ``queues`` of None serves all. ``poll_seconds`` is the longest sleep when no notification comes;
    ``shutdown_seconds`` is how long a stop waits for running jobs before it gives them back.
    """

    queues: Sequence[str] | None = None
    concurrency: int = 10
    heartbeat_seconds: float = 5
    shutdown_seconds: float = 30
    poll_seconds: float = 5

    def __post_init__(self) -> None:
        for name in ("concurrency", "heartbeat_seconds", "poll_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"A worker's {name} is above zero, got {getattr(self, name)}.")
        if self.shutdown_seconds < 0:
            raise ConfigError(f"A worker's shutdown_seconds is not below zero, got {self.shutdown_seconds}.")
        if self.queues is not None and (isinstance(self.queues, str) or not self.queues):
            raise ConfigError(
                f"A worker's queues are a list of names, got {self.queues!r}.", hint="None serves all queues."
            )
