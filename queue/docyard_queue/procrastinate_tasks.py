"""The one module that speaks to procrastinate: takes the tasks of an ``App`` over as handlers.

Its producers need nothing of this: they write into the tables that docyard's workers claim from.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from procrastinate.retry import RetryStrategy

from docyard_queue.backoff import Backoff
from docyard_schema.errors import ConfigError

if TYPE_CHECKING:
    import procrastinate
    from procrastinate.tasks import Task

    from docyard_queue.registry import Registry

# What procrastinate calls "retry for ever" ends here: a job that failed this often needs a person.
_FOREVER = 1000


def take_over(app: procrastinate.App, registry: Registry) -> Registry:
    """Register every task of ``app``: same name, queue and aliases, as many runs as its retry strategy gives.

    procrastinate's ``max_attempts`` counts retries, so 3 of them are 4 attempts here. Its waits are kept as
    they are, without jitter. Raises :class:`ConfigError` for what has no equal: ``pass_context`` and retry
    strategies of one's own.
    """
    for name, task in app.tasks.items():
        if name == task.name and not name.startswith("builtin:"):
            _register(task, registry)
    return registry


@dataclass(frozen=True, slots=True, kw_only=True)
class _TheirBackoff(Backoff):
    strategy: RetryStrategy

    def ceiling(self, attempt: int) -> timedelta:
        earlier = attempt - 1
        wait = self.strategy.wait + self.strategy.linear_wait * earlier
        return timedelta(seconds=wait + self.strategy.exponential_wait**attempt)


def _register(task: Task[Any, Any, Any], registry: Registry) -> None:
    if task.pass_context:
        raise ConfigError(
            f"The task {task.name!r} wants procrastinate's job context, which docyard's workers do not have.",
            hint="Write it as a docyard handler: async def handler(attempt, payload).",
        )
    strategy = task.retry_strategy
    if strategy is not None and not isinstance(strategy, RetryStrategy):
        raise ConfigError(
            f"The task {task.name!r} has a retry strategy of its own, {type(strategy).__name__}.",
            hint="Write it as a docyard handler with backoff= and retry=.",
        )
    backoff = None if strategy is None else _TheirBackoff(strategy=strategy, jitter=False)
    retry: dict[type[BaseException], Backoff | None] = {}
    if strategy is None:
        attempts = 1
    else:
        attempts = strategy.max_attempts + 1 if strategy.max_attempts else _FOREVER
        if strategy.retry_exceptions:
            retry = dict.fromkeys(strategy.retry_exceptions, backoff)
            retry[Exception] = None
    registry.handler(
        task.name,
        queue=task.queue,
        max_attempts=attempts,
        backoff=backoff,
        retry=retry,
        aliases=tuple(task.aliases or ()),
    )(_handler(task))


def _handler(task: Task[Any, Any, Any]) -> Any:
    if inspect.iscoroutinefunction(task.func):

        async def run(attempt: object, payload: dict[str, Any]) -> Any:
            return await task.func(**payload)

        return run

    def run_sync(attempt: object, payload: dict[str, Any]) -> Any:
        return task.func(**payload)

    return run_sync
