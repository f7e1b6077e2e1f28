"""One call of the command line: its global options, and what commands reach through them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Any

from docyard.cli.output import Output
from docyard.cli.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard.facade import Docyard
    from docyard.settings import Settings
    from docyard_queue import Registry
    from docyard_schema import Database


@dataclass(frozen=True, kw_only=True)
class GlobalOptions:
    """Options that every command takes, before or after its name; None is "not said"."""

    database_url: str | None = None
    config: Path | None = None
    home: Path | None = None
    verbose: bool = False
    quiet: bool = False

    def over(self, outer: GlobalOptions) -> GlobalOptions:
        """These, and where they say nothing those given before the command's name."""
        return replace(
            outer,
            **{name: value for name, value in vars(self).items() if value is not None and value is not False},
        )


@dataclass
class Invocation:
    """What a command works with: settings, output, database."""

    options: GlobalOptions
    stopping: Stopping = field(default_factory=Stopping)

    @cached_property
    def output(self) -> Output:
        """Where to say things."""
        return Output(quiet=self.options.quiet)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force; raises :class:`ConfigError`."""
        return self.settings_and_origins[0]

    @cached_property
    def settings_and_origins(self) -> tuple[Settings, dict[str, str]]:
        """The settings, and where each came from that is not its default."""
        from docyard.settings import settings_and_origins

        return settings_and_origins(file=self.options.config, **self.overrides)

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that the command line gave."""
        given = {"database_url": self.options.database_url, "home": self.options.home}
        return {name: value for name, value in given.items() if value is not None}

    def start_logs(self, *, behind_progress: bool = False) -> None:
        """Set up logging as settings and options say.

        ``behind_progress``: a progress bar is shown, which already counts what is only information.
        """
        from docyard.logs import configure

        level = self.settings.log_level
        if self.options.verbose:
            level = "debug"
        elif self.options.quiet:
            level = "error"
        elif behind_progress and level == "info":
            level = "warning"
        configure(level, self.settings.log_format, few_job_events=3 if behind_progress else None)

    @asynccontextmanager
    async def database(self, *, initialize: bool = True) -> AsyncIterator[Database]:
        """The database, with its schema checked (the embedded one: migrated) unless told otherwise."""
        from docyard_schema import Database

        async with await Database.connect(settings=self.settings) as database:
            if initialize:
                await database.initialize()
            yield database

    @asynccontextmanager
    async def yard(self, registry: Registry | None = None, app: str | None = None) -> AsyncIterator[Docyard]:
        """The façade, with an application's own handlers beside docyard's."""
        from docyard.facade import Docyard

        async with Docyard.open(settings=self.settings, registry=registry, app=app) as yard:
            yield yard
