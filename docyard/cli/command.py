"""What all commands share: the global options, the event loop, and how they end.

Exit codes: 0 done, 1 failed or some rows failed, 2 wrong use or configuration, 130 after Ctrl-C.
"""

from __future__ import annotations

import inspect
import os
import sys
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from docyard.cli.invocation import GlobalOptions, Invocation
from docyard.cli.stopping import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard.cli.output import Output

DONE, FAILED, WRONG_USE = 0, 1, 2
_PANEL = "Options of every command"

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="Postgres server. Not given: DOCYARD_DATABASE_URL, else the embedded database.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. Not given: docyard.toml in this folder, if there is one.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
HomeFolder = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="Folder of the embedded database. Not given: .docyard",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Log everything; show tracebacks.", rich_help_panel=_PANEL, show_default=False
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Say nothing but results and errors.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
_GLOBAL = {
    "database_url": DatabaseUrl,
    "config": Config,
    "home": HomeFolder,
    "verbose": Verbose,
    "quiet": Quiet,
}


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Make a typer command of ``(invocation, …) -> exit code or None``, async or not.

    It takes the global options too, runs in an event loop that turns Ctrl-C into a clean stop, and every
    error leaves as a message, a hint and an exit code.
    """
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())[1:]

    @wraps(function)
    def run(context: typer.Context, **values: Any) -> None:
        outer = context.find_root().obj or GlobalOptions()
        inner = GlobalOptions(**{name: values.pop(name) for name in _GLOBAL})
        invocation = Invocation(inner.over(outer))
        raise typer.Exit(ending(invocation, partial(function, invocation, **values)))

    defaults: dict[str, Any] = {"verbose": False, "quiet": False}
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=annotation
        )
        for name, annotation in _GLOBAL.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([context, *keyword_only, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [context, *own, *added]}
    return run


def ending(invocation: Invocation, call: Callable[[], Any]) -> int:
    """Run a command, async or not, and say how it ended, as an exit code."""
    output = invocation.output
    try:
        if inspect.iscoroutinefunction(call):
            import asyncio

            invocation.start_logs()
            returned = asyncio.run(invocation.stopping.run(call()))
        else:
            returned = call()
        sys.stdout.flush()
    except (typer.Exit, typer.Abort):
        raise
    except Interrupted as interrupted:
        output.note("Stopped.")
        return interrupted.exit_code
    except KeyboardInterrupt:
        output.note("Stopped.")
        return 130
    except BrokenPipeError:
        # Whoever read has enough. What Python still flushes at its end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001 - the edge: a person gets a message, never a traceback
        return _report(error, output, verbose=invocation.options.verbose)
    return DONE if returned is None else int(returned)


def _report(error: Exception, output: Output, *, verbose: bool) -> int:
    from docyard_schema.connection_string import mask_password
    from docyard_schema.errors import ConfigError, DocyardError, InvalidInput

    if verbose:
        import traceback

        output.note(mask_password("".join(traceback.format_exception(error))).rstrip())
    if isinstance(error, DocyardError):
        output.error(mask_password(error.message), error.hint)
        return WRONG_USE if isinstance(error, (ConfigError, InvalidInput)) else FAILED
    first = (mask_password(str(error)).strip() or "no message").splitlines()[0]
    output.error(
        f"unexpected {type(error).__name__}: {first}",
        "" if verbose else "This is a bug in docyard or its surroundings; --verbose shows where it happened.",
    )
    return FAILED
