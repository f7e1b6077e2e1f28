"""``docyard search``: the documents that answer best, with the passage that does."""

from __future__ import annotations

import shutil
import sys
import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation
from docyard.cli.output import console, harmless
from docyard.cli.place import short_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from docyard.cli.output import Output
    from docyard_schema.search import Hit, SearchResult


class Mode(StrEnum):
    """What a search goes by."""

    HYBRID = "hybrid"
    TEXT = "text"
    VECTOR = "vector"


@command
async def search(
    invocation: Invocation,
    query: Annotated[
        str, typer.Argument(help='Words; "a phrase" and -word are understood, a question is fine too.')
    ],
    mode: Annotated[Mode, typer.Option(help="By words and meaning, by words, or by meaning.")] = Mode.HYBRID,
    kind: Annotated[
        str | None, typer.Option("--kind", "-k", help="Only documents of this kind, such as file.")
    ] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only this collection.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Documents at most.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help='Print {"hits": […], "degraded": null or a reason}.')
    ] = False,
) -> None:
    """Find documents by words and by meaning."""
    from docyard_schema import DocumentRepository

    output = invocation.output
    async with invocation.yard() as yard:
        result = await yard.search(query, mode=mode.value, limit=limit, collection=collection, kind=kind)
        if as_json:
            output.json({"hits": list(result), "degraded": result.degraded})
            return
        if result.degraded:
            output.warn(result.degraded)
        show_hits(output, result)
        if not result:
            documents = await DocumentRepository(yard.database).count_by_kind(collection=collection)
            where = f"the collection {collection!r}" if collection else yard.database.describe()
            output.note(
                f"Nothing found in {where}."
                if documents
                else f"There are no documents in {where}. Add some: docyard ingest PATH --work"
            )


def show_hits(output: Output, result: SearchResult | Sequence[Hit]) -> None:
    """Title, source, score and highlighted passage of each hit."""
    for number, hit in enumerate(result, start=1):
        for line in _told(number, hit):
            output.line(line)


def _told(number: int, hit: Hit) -> list[str | Text]:
    title = harmless(hit.title or short_source(hit.source_uri or "") or hit.document_id)
    place = " · ".join(
        filter(None, [short_source(hit.source_uri or ""), " › ".join(map(harmless, hit.heading_path))])
    )
    score = f"{hit.score:.4f}"
    if not sys.stdout.isatty():
        passage = _marked(hit)
        return [f"{number:>2}. {title}  ({score})", f"    {place}", f"    {passage}", ""]
    from rich.text import Text

    width = min(shutil.get_terminal_size().columns, 110) - 5
    snippet = Text(harmless(hit.snippet).replace("\n", " "))
    for start, end in hit.highlights:
        snippet.stylize("bold yellow", start, end)
    heading = Text.assemble(f"{number:>2}. ", (title, "bold"), ("  " + score, "dim"))
    heading.no_wrap, heading.overflow = True, "ellipsis"
    lines: list[str | Text] = [heading]
    lines += [Text(f"    {line}", style="cyan") for line in textwrap.wrap(place, max(20, width))]
    lines += [Text.assemble("    ", line) for line in snippet.wrap(console(sys.stdout), max(20, width))]
    return [*lines, ""]


def _marked(hit: Hit) -> str:
    """The snippet on one line, what was asked for between asterisks."""
    text, parts, end = harmless(hit.snippet).replace("\n", " "), [], 0
    for start, stop in hit.highlights:
        parts += [text[end:start], f"*{text[start:stop]}*"]
        end = stop
    return "".join([*parts, text[end:]])
