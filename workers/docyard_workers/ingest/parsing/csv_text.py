"""CSV and TSV as one line per row, each value with its column's name."""

from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import chain, islice

from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.media_type import TSV
from docyard_workers.ingest.parsing.document import ParsedDocument, title_from_name

_NUMBER = re.compile(r"[-+]?[\d.,:/%€$ -]+$")
_SAMPLE_ROWS = 50
_MAX_FIELD = 2**31 - 1


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """Rows as ``column: value; column: value`` when the first row names the columns, else ``value; value``.

    Rows may be longer or shorter than the first. An unclosed quote swallows what follows it, as in any
    reader of CSV.
    """
    decoded = decode(data, media_type)
    csv.field_size_limit(_MAX_FIELD)
    delimiter = "\t" if media_type == TSV else _delimiter(decoded.text)
    rows = csv.reader(decoded.text.splitlines(keepends=True), delimiter=delimiter)
    first = next(rows, [])
    columns = [cell.strip() for cell in first] if _names_columns(first) else []
    lines = [_line(columns, row) for row in (rows if columns else chain([first], rows))]
    text = "\n".join(line for line in lines if line) or "; ".join(columns)
    metadata = {"columns": columns} if columns else {}
    return ParsedDocument(
        title=title_from_name(name), text=text, format="plain", metadata=metadata, warnings=decoded.warnings
    )


def _delimiter(text: str) -> str:
    """The delimiter that gives the most rows of one width above 1; ``csv.Sniffer`` can take minutes."""
    sample = list(islice(text[:65_536].splitlines(keepends=True), _SAMPLE_ROWS))
    best, delimiter = (0, 0), ","
    for candidate in ",;\t|":
        widths = Counter(len(row) for row in csv.reader(sample, delimiter=candidate) if row)
        widths.pop(1, None)
        if widths:
            width, count = widths.most_common(1)[0]
            if (count, width) > best:
                best, delimiter = (count, width), candidate
    return delimiter


def _names_columns(row: list[str]) -> bool:
    names = [cell.strip() for cell in row]
    return (
        bool(names)
        and all(names)
        and len(set(names)) == len(names)
        and not any(_NUMBER.match(name) or len(name) > 100 for name in names)
    )


def _line(columns: list[str], row: list[str]) -> str:
    cells = [" ".join(cell.split()) for cell in row]
    if not columns:
        return "; ".join(cell for cell in cells if cell)
    named = zip(columns, cells, strict=False)
    parts = [f"{column}: {cell}" for column, cell in named if cell]
    return "; ".join(chain(parts, (cell for cell in cells[len(columns) :] if cell)))
