"""What a handler's own signature says about it: whether it is async, and which model its payload has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from docyard_schema.errors import ConfigError


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await; an object with an async ``__call__`` is async too."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
    )


def payload_model(function: Callable[..., Any], *, many: bool = False) -> type[BaseModel] | None:
    """The pydantic model that the second parameter is annotated with, ``many``: as ``list[Model]``.

    None: any other annotation, or none. Raises :class:`ConfigError` when there is no second parameter, and
    for a single model where many payloads come.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2:
        wanted = "the batch and the payloads" if many else "the attempt and the payload"
        example = "async def embed(batch, payloads): …" if many else "async def charge(attempt, payload): …"
        raise ConfigError(
            f"The handler {_name(function)} takes {len(parameters)} argument(s): expected two, {wanted}.",
            hint=example,
        )
    annotation = parameters[1].annotation
    if isinstance(annotation, str):
        annotation = _resolve(annotation, function)
    if many:
        return _element(annotation, function)
    return annotation if _is_model(annotation) else None


def _element(annotation: Any, function: Callable[..., Any]) -> type[BaseModel] | None:
    if _is_model(annotation):
        raise ConfigError(
            f"The handler {_name(function)} gets many payloads, not one {annotation.__name__}.",
            hint=f"async def {_name(function)}(batch, payloads: list[{annotation.__name__}]): …",
        )
    if get_origin(annotation) not in (list, Sequence):
        return None
    [element] = get_args(annotation)
    return element if _is_model(element) else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _resolve(annotation: str, function: Callable[..., Any]) -> Any:
    # This one annotation alone: the other parameters' may name what only a type checker imports.
    alone = SimpleNamespace(__annotations__={"payload": annotation})
    try:
        names = getattr(inspect.unwrap(function), "__globals__", {})
        return get_type_hints(alone, globalns=names | {"Sequence": names.get("Sequence", Sequence)})[
            "payload"
        ]
    except NameError:
        return None


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
