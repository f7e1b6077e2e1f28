"""The handlers that a worker can run, by the kind of job."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from docyard_queue.backoff import Backoff
from docyard_queue.errors import UnknownKind
from docyard_queue.handler_signature import is_async, payload_model
from docyard_queue.jobs import DEFAULT_QUEUE, NewJob
from docyard_schema.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import procrastinate

    from docyard_queue.schedules import Missed, Schedule


Handler = Callable[..., Awaitable[Any] | Any]
_Decorated = TypeVar("_Decorated", bound=Handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSpec:
    """A handler and the policy of its jobs.

    ``retry`` gives exception classes their own backoff, or None for "never again"; the first class that
    matches counts, in the order given. ``isolated``: each attempt runs in a child process of its own, with at
    most ``memory_limit`` bytes (None: no limit). ``batch`` of None: the handler takes one job at a time.
    """

    kind: str
    run: Handler
    queue: str
    max_attempts: int
    timeout: timedelta | None
    backoff: Backoff
    retry: Mapping[type[BaseException], Backoff | None]
    payload_model: type[BaseModel] | None
    is_async: bool
    isolated: bool = False
    memory_limit: int | None = None
    batch: BatchRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchRule:
    """How many jobs a batch handler takes: together they weigh at most ``size``, in one process and at once.

    ``wait`` is how long jobs are gathered before the call. A kind and its aliases share one rule, and are
    gathered together; two handlers never do.
    """

    size: float
    wait: timedelta


@dataclass(slots=True)
class Registry:
    """Kinds and their handlers. A worker claims only jobs whose kind is in its registry.

    ::

        registry = Registry()

        @registry.handler("charge", queue="billing", max_attempts=5)
        async def charge(attempt, payload): ...
    """

    _handlers: dict[str, HandlerSpec] = field(default_factory=dict)
    _schedules: dict[tuple[str, str], Schedule] = field(default_factory=dict)

    def handler(
        self,
        kind: str,
        *,
        queue: str = DEFAULT_QUEUE,
        max_attempts: int = 20,
        timeout: timedelta | None = None,
        backoff: Backoff | None = None,
        retry: Mapping[type[BaseException], Backoff | None] | None = None,
        aliases: tuple[str, ...] = (),
        isolated: bool = False,
        memory_limit: int | None = None,
    ) -> Callable[[_Decorated], _Decorated]:
        """Register a function ``(attempt, payload)``, async or sync, for jobs of ``kind``.

        ``payload`` is a dict, or the pydantic model that the parameter is annotated with. A sync function
        runs in a thread. ``aliases`` are former names of the kind, for jobs that still wait under them.

        ``isolated`` is for a handler that may crash or hang: each attempt runs in a child process of its own,
        which is killed when ``timeout`` is over, and the worker outlives it. ``memory_limit`` is the most
        bytes that the child may take, the interpreter's own 60 MB included. The child imports the handler, so
        it is a function at the top of a module.
        """

        if memory_limit is not None and (memory_limit < 1 or not isolated):
            raise ConfigError(
                f"The memory_limit of the kind {kind!r} is a number of bytes for an isolated handler, "
                f"got {memory_limit}.",
                hint="Give isolated=True as well: a thread's memory cannot be limited.",
            )

        return self._register(
            (kind, *aliases),
            queue=queue,
            max_attempts=max_attempts,
            timeout=timeout,
            backoff=backoff or Backoff(),
            retry=dict(retry or {}),
            isolated=isolated,
            memory_limit=memory_limit,
        )

    def batch_handler(
        self,
        kind: str,
        *,
        queue: str = DEFAULT_QUEUE,
        size: float,
        wait: timedelta = timedelta(0),
        max_attempts: int = 20,
        timeout: timedelta | None = None,
        backoff: Backoff | None = None,
        retry: Mapping[type[BaseException], Backoff | None] | None = None,
        aliases: tuple[str, ...] = (),
    ) -> Callable[[_Decorated], _Decorated]:
        """Register a function ``(batch, payloads)``, async or sync, that takes many jobs of ``kind`` at once.

        ``batch`` is an :class:`~docyard_queue.attempt_batch.AttemptBatch`, ``payloads[i]`` belongs to
        ``batch[i]``: dicts, or the pydantic model of ``payloads: list[Model]``. ``size`` is what the jobs of
        this handler weigh together, at most, that one worker process holds (a job's weight is 1 unless it was
        enqueued with another); a job that is heavier runs when nothing else of it does. Calls may overlap
        while there is room. ``wait`` is how long jobs are gathered before a call, which comes earlier when
        ``size`` is reached; 0 calls with what one claim brought. ``timeout`` is that of the whole call, a
        job's own that of its attempt. Give it a queue of its own: among many jobs of other kinds its jobs
        are found less often. The rest is as with :meth:`handler`.
        """
        if not 0 < size < math.inf:
            raise ConfigError(f"The size of the kind {kind!r} is a weight above zero, got {size}.")
        if wait < timedelta(0):
            raise ConfigError(f"The wait of the kind {kind!r} is not below zero, got {wait}.")
        return self._register(
            (kind, *aliases),
            queue=queue,
            max_attempts=max_attempts,
            timeout=timeout,
            backoff=backoff or Backoff(),
            retry=dict(retry or {}),
            batch=BatchRule(size=size, wait=wait),
        )

    def _register(self, names: tuple[str, ...], **policy: Any) -> Callable[[_Decorated], _Decorated]:
        kind, timeout = names[0], policy["timeout"]
        if policy["max_attempts"] < 1:
            raise ConfigError(
                f"max_attempts of the kind {kind!r} is at least 1, got {policy['max_attempts']}."
            )
        if timeout is not None and timeout.total_seconds() <= 0:
            raise ConfigError(f"The timeout of the kind {kind!r} is longer than zero, got {timeout}.")

        def register(function: _Decorated) -> _Decorated:
            for name in names:
                if name in self._handlers:
                    raise ConfigError(
                        f"Two handlers are registered for the kind {name!r}.",
                        hint="Give one of them another name, or merge the registries without overlap.",
                    )
                self._handlers[name] = HandlerSpec(
                    kind=name,
                    run=function,
                    payload_model=payload_model(function, many="batch" in policy),
                    is_async=is_async(function),
                    **policy,
                )
            return function

        return register

    def schedule(
        self,
        name: str,
        *,
        cron: str,
        queue: str | None = None,
        payload: Mapping[str, Any] | None = None,
        timezone: str = "UTC",
        missed: Missed = "once",
        look_back: timedelta = timedelta(days=7),
        priority: int = 0,
        unique_key: str | None = None,
        lock_key: str | None = None,
    ) -> Callable[[_Decorated], _Decorated]:
        """Enqueue a job for the function below whenever ``cron`` says so, once over all workers.

        A function that is a handler already is run as that kind, with its policy; any other becomes the
        handler of the kind ``name``. A handler may have several schedules. Its payload is ``payload`` with
        ``fire_time``, the moment in ISO 8601. ``queue`` of None is the handler's. The other arguments and
        what is refused: see :class:`~docyard_queue.schedules.Schedule`.
        """

        def register(function: _Decorated) -> _Decorated:
            from docyard_queue.schedules import Schedule

            spec = next((spec for spec in self if spec.run is function), None)
            wanted = Schedule(
                name=name,
                cron=cron,
                kind=name if spec is None else spec.kind,
                queue=queue or (DEFAULT_QUEUE if spec is None else spec.queue),
                payload=dict(payload or {}),
                timezone=timezone,
                missed=missed,
                look_back=look_back,
                priority=priority,
                unique_key=unique_key,
                lock_key=lock_key,
            )
            self.add_schedule(wanted)
            if spec is None:
                self.handler(name, queue=wanted.queue)(function)
            return function

        return register

    def add_schedule(self, schedule: Schedule) -> None:
        """Take a schedule in. Raises :class:`ConfigError` when there is one of its name."""
        key = (schedule.name, schedule.periodic_id)
        if key in self._schedules:
            raise ConfigError(f"Two schedules are named {schedule.name!r}.", hint="Give one another name.")
        self._schedules[key] = schedule

    @property
    def schedules(self) -> Sequence[Schedule]:
        """The schedules, in the order of their registration."""
        return [*self._schedules.values()]

    @classmethod
    def from_procrastinate(cls, app: procrastinate.App) -> Registry:
        """A registry with the tasks of a procrastinate ``App``, run as they are, without its worker."""
        # Not at the top: who writes docyard handlers never loads procrastinate.
        from docyard_queue.procrastinate_tasks import take_over

        return take_over(app, cls())

    def job(self, kind: str, payload: Mapping[str, Any] | BaseModel | None = None, **options: Any) -> NewJob:
        """A job of a registered kind, in its handler's queue unless ``options`` name another."""
        spec = self[kind]
        if isinstance(payload, BaseModel):
            payload = payload.model_dump(mode="json")
        return NewJob(kind, payload or {}, **({"queue": spec.queue} | options))

    def include(self, other: Registry) -> Registry:
        """Take in another registry's handlers and schedules; what is in both is an error. Returns itself."""
        both = self._handlers.keys() & other._handlers.keys()
        if both:
            raise ConfigError(f"Both registries have handlers for: {', '.join(sorted(both))}.")
        for schedule in other.schedules:
            self.add_schedule(schedule)
        self._handlers |= other._handlers
        return self

    def __getitem__(self, kind: str) -> HandlerSpec:
        try:
            return self._handlers[kind]
        except KeyError:
            raise UnknownKind(
                f"No handler is registered for the kind {kind!r}.",
                hint=f"Registered are: {', '.join(sorted(self._handlers)) or 'none'}.",
            ) from None

    def __contains__(self, kind: object) -> bool:
        return kind in self._handlers

    def __iter__(self) -> Iterator[HandlerSpec]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)
