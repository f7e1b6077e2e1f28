"""Search over all documents: by words, by meaning, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from docyard_schema.errors import InvalidInput, ModelMismatch
from docyard_schema.search.question import read_question
from docyard_schema.search.request import SearchMode, check_request, query_vector, search_parameters
from docyard_schema.search.results import Hit, SearchResult
from docyard_schema.search.snippets import make_snippet
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings import EmbeddingModel

_statements = load_statements("docyard_schema.search", "search.sql")


class DocumentSearch:
    """Finds documents that are neither deleted nor expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self,
        query: str,
        *,
        vector: Sequence[float] | None = None,
        model: EmbeddingModel | None = None,
        mode: SearchMode = "hybrid",
        limit: int = 10,
        offset: int = 0,
        collection: str | None = None,
        kind: str | None = None,
        language: str = "english",
        connection: Connection | None = None,
        degraded: str | None = None,
    ) -> SearchResult:
        """The documents that fit ``query`` best, one hit each.

        ``vector`` is the query's embedding by ``model``. Without them a hybrid search goes by words alone
        and its result says so in ``degraded``; a caller that knows why it has none says it in
        ``degraded``. ``limit`` is 1 to 1,000, ``offset`` 0 to 10,000; pages do not overlap within the first
        100 hits, 101 to 1,000, and so on. None for ``collection`` or ``kind`` means any. ``language`` is the
        text search configuration that reads the query.

        A query without words finds nothing and asks nothing of the database. Raises :class:`InvalidInput`,
        and :class:`ModelMismatch` when the vector is not of the model, or the model is gone.
        """
        check_request(mode, limit, offset, language, {"collection": collection, "kind": kind})
        question = read_question(query)
        vectorial = mode != "text" and vector is not None and model is not None
        if mode == "vector" and not vectorial:
            raise InvalidInput(
                "A search by vector needs an embedding model and the query's vector; "
                f"there is no {'model' if model is None else 'vector'}.",
                hint="Ingest documents with an embedding provider configured, or search with mode='text'.",
                operation="search",
            )
        if mode == "hybrid" and not vectorial and degraded is None:
            missing = "no embedding model is active" if model is None else "the query was not embedded"
            degraded = f"Found by words alone: {missing}."
        # Without vectors the literals name no model, and the planner drops the branch.
        literals = {"model": 0, "dimension": 1}
        parameters = search_parameters(question, mode, limit, offset) | {
            "collection": collection,
            "kind": kind,
            "language": language,
            "vectorial": vectorial,
            "vector": None,
        }
        if vectorial and vector is not None and model is not None:
            literals = {"model": model.id, "dimension": model.dimension}
            parameters["vector"] = query_vector(vector, model)
        if question.is_empty:
            return SearchResult(degraded=degraded)
        async with self._database.transaction(connection) as opened, opened.cursor() as cursor:
            settings_before = await self._prepare(opened, parameters, literals, model if vectorial else None)
            cursor.row_factory = dict_row
            await cursor.execute(self._sql(_statements.search, literals), parameters)
            hits = tuple(_hit(row) for row in await cursor.fetchall())
            if connection is not None:
                await opened.execute(
                    self._database.sql(_statements.restore_settings), {"before": settings_before}
                )
        return SearchResult(hits=hits, degraded=degraded)

    async def _prepare(
        self,
        connection: Connection,
        parameters: dict[str, Any],
        literals: dict[str, int],
        model: EmbeddingModel | None,
    ) -> list[str]:
        try:
            cursor = await connection.execute(self._sql(_statements.prepare_search, literals), parameters)
        except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidSchemaName) as error:
            raise InvalidInput(
                f"There is no text search configuration {parameters['language']!r}.",
                hint="List those of the database: SELECT cfgname FROM pg_ts_config",
                operation="search",
            ) from error
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM
        if model is not None and not row[2]:
            raise ModelMismatch(
                f"The model {model.identity.describe()} is no longer registered as such.",
                hint="Read the active model again and embed the query with it.",
                operation="search",
            )
        settings_before: list[str] = row[3]
        return settings_before

    def _sql(self, statement: str, literals: dict[str, int]) -> bytes:
        for name, value in literals.items():
            statement = statement.replace(f"{{{name}}}", str(int(value)))
        return self._database.sql(statement)


def _hit(row: dict[str, Any]) -> Hit:
    snippet, highlights = make_snippet(row.pop("marked"))
    row["heading_path"] = tuple(row["heading_path"])
    return Hit(snippet=snippet, highlights=highlights, **row)
