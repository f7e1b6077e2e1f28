"""How a child process of a worker makes docyard's handlers: they are methods of objects with settings.

The parent writes a recipe, the child reads it. Both stand here, so that they stay in step.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from docyard.settings import Settings
from docyard_workers.pipeline import Pipeline
from docyard_workers.process.isolation.reference import Recipe, read_backoff, write_backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from docyard_queue import Backoff, Registry
    from docyard_schema import Database


def write_recipe(settings: Settings, *, app: str | None, retry: Backoff | None) -> Recipe:
    """The recipe of docyard's handlers with these settings, and those of ``app``, a ``module:registry``."""
    return Recipe(
        target=f"{__name__}:open_registry",
        arguments={
            "settings": {name: _plain(getattr(settings, name)) for name in Settings.model_fields},
            "app": app,
            "retry": None if retry is None else write_backoff(retry),
        },
    )


@asynccontextmanager
async def open_registry(
    database: Database, *, settings: Mapping[str, Any], app: str | None, retry: dict[str, Any] | None
) -> AsyncIterator[Registry]:
    """In a child: the registry that the recipe means, with a pipeline of its own."""
    from docyard.cli.working import load_registry
    from docyard.logs import configure

    given = Settings(**settings)
    configure(given.log_level, given.log_format)
    # One job at a time needs one parser.
    options = replace(given.pipeline_options(), parser_processes=1)
    if retry is not None:
        options = replace(options, retry=read_backoff(retry))
    async with Pipeline(database, options) as pipeline:
        yield pipeline.registry(load_registry(app) if app else None)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return os.fspath(value) if isinstance(value, Path) else value
