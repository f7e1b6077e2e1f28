"""How a child process finds a handler: by its module and name, or by a recipe that the worker was given.

Never by anything in a job's row: who can enqueue cannot choose what is imported.
"""

from __future__ import annotations

import importlib
import runpy
import sys
import types
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docyard_queue.backoff import Backoff
from docyard_queue.errors import IsolationFailed
from docyard_queue.registry import HandlerSpec, Registry
from docyard_schema.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from docyard_schema.database import Database

# What a script is called in a child, so that its "if __name__ == '__main__'" does not run again.
_MAIN_IN_CHILD = "__docyard_main__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a child process makes a worker's registry: for handlers that have no name of their own.

    ``target`` is ``module:name``. What it names is a :class:`Registry`; or a function that is called with the
    child's :class:`Database` and ``arguments`` (what JSON can say) and gives one, or an asynchronous context
    manager that gives one and puts away afterwards what its handlers used.
    """

    target: str
    # Not shown: there may be keys in it.
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)


def require_importable(specs: Iterable[HandlerSpec], recipe: Recipe | None) -> None:
    """Raise :class:`ConfigError` for an isolated handler that no child could find."""
    for spec in specs:
        if spec.isolated and recipe is None:
            try:
                _by_name(spec)
            except _Unnamed as reason:
                raise ConfigError(
                    f"The handler of {spec.kind!r} is isolated, but a child cannot find it: {reason}.",
                    hint="Make it a function at the top of a module, or give the worker a recipe.",
                ) from None


def refer(spec: HandlerSpec, recipe: Recipe | None) -> dict[str, Any] | None:
    """How a child finds this handler, as JSON; None when it cannot."""
    main = _main()
    try:
        return {"main": main, "handler": _by_name(spec)}
    except _Unnamed:
        return None if recipe is None else {"main": main, "recipe": asdict(recipe), "kind": spec.kind}


@asynccontextmanager
async def found(reference: dict[str, Any], database: Database) -> AsyncIterator[HandlerSpec]:
    """In a child: the handler that :func:`refer` meant, with what it needs open.

    Raises what its module raises, and :class:`IsolationFailed` when there is no such handler any more.
    """
    if "handler" in reference:
        yield _rebuilt(reference["handler"], reference["main"])
        return
    recipe = Recipe(**reference["recipe"])
    async with AsyncExitStack() as stack:
        made = _look_up(recipe.target, reference["main"])
        if callable(made):
            made = made(database, **recipe.arguments)
        if hasattr(made, "__aenter__"):
            made = await stack.enter_async_context(made)
        if not isinstance(made, Registry) or reference["kind"] not in made:
            raise IsolationFailed(
                f"The recipe {recipe.target!r} gave no handler of {reference['kind']!r}.",
                hint="It gives a docyard_queue.Registry that has the handlers of the worker.",
            )
        yield made[reference["kind"]]


class _Unnamed(Exception):
    """Why an object cannot be found by its name."""


def _by_name(spec: HandlerSpec) -> dict[str, Any]:
    return {
        "function": _name(spec.run),
        "kind": spec.kind,
        "queue": spec.queue,
        "max_attempts": spec.max_attempts,
        "isolated": spec.isolated,
        "memory_limit": spec.memory_limit,
        "size": None if spec.batch is None else spec.batch.size,
        "backoff": write_backoff(spec.backoff),
        "retry": [
            [_name(kind), None if policy is None else write_backoff(policy)]
            for kind, policy in spec.retry.items()
        ],
    }


def _rebuilt(written: dict[str, Any], main: dict[str, str] | None) -> HandlerSpec:
    retry = {
        _look_up(kind, main): None if policy is None else read_backoff(policy)
        for kind, policy in written["retry"]
    }
    registry = Registry()
    policy: dict[str, Any] = {"backoff": read_backoff(written["backoff"]), "retry": retry}
    policy |= {name: written[name] for name in ("queue", "max_attempts")}
    if written["size"] is not None:
        register = registry.batch_handler(written["kind"], size=written["size"], **policy)
    else:
        policy |= {name: written[name] for name in ("isolated", "memory_limit")}
        register = registry.handler(written["kind"], **policy)
    register(_look_up(written["function"], main))
    return registry[written["kind"]]


def _name(thing: Any) -> str:
    module, qualified = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or qualified is None:
        raise _Unnamed(f"{thing!r} has no name")
    if "<" in qualified:
        raise _Unnamed(f"{qualified} is made inside a function")
    if module == "__main__" and _main() is None:
        raise _Unnamed("its module is no file that can be run again")
    here: Any = sys.modules.get(module)
    for part in qualified.split("."):
        here = getattr(here, part, None)
    if here is not thing:
        raise _Unnamed(f"{module}.{qualified} is something else, or does not exist")
    return f"{module}:{qualified}"


def _look_up(name: str, main: dict[str, str] | None) -> Any:
    module, _, qualified = name.partition(":")
    here: Any = _run_main(main) if module == "__main__" else importlib.import_module(module)
    for part in qualified.split("."):
        here = getattr(here, part)
    return here


def _main() -> dict[str, str] | None:
    """How this process's program can be loaded again: by its module's name (``python -m``), or its file."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name:
        return {"module": spec.name}
    return {"file": str(Path(file).resolve())} if file is not None and Path(file).is_file() else None


def _run_main(main: dict[str, str] | None) -> types.ModuleType:
    if main is None:
        raise IsolationFailed("The program that started the worker cannot be loaded again.")
    if _MAIN_IN_CHILD not in sys.modules:
        module = types.ModuleType(_MAIN_IN_CHILD)
        if "module" in main:
            content = runpy.run_module(main["module"], run_name=_MAIN_IN_CHILD, alter_sys=True)
        else:
            content = runpy.run_path(main["file"], run_name=_MAIN_IN_CHILD)
        module.__dict__.update(content)
        sys.modules["__main__"] = sys.modules[_MAIN_IN_CHILD] = module
    return sys.modules[_MAIN_IN_CHILD]


def write_backoff(backoff: Backoff) -> dict[str, Any]:
    """A backoff as JSON."""
    return {
        "base": backoff.base.total_seconds(), "cap": backoff.cap.total_seconds(), "jitter": backoff.jitter
    }  # fmt: skip


def read_backoff(written: Mapping[str, Any]) -> Backoff:
    """The backoff that :func:`write_backoff` wrote."""
    return Backoff(
        base=timedelta(seconds=written["base"]),
        cap=timedelta(seconds=written["cap"]),
        jitter=written["jitter"],
    )
