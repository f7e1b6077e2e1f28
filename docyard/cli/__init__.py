"""The command line. Modules are named for their commands; nothing heavy is imported before it is needed."""

from __future__ import annotations


def main() -> None:
    """The command ``docyard``."""
    from docyard.cli.application import app

    app(prog_name="docyard")
