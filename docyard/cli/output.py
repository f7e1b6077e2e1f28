"""What a command says: results on standard output, everything else on standard error.

On a terminal with colours and its width; elsewhere plain lines that nothing cuts off.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.text import Text

# Documents and error messages come from strangers: an escape sequence in them must not reach the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: object) -> str:
    """``text`` with control characters replaced one for one, so that offsets into it stay right."""
    return _CONTROL.sub("\ufffd", str(text))


class Output:
    """Writes for a person or a program; ``quiet`` leaves out all but results and errors."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def line(self, text: str | Text = "") -> None:
        """One line of the result."""
        self._write(text, sys.stdout)

    def json(self, value: Any) -> None:
        """The result, for programs."""
        indent = 2 if sys.stdout.isatty() else None
        self.line(json.dumps(plain(value), indent=indent, ensure_ascii=False))

    def note(self, text: str | Text = "") -> None:
        """Something beside the result: what is being done, what to do next."""
        if not self.quiet:
            self._write(text, sys.stderr)

    def aside(self, text: str) -> None:
        """A note for whoever sits at the terminal; log lines elsewhere are not mixed with it."""
        if sys.stderr.isatty():
            self.note(text)

    def warn(self, text: str) -> None:
        """Something that went wrong without ending the command."""
        self._problem("warning", "yellow", text)

    def error(self, message: str, hint: str = "") -> None:
        """Why the command ends, and what to do."""
        self._problem("error", "red", message)
        if hint:
            self._write(harmless(hint), sys.stderr)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str = "") -> None:
        """Rows under their columns' names; numbers to the right. ``empty`` is said when there are none."""
        if not rows:
            if empty:
                self.note(empty)
            return
        cells = [[shown(value) for value in row] for row in rows]
        numeric = [all(isinstance(row[at], (int, float)) for row in rows) for at in range(len(columns))]
        if sys.stdout.isatty():
            from rich.table import Table

            width = console(sys.stdout).width
            table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
            for name, right in zip(columns, numeric, strict=True):
                # Where there is room, only the last column gives way.
                whole = width >= 80 and name != columns[-1]
                table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=whole)
            for row in cells:
                # Text, not str: a path may hold what rich would take for markup.
                table.add_row(*map(_text, row))
            console(sys.stdout).print(table)
            return
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in (list(columns), *cells):
            padded = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            )
            self.line("  ".join(padded).rstrip())

    def fields(self, values: Mapping[str, Any]) -> None:
        """Names and values, one a line; None is left out."""
        known = {name: value for name, value in values.items() if value is not None}
        width = max(map(len, known), default=0)
        for name, value in known.items():
            self.line(f"{name:<{width}}  {shown(value)}")

    def block(self, text: str, *, indent: str = "  ") -> None:
        """Several lines as they are: a traceback, a definition."""
        for line in text.rstrip().splitlines():
            self.line(f"{indent}{harmless(line)}")

    def _problem(self, word: str, colour: str, text: str) -> None:
        if sys.stderr.isatty():
            from rich.text import Text

            self._write(Text.assemble((f"{word}: ", f"bold {colour}"), harmless(text)), sys.stderr)
        else:
            self._write(f"{word}: {harmless(text)}", sys.stderr)

    def _write(self, text: str | Text, stream: TextIO) -> None:
        if stream.isatty() and not isinstance(text, str):
            console(stream).print(text)
        else:
            # A file name may hold bytes that are no text.
            encoding = stream.encoding or "utf-8"
            stream.write(f"{text}\n".encode(encoding, "replace").decode(encoding))
            stream.flush()


def console(stream: TextIO) -> Console:
    """A rich console on ``stream``: honours NO_COLOR, TERM and the terminal's width."""
    from rich.console import Console

    return Console(file=stream, highlight=False, emoji=False)


def plain(value: Any) -> Any:
    """``value`` as JSON has it: rows as objects, times in ISO 8601, spans in seconds, ids as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def shown(value: Any) -> str:
    """``value`` in a table's cell: nothing for None, a time without its fractions of a second, one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return harmless(" ".join(str(value).split()))


def span(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(number: int, noun: str) -> str:
    """``1 file``, ``1,083 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _text(cell: str) -> Text:
    from rich.text import Text

    return Text(cell)
