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
from docyard_queue.jobs import DEFAULT_QUEUE
from docyard_queue.schedules import Schedule
from docyard_schema.errors import ConfigError

if TYPE_CHECKING:
    import procrastinate
    from procrastinate.periodic import PeriodicTask
    from procrastinate.tasks import Task

    from docyard_queue.registry import Registry

# What procrastinate calls "retry for ever" ends here: a job that failed this often needs a person.
_FOREVER = 1000
# procrastinate makes up for a moment that was missed no longer ago.
_LOOK_BACK = timedelta(minutes=10)


def take_over(app: procrastinate.App, registry: Registry) -> Registry:
    """Register every task of ``app``: same name, queue and aliases, as many runs as its retry strategy gives.

    procrastinate's ``max_attempts`` counts retries, so 3 of them are 4 attempts here. Its waits are kept as
    they are, without jitter. Its periodic tasks become schedules that go on where its workers stopped. Raises
    :class:`ConfigError` for what has no equal: ``pass_context``, retry strategies of one's own, and periodic
    tasks that are put off.
    """
    for name, task in app.tasks.items():
        if name == task.name and not name.startswith("builtin:"):
            _register(task, registry)
    for periodic in app.periodic_registry.periodic_tasks.values():
        # Its own maintenance is ours.
        if not periodic.task.name.startswith("builtin:"):
            registry.add_schedule(_schedule(periodic))
    return registry


def _schedule(periodic: PeriodicTask[Any, Any, Any]) -> Schedule:
    task = periodic.task
    # Any: a TypedDict of which our lower bound of procrastinate may know fewer keys.
    options: dict[str, Any] = {**periodic.configure_kwargs}
    if options.get("schedule_at") or options.get("schedule_in"):
        raise ConfigError(
            f"The periodic task {task.name!r} is put off with schedule_at or schedule_in.",
            hint="Write the time into its cron expression.",
        )
    payload = {key: value for key, value in (options.get("task_kwargs") or {}).items() if key != "timestamp"}
    return Schedule(
        name=task.name,
        periodic_id=periodic.periodic_id,
        kind=task.name,
        cron=periodic.cron,
        queue=options.get("queue") or task.queue or DEFAULT_QUEUE,
        payload=payload,
        priority=options.get("priority") or task.priority or 0,
        lock_key=options.get("lock") or task.lock,
        unique_key=options.get("queueing_lock") or task.queueing_lock,
        look_back=_LOOK_BACK,
        moment_key="timestamp",
    )


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
