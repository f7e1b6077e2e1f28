"""Registers a model: its row, and the partition that its vectors will be in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from docyard_schema.embeddings.records import EmbeddingModel
from docyard_schema.embeddings.short_locks import in_short_tries
from docyard_schema.errors import DatabaseError, InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import ModelIdentity

_statements = load_statements("docyard_schema.embeddings", "models.sql")


def check_identity(identity: ModelIdentity) -> None:
    """Raise :class:`InvalidInput` for what no model can be."""
    if not 1 <= identity.dimension <= 4000:
        raise InvalidInput(
            f"A model's dimension is 1 to 4,000, got {identity.dimension}.",
            hint="An HNSW index over halfvec holds no more; ask the provider for fewer dimensions.",
        )
    if not re.fullmatch(r"[0-9a-f]{64}", identity.hash):
        raise InvalidInput(f"A model's hash is 64 hexadecimal digits, got {identity.hash!r}.")


async def add_model(
    database: Database,
    identity: ModelIdentity,
    settings: Mapping[str, Any],
    *,
    state: Literal["building", "active"] = "building",
) -> EmbeddingModel | None:
    """The new row with its partition; None when the name is taken, or the place of the active model.

    Who writes chunks waits meanwhile, for milliseconds; searches and writers of vectors do not.
    """

    async def make(connection: Connection) -> EmbeddingModel | None:
        # Waits for all who have written chunks and not committed, and lets no other write any until we
        # commit. So every chunk is either there now, or its writer asks for the models after us.
        await connection.execute(database.sql("LOCK TABLE docyard.chunks IN SHARE ROW EXCLUSIVE MODE"))
        async with connection.cursor(row_factory=class_row(EmbeddingModel)) as cursor:
            await cursor.execute(
                database.sql(_statements.add_model),
                {
                    "name": identity.name,
                    "provider": identity.provider,
                    "dimension": identity.dimension,
                    "hash": identity.hash,
                    "settings": Jsonb(dict(settings)),
                    "state": state,
                },
            )
            model = await cursor.fetchone()
        if model is not None:
            await _make_partition(database, connection, model)
        return model

    try:
        return await in_short_tries(
            database, make, what=f"The partition of {identity.name}", operation="register model"
        )
    except psycopg.errors.UniqueViolation:
        return None  # another was the first to be active
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary
        raise DatabaseError(
            f"This user may not make the table for the vectors of {identity.name}: {said}.",
            hint="Let the schema's owner use the model first: docyard ingest FILE --work   or, beside "
            "another model: docyard models register",
            operation="register model",
            reason=said,
        ) from error


async def _make_partition(database: Database, connection: Connection, model: EmbeddingModel) -> None:
    # Made by itself and attached: CREATE TABLE … PARTITION OF would lock searches out of all embeddings.
    namespace = database.namespace
    names = {
        "table": sql.Identifier(namespace.schema, model.partition),
        "parent": sql.Identifier(namespace.schema, "embeddings"),
        "check": sql.Identifier(f"{model.partition}_dimension"),
        "vectors": sql.Identifier(namespace.vectors),
        "dimension": sql.Literal(model.dimension),
        "id": sql.Literal(model.id),
    }
    for statement in (
        "CREATE TABLE {table} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)",
        "ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({vectors}.vector_dims(embedding) = {dimension})",
        "ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES IN ({id})",
    ):
        await connection.execute(sql.SQL(statement).format(**names))
