"""Samples of a model's quality: what its index finds of the exact nearest, and how it differs from another.

The sampled questions are stored vectors themselves. A neighbour counts as found when it is as near as the
exact tenth: among equal texts it is chance which of them an index names.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docyard_schema.embeddings.coverage import unhurried
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "overlap.sql")

NEIGHBOURS = 10
_QUESTIONS = 50
# Of the distance, which is computed in half precision.
_ALIKE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What sampled questions found among their 10 nearest neighbours.

    ``recall`` is the share of the exact 10 that a search finds, None where nothing was asked; ``overlap`` the
    share of them that another model has among its own 10, None without another model. ``neighbours`` is less
    than 10 where there are fewer vectors.
    """

    questions: int
    neighbours: int
    recall: float | None
    overlap: float | None


async def sample_quality(
    database: Database,
    model: EmbeddingModel,
    other: EmbeddingModel | None = None,
    *,
    questions: int = _QUESTIONS,
    seconds: float = 60,
) -> Sample:
    """Ask ``model`` with some of its vectors, exactly and as a search does, and ``other`` about those chunks.

    The same chunks each time, while the corpus is the same. Ends early after ``seconds``: an exact answer
    reads all vectors.
    """
    recalls: list[float] = []
    overlaps: list[float] = []
    most = 0
    deadline = time.monotonic() + seconds
    async with unhurried(database) as connection:
        await connection.execute(database.sql(_statements.like_a_search))
        for chunk_id, vector, others in await _sampled(database, connection, model, other, questions):
            if recalls and time.monotonic() > deadline:
                break
            # One more than wanted: the chunk finds itself.
            exact = await _nearest(database, connection, model, vector, exact=True)
            found = await _nearest(database, connection, model, vector)
            exact, found = _without(exact, chunk_id), _without(found, chunk_id)
            if not exact:
                continue
            most = max(most, len(exact))
            furthest = exact[-1][1] + _ALIKE
            recalls.append(min(1.0, sum(distance <= furthest for _, distance in found) / len(exact)))
            if other is not None and others is not None:
                known = _without(await _nearest(database, connection, other, others), chunk_id)
                both = {name for name, _ in found} & {name for name, _ in known}
                overlaps.append(len(both) / len(exact))
    return Sample(
        questions=len(recalls),
        neighbours=most,
        recall=sum(recalls) / len(recalls) if recalls else None,
        overlap=sum(overlaps) / len(overlaps) if overlaps else None,
    )


async def _sampled(
    database: Database,
    connection: Connection,
    model: EmbeddingModel,
    other: EmbeddingModel | None,
    questions: int,
) -> list[tuple[int, str, str | None]]:
    cursor = await connection.execute(database.sql(_statements.bounds), {"model": model.id})
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return []
    chance = random.Random(model.id)  # noqa: S311 - a sample, not a secret
    points = [chance.randint(row[0], row[1]) for _ in range(questions)]
    values = {"points": points, "model": model.id, "other": None if other is None else other.id}
    cursor = await connection.execute(database.sql(_statements.sample), values)
    return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


async def _nearest(
    database: Database, connection: Connection, model: EmbeddingModel, vector: str, *, exact: bool = False
) -> list[tuple[int, float]]:
    statement = nearest_statement(model, exact=exact)
    cursor = await connection.execute(
        database.sql(statement), {"vector": vector, "limit": NEIGHBOURS + 1}, prepare=False
    )
    return [(row[0], row[1]) for row in await cursor.fetchall()]


def nearest_statement(model: EmbeddingModel, *, exact: bool) -> str:
    """The statement that finds a vector's neighbours: as a search does, or by reading all vectors."""
    statement = _statements.exact_nearest if exact else _statements.nearest
    return statement.replace("{model}", str(model.id)).replace("{dimension}", str(model.dimension))


def _without(found: Sequence[tuple[int, float]], chunk_id: int) -> list[tuple[int, float]]:
    return sorted([pair for pair in found if pair[0] != chunk_id], key=lambda pair: pair[1])[:NEIGHBOURS]
