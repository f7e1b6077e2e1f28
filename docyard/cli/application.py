"""The command line as a whole."""

from __future__ import annotations

from typing import Annotated

import typer

from docyard.cli.batches import batches
from docyard.cli.budgets import budgets
from docyard.cli.changing import cancel_jobs, redrive_jobs, retry_jobs
from docyard.cli.command import Config, DatabaseUrl, HomeFolder, Quiet, Verbose  # noqa: TC001 - typer
from docyard.cli.configuration import config
from docyard.cli.database import db
from docyard.cli.doctor import doctor
from docyard.cli.enqueueing import enqueue_job
from docyard.cli.ingest import ingest
from docyard.cli.invocation import GlobalOptions
from docyard.cli.jobs import jobs
from docyard.cli.limiting import limit_queue
from docyard.cli.migrate import migrate
from docyard.cli.models import models
from docyard.cli.pruning import prune_jobs
from docyard.cli.queues import queues
from docyard.cli.schedules import schedules
from docyard.cli.search import search
from docyard.cli.spend import spend
from docyard.cli.status import status
from docyard.cli.up import up
from docyard.cli.worker import worker

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Jobs that make documents searchable, on Postgres.",
    epilog="Begin with: docyard ingest FOLDER --work, then docyard search 'what you want to know'",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from docyard import __version__

        typer.echo(f"docyard {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    database_url: DatabaseUrl = None,
    config: Config = None,
    home: HomeFolder = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    context.obj = GlobalOptions(
        database_url=database_url, config=config, home=home, verbose=verbose, quiet=quiet
    )


for function in (up, ingest, search, worker, status, spend, doctor):
    app.command()(function)
for name, change in (
    ("enqueue", enqueue_job),
    ("retry", retry_jobs),
    ("cancel", cancel_jobs),
    ("redrive", redrive_jobs),
    ("prune", prune_jobs),
):
    jobs.command(name)(change)
queues.command("limit")(limit_queue)
for name, group in (
    ("jobs", jobs),
    ("queues", queues),
    ("budgets", budgets),
    ("batches", batches),
    ("schedules", schedules),
    ("migrate", migrate),
    ("models", models),
    ("db", db),
    ("config", config),
):
    app.add_typer(group, name=name)
