"""Whether everything that was ingested has its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.yards import rows, value

if TYPE_CHECKING:
    from docyard import Docyard
    from docyard_schema import Database

_WITHOUT = """
SELECT count(*) FROM docyard.chunks AS chunk
WHERE NOT EXISTS (SELECT FROM docyard.embeddings AS vector
                  WHERE vector.chunk_id = chunk.id AND vector.content_hash = chunk.content_hash)
"""


async def without_vectors(database: Database) -> int:
    """How many chunks lack a vector of the text that they have now."""
    found = await value(database, _WITHOUT)
    assert isinstance(found, int)
    return found


async def everything_has_its_vector(yard: Docyard) -> None:
    """Assert that every chunk has its vector and every job is completed, with no attempt burnt on the way."""
    assert await without_vectors(yard.database) == 0
    states = await rows(
        yard.database,
        "SELECT kind, state, max(attempts) FROM docyard.jobs "
        "WHERE kind IN ('ingest', 'embed') GROUP BY 1, 2 ORDER BY 1, 2",
    )
    assert states == [("embed", "completed", 1), ("ingest", "completed", 1)]


async def outcomes(yard: Docyard) -> set[str]:
    """How attempts of ``embed`` jobs ended, the view's own words."""
    found = await rows(
        yard.database,
        "SELECT DISTINCT attempt.outcome FROM docyard.attempts AS attempt "
        "JOIN docyard.jobs AS job ON job.id = attempt.job_id WHERE job.kind = 'embed'",
    )
    return {outcome for (outcome,) in found}
