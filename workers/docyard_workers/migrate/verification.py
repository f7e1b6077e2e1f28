"""Whether a model may take another's place: what it covers, what its index finds, how its answers differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docyard_schema.embeddings.coverage import coverage, refused_chunks
from docyard_schema.embeddings.overlap import sample_quality
from docyard_schema.errors import VerificationError
from docyard_workers.migrate.standing import dead_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from docyard_schema import Database, EmbeddingModel
    from docyard_workers.migrate.standing import DeadRange

# An index that finds less is broken or built for another distribution: a person should look first.
LEAST_RECALL = 0.9

_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found out about a model whose vectors are complete.

    ``exceptions`` names the first texts that the model refused as (chunk id, source, code, message);
    ``failed`` is how many there are. ``recall`` and ``overlap`` are shares of the 10 nearest, see
    :class:`~docyard_schema.embeddings.overlap.Sample`; ``compared_with`` is the model of the overlap.
    """

    model: str
    chunks: int
    embedded: int
    failed: int
    exceptions: Sequence[tuple[int, str | None, str, str]]
    questions: int
    neighbours: int
    recall: float | None
    overlap: float | None
    compared_with: str | None

    def as_result(self) -> dict[str, Any]:
        """For a job's row."""
        return {
            "model": self.model,
            "chunks": self.chunks,
            "embedded": self.embedded,
            "failed": self.failed,
            "exceptions": [list(entry) for entry in self.exceptions],
            "questions": self.questions,
            "neighbours": self.neighbours,
            "recall": None if self.recall is None else round(self.recall, 4),
            "overlap": None if self.overlap is None else round(self.overlap, 4),
            "compared_with": self.compared_with,
        }


async def verify(database: Database, model: EmbeddingModel, other: EmbeddingModel | None) -> Verified:
    """Count and sample a complete model, beside ``other`` where there is one to compare with.

    Raises :class:`VerificationError` when its index misses too many of the exact nearest.
    """
    covered = await coverage(database, model)
    sample = await sample_quality(database, model, other)
    if sample.recall is not None and sample.recall < LEAST_RECALL:
        raise VerificationError(
            f"The index of {model.name} finds {sample.recall:.0%} of the exact {sample.neighbours} nearest "
            f"({sample.questions} questions); expected at least {LEAST_RECALL:.0%}. Nothing was activated.",
            hint="Build a finer index (DOCYARD_VECTOR_INDEX_M, DOCYARD_VECTOR_INDEX_EF_CONSTRUCTION), "
            f"or take it as it is: docyard models activate {model.name}",
            operation="reembed",
            recall=sample.recall,
        )
    refused = await refused_chunks(database, model, limit=_NAMED) if covered.failed else []
    return Verified(
        model=model.name,
        chunks=covered.chunks,
        embedded=covered.embedded,
        failed=covered.failed,
        exceptions=[(chunk.chunk_id, chunk.source_uri, chunk.code, chunk.message) for chunk in refused],
        questions=sample.questions,
        neighbours=sample.neighbours,
        recall=sample.recall,
        overlap=sample.overlap,
        compared_with=other.name if other is not None and sample.overlap is not None else None,
    )


async def incomplete(database: Database, model: EmbeddingModel, batch_id: UUID) -> VerificationError:
    """Why a model that lacks vectors cannot take another's place: which chunks, why, and what to do."""
    covered = await coverage(database, model)
    dead = await dead_ranges(database, batch_id, limit=_NAMED)
    told = f"{covered.missing:,} of {covered.chunks:,} chunks lack a vector of {model.name}"
    if dead:
        told += f"; {len(dead)}{' or more' if len(dead) == _NAMED else ''} jobs were given up: "
        told += "; ".join(_described(entry) for entry in dead[:5])
        told += "; …" if len(dead) > 5 else ""
    state = "Searches go on without them" if model.state == "active" else "Nothing was activated"
    return VerificationError(
        f"{told}. {state}.",
        hint=f"When the cause is gone: docyard migrate reembed --model {model.name}   "
        "It makes what is missing and nothing else.",
        operation="reembed",
        missing=covered.missing,
    )


def _described(entry: DeadRange) -> str:
    where = f"chunks {entry.first} to {entry.last}" if entry.first is not None else "a document"
    why = (entry.message or entry.code or "no reason was kept").strip().splitlines()[0]
    return f"job {entry.job_id} ({where}): {why[:300]}"
