"""Tasks of a procrastinate App as docyard handlers."""

from __future__ import annotations

from datetime import timedelta

import procrastinate
import pytest

from docyard_queue import Registry
from docyard_queue.errors import UnknownKind
from docyard_schema import ConfigError


@pytest.fixture
def app() -> procrastinate.App:
    return procrastinate.App(connector=procrastinate.PsycopgConnector())


def test_a_task_keeps_its_name_queue_and_aliases(app):
    @app.task(name="charge", queue="billing", aliases=["old_charge"])
    def charge(order):
        return order

    registry = Registry.from_procrastinate(app)
    assert {spec.kind: spec.queue for spec in registry} == {"charge": "billing", "old_charge": "billing"}
    assert registry["charge"].run(None, {"order": 7}) == 7
    assert not registry["charge"].is_async


async def test_an_async_task_stays_async(app):
    @app.task(name="greet")
    async def greet(name):
        return f"hello {name}"

    spec = Registry.from_procrastinate(app)["greet"]
    assert spec.is_async
    assert await spec.run(None, {"name": "you"}) == "hello you"


def test_a_task_without_retries_runs_once(app):
    app.task(name="once")(print)
    assert Registry.from_procrastinate(app)["once"].max_attempts == 1


def test_retries_become_as_many_attempts_with_the_same_waits(app):
    strategy = procrastinate.RetryStrategy(max_attempts=3, wait=5, linear_wait=2, exponential_wait=3)
    app.task(name="often", retry=strategy)(print)
    spec = Registry.from_procrastinate(app)["often"]
    assert spec.max_attempts == 4
    waits = [spec.backoff.delay(attempt) for attempt in (1, 2, 3)]
    # As procrastinate computes it after its attempts 0, 1 and 2.
    assert waits == [timedelta(seconds=5 + 2 * n + 3 ** (n + 1)) for n in (0, 1, 2)]


def test_only_the_named_exceptions_are_retried(app):
    strategy = procrastinate.RetryStrategy(max_attempts=3, retry_exceptions=[ConnectionError])
    app.task(name="picky", retry=strategy)(print)
    retry = Registry.from_procrastinate(app)["picky"].retry
    assert list(retry) == [ConnectionError, Exception]
    assert retry[Exception] is None


def test_a_task_that_wants_the_job_context_is_refused(app):
    app.task(name="contextual", pass_context=True)(print)
    with pytest.raises(ConfigError, match="contextual"):
        Registry.from_procrastinate(app)


def test_procrastinates_own_maintenance_is_left_out(app):
    with pytest.raises(UnknownKind):
        Registry.from_procrastinate(app)["builtin:procrastinate.builtin_tasks.remove_old_jobs"]
