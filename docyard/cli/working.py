"""Running a worker inside a command: its registry, its signals, its end."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractContextManager

    from docyard.cli.invocation import Invocation
    from docyard_queue import Registry
    from docyard_workers.process import Worker


def stops(invocation: Invocation, worker: Worker) -> AbstractContextManager[None]:
    """Inside, Ctrl-C and SIGTERM let the worker finish what it runs, and say so.

    Stands around the worker's own context: a worker that is starting or ending is not torn out of it.
    """

    def stop() -> None:
        seconds = worker.options.shutdown_seconds
        invocation.output.aside(
            f"Stopping; running jobs get {seconds:g} s to finish. Ctrl-C again ends at once."
        )
        worker.stop()

    return invocation.stopping.gracefully(stop)


def run_fast(work: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop where that is installed (extra ``fast``): a tenth less of Python's time per job."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def load_registry(target: str) -> Registry:
    """The registry that ``module:name`` names, looked up from the current folder first.

    Raises :class:`ConfigError` when there is no such thing.
    """
    from docyard_queue import Registry
    from docyard_schema import ConfigError

    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(
            f"--app is module:registry, got {target!r}.",
            hint="For example: --app my_app.jobs:registry",
        )
    if os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"--app {target}: there is no module {error.name!r}.",
            hint="Run from the folder that holds it, or install it where docyard is installed.",
        ) from error
    # Outside the block: the module's own mistakes are not "has no registry".
    if not hasattr(module, attribute):
        raise ConfigError(f"--app {target}: the module has no {attribute!r}.")
    found = getattr(module, attribute)
    if not isinstance(found, Registry):
        raise ConfigError(
            f"--app {target}: expected a docyard_queue.Registry, got a {type(found).__name__}.",
            hint="registry = Registry(), then @registry.handler(…) above each handler.",
        )
    return found
