"""What became of an ingest, in a few lines or as JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docyard.cli.output import counted, harmless, span
from docyard.cli.place import short_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard.batch import Batch, IngestSummary
    from docyard.cli.output import Output
    from docyard_workers.ingest.sources import Refused

_SHOWN = 20
# Refused for what they are, not for what went wrong.
_HARMLESS = ("unsupported", "not_a_file")


def failed_paths(refused: Sequence[Refused], given: Sequence[Path]) -> list[Refused]:
    """Those of the refused that somebody wanted ingested; a dangling link inside a folder is no such."""
    named = {path.absolute() for path in given}
    return [
        entry
        for entry in refused
        if entry.code not in _HARMLESS and (entry.code != "not_found" or entry.path.absolute() in named)
    ]


def tell_refused(output: Output, refused: Sequence[Refused]) -> None:
    """Say what was not taken: kinds of files without a parser as counts, all else one a line."""
    others = [entry for entry in refused if entry.code != "unsupported"]
    for entry in others[:_SHOWN]:
        output.warn(f"{entry.path}: {entry.reason}")
    if len(others) > _SHOWN:
        output.note(f"… and {len(others) - _SHOWN:,} more.")
    if kinds := _unsupported(refused):
        shown = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common(8))
        rest = f", {len(kinds) - 8} more kinds" if len(kinds) > 8 else ""
        output.note(f"Left out, no parser: {counted(kinds.total(), 'file')} ({harmless(shown)}{rest}).")


def tell_summary(output: Output, summary: IngestSummary, *, files: int, seconds: float) -> None:
    """Say what the jobs did."""
    counts = ((summary.created, "new"), (summary.updated, "changed"), (summary.unchanged, "unchanged"))
    parts = [f"{count:,} {word}" for count, word in counts if count] or ["none read"]
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    output.line(f"Files: {', '.join(parts)} of {files:,}, in {span(seconds)}{_rate(files, seconds)}.")
    if summary.chunks or summary.embedded or summary.reused:
        output.line(
            f"Chunks: {summary.chunks:,} in new and changed files; {summary.embedded:,} embedded, "
            f"{summary.reused:,} with a vector reused."
        )
    tell_spend(output, summary)
    tell_failures(output, summary)


def tell_spend(output: Output, summary: IngestSummary) -> None:
    """Say what the vectors cost, unless they cost nothing."""
    if not summary.tokens or summary.cost == 0:
        return
    from docyard_schema.embeddings.spend import dollars

    cost = "at an unknown price" if summary.cost is None else dollars(summary.cost)
    output.line(f"Spent: {counted(summary.tokens, 'token')}, {cost}.")


def tell_failures(output: Output, summary: IngestSummary) -> None:
    """Say which jobs are dead and why, and what can be done."""
    for job_id, source, code, message in summary.failures[:_SHOWN]:
        first = (message or code).splitlines()[0]
        output.warn(f"job {job_id}, {short_source(source)}: {first}")
    if summary.failed > _SHOWN:
        output.note(f"… and {summary.failed - _SHOWN:,} more.")
    if summary.failed:
        output.note("Look closer: docyard jobs list --state dead   Again: docyard jobs retry --state dead")


def as_json(batch: Batch, summary: IngestSummary | None, seconds: float | None) -> dict[str, Any]:
    """The same for programs; ``summary`` is null while the jobs were only enqueued."""
    told: dict[str, Any] | None = None
    if summary is not None:
        told = {
            name: getattr(summary, name)
            for name in (
                "created",
                "updated",
                "unchanged",
                "failed",
                "chunks",
                "embedded",
                "reused",
                "tokens",
                "jobs",
            )
        }
        told["cost"] = None if summary.cost is None else str(summary.cost)
        told["failures"] = [
            {"job_id": job_id, "source": source, "code": code, "message": message}
            for job_id, source, code, message in summary.failures
        ]
    return {
        "batch_id": str(batch.id),
        "files": batch.files,
        "refused": [
            {"path": str(entry.path), "code": entry.code, "reason": entry.reason}
            for entry in batch.refused
            if entry.code != "unsupported"
        ],
        "unsupported": dict(_unsupported(batch.refused).most_common()),
        "summary": told,
        "seconds": None if seconds is None else round(seconds, 3),
    }


def _unsupported(refused: Sequence[Refused]) -> Counter[str]:
    return Counter(
        Path(entry.path).suffix.lower() or "no suffix" for entry in refused if entry.code == "unsupported"
    )


def _rate(files: int, seconds: float) -> str:
    return f" ({files / seconds:,.0f} files/s)" if seconds >= 0.1 and files else ""
