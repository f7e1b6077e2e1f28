"""``docyard config``: the settings in force, and what can be set."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

config = typer.Typer(no_args_is_help=True, help="Look at the settings.")


@config.command()
@command
def show(
    invocation: Invocation,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every setting, its value and where that comes from; secrets are masked."""
    from docyard.settings import setting_names

    settings, origins = invocation.settings_and_origins
    rows = [
        {"name": name, "value": _told(getattr(settings, field)), "from": origins.get(name, "default")}
        for name, field in setting_names().items()
    ]
    if as_json:
        invocation.output.json({"settings": rows})
        return
    invocation.output.table(["setting", "value", "from"], [list(row.values()) for row in rows])


@config.command()
@command
def schema(invocation: Invocation) -> None:
    """Print a JSON schema of docyard.toml."""
    from docyard.reference import settings_schema

    invocation.output.json(settings_schema())


@config.command()
@command
def reference(invocation: Invocation) -> None:
    """Print every setting with its meaning, as Markdown."""
    from docyard.reference import settings_markdown

    invocation.output.line(settings_markdown().rstrip("\n"))


def _told(value: Any) -> Any:
    from docyard.cli.output import plain
    from docyard.settings import masked

    return plain(masked(value))
