"""The demonstration itself, step by step."""

from __future__ import annotations

import os
import shlex
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from docyard.batch import KindProgress
from docyard.cli.invocation import GlobalOptions, Invocation
from docyard.cli.output import counted, span
from docyard.cli.place import short_path
from docyard.cli.progress import Bars, Display, watched
from docyard.cli.search import show_hits
from docyard.cli.summary import tell_failures
from docyard.cli.working import stops
from docyard.demo.corpus import find_corpus
from docyard.settings import FILE, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard.batch import Batch, IngestSummary
    from docyard.cli.output import Output
    from docyard.facade import Docyard

COLLECTION = "demo"
HOME = Path(".docyard")
QUERIES = (
    "store embeddings in Postgres and find the nearest neighbours",
    "how to wait longer between retries after a failed request",
    "lock a file so that only one process writes it",
)
_SECONDS_BETWEEN_LINES = 3.0
_NONE = KindProgress()


class DemoInvocation(Invocation):
    """Always the embedded database and wordllama, whatever keys and settings are around."""

    def __init__(self) -> None:
        super().__init__(GlobalOptions())

    @cached_property
    def settings_and_origins(self) -> tuple[Settings, dict[str, str]]:
        """Fixed settings: neither the environment nor a file is read."""
        return Settings(home=HOME, embedding_provider="wordllama", log_level="warning"), {}


class PlainLines(Display):
    """A line of plain words every few seconds."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._begun = self._told = time.monotonic()

    def update(self, kinds: Mapping[str, KindProgress]) -> None:
        """Say it when the last line is long enough ago."""
        now = time.monotonic()
        if now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        read, embedded = kinds.get("ingest", _NONE), kinds.get("embed", _NONE)
        rate = read.ended / (now - self._begun)
        self._output.note(
            f"   {read.ended:,} of {read.total:,} files read ({rate:,.0f}/s), "
            f"{embedded.ended:,} of {embedded.total:,} embedded"
        )


async def show(invocation: DemoInvocation) -> int:
    """Ingest the corpus, search it, and say how to go on. Gives the exit code."""
    output = invocation.output
    begun = time.monotonic()
    output.line(
        "docyard at work on real texts: an embedded Postgres, vectors by wordllama. No key, no network."
    )
    async with invocation.yard() as yard:
        output.line(f"1. Database: {yard.database.describe()}, up in {span(time.monotonic() - begun)}.")
        model = await yard.pipeline.embed.model()
        output.line(f"2. Model: {model.name}, {model.dimension} numbers a text, loaded from its package.")
        batch = await _enqueue(output, yard)
        await _work(invocation, yard, batch)
        summary = await batch.summary()
        if summary.chunks:
            await yard.refresh()
        seconds = time.monotonic() - begun
        _tell(output, summary)
        await _search(output, yard)
        progress = await batch.progress()
        chunks = await _chunks(yard)
        files = batch.files
    output.line(
        f"{files:,} files · {chunks:,} chunks · {progress.ended:,} jobs · {span(seconds)} · "
        f"{files / seconds:,.0f} files/s"
    )
    if summary.failed:
        tell_failures(output, summary)
        return 1
    _tell_more(output, changed=bool(summary.created or summary.updated))
    return 0


async def _enqueue(output: Output, yard: Docyard) -> Batch:
    corpus = find_corpus()
    batch = await yard.ingest(corpus.files, collection=COLLECTION)
    output.line(
        f"3. Jobs: {batch.files:,} files ({corpus.size / 1e6:.1f} MB) of documentation that "
        f"{corpus.packages} installed packages carry; one job each, all in one batch."
    )
    return batch


async def _work(invocation: Invocation, yard: Docyard, batch: Batch) -> None:
    output = invocation.output
    output.line("4. Work: a worker reads, cuts into chunks, stores and embeds.")
    invocation.start_logs(behind_progress=True)
    display = Bars() if sys.stderr.isatty() else PlainLines(output)
    worker = yard.worker()
    with stops(invocation, worker):
        async with watched(batch, display), worker:
            await worker.drain()
    invocation.stopping.raise_if_stopped()


def _tell(output: Output, summary: IngestSummary) -> None:
    if summary.unchanged and not (summary.created or summary.updated or summary.failed):
        output.line(
            f"   Nothing changed since the last run: {summary.unchanged:,} files looked at, nothing stored, "
            "nothing embedded."
        )
        return
    output.line(
        f"   {counted(summary.created, 'file')} new, {summary.updated:,} changed, {summary.unchanged:,} "
        f"unchanged; {summary.embedded:,} chunks embedded, {summary.reused:,} reusing the vector of an equal "
        "text."
    )


async def _search(output: Output, yard: Docyard) -> None:
    output.line("5. Search, by words and by meaning at once:")
    for query in QUERIES:
        begun = time.monotonic()
        result = await yard.search(query, collection=COLLECTION, limit=3)
        output.line()
        output.line(f'   "{query}"  ({(time.monotonic() - begun) * 1000:.0f} ms)')
        output.line()
        show_hits(output, result)


async def _chunks(yard: Docyard) -> int:
    async with yard.database.connection() as connection:
        cursor = await connection.execute(
            yard.database.sql(
                "SELECT count(*) FROM docyard.chunks AS chunk JOIN docyard.documents AS document "
                "ON document.id = chunk.document_id WHERE document.collection = %s"
            ),
            [COLLECTION],
        )
        row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


def _tell_more(output: Output, *, changed: bool) -> None:
    command = _command()
    output.line()
    output.line("Go on:")
    output.line(f"  {command} search 'parse a date from text'")
    output.line(f"  {command} ingest ~/some/folder --work")
    output.line(f"  {command} status")
    if changed:
        output.line("  make demo      again: nothing changed, so nothing is done")


def _command() -> str:
    """How ``docyard`` is called from here so that it sees the same database and model."""
    parts = [f"env -u {name}" for name in ("DOCYARD_DATABASE_URL", "DOCYARD_HOME") if os.environ.get(name)]
    if any(
        os.environ.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DOCYARD_EMBEDDING_PROVIDER")
    ):
        parts.append("DOCYARD_EMBEDDING_PROVIDER=wordllama")
    parts.append(shlex.quote(short_path(Path(sys.prefix) / "bin" / "docyard")))
    if Path(FILE).exists():
        parts.append("--config /dev/null")
    return " ".join(parts)
