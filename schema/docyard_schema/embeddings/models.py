"""Embedding models: registered once, one of them active, never mixed."""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - a row's field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from docyard_schema.errors import Conflict, DatabaseError, InvalidInput, ModelMismatch
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_schema.embeddings", "models.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """What tells one model's vectors from another's: name, dimension, and a sha256 in hex of the model."""

    name: str
    provider: str
    dimension: int
    hash: str

    def describe(self) -> str:
        """One line for people: ``wordllama-256 (wordllama, 256 dimensions, hash 1a2b3c4d5e6f…)``."""
        return f"{self.name} ({self.provider}, {self.dimension} dimensions, hash {self.hash[:12]}…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingModel:
    """A registered model; ``state`` is building, ready, active, retired or failed."""

    id: int
    name: str
    provider: str
    dimension: int
    hash: str
    state: str
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None

    @property
    def identity(self) -> ModelIdentity:
        """The part that vectors are compared by."""
        return ModelIdentity(name=self.name, provider=self.provider, dimension=self.dimension, hash=self.hash)

    @property
    def partition(self) -> str:
        """The table that holds its vectors, without the schema."""
        return f"embeddings_{self.id}"


class ModelRepository:
    """Registers and finds embedding models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def active(self, *, connection: Connection | None = None) -> EmbeddingModel | None:
        """The model that searches use; None before the first one."""
        return await self._one(_statements.active_model, {}, connection)

    async def list(self, *, connection: Connection | None = None) -> list[EmbeddingModel]:
        """All models in the order of their registration."""
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(EmbeddingModel)
            await cursor.execute(self._database.sql(_statements.list_models))
            return await cursor.fetchall()

    async def register(self, identity: ModelIdentity) -> EmbeddingModel:
        """Make the model's row and its partition; the same identity again changes nothing.

        Raises :class:`ModelMismatch`, naming both, when the name is taken by another dimension or hash.
        """
        if not 1 <= identity.dimension <= 4000:
            raise InvalidInput(
                f"A model's dimension is 1 to 4,000, got {identity.dimension}.",
                hint="An HNSW index over halfvec holds no more; ask the provider for fewer dimensions.",
            )
        if not re.fullmatch(r"[0-9a-f]{64}", identity.hash):
            raise InvalidInput(f"A model's hash is 64 hexadecimal digits, got {identity.hash!r}.")
        made = await self._make(identity)
        if made is not None:
            return made
        found = await self._one(_statements.get_model, {"name": identity.name}, None)
        if found is None or found.identity != identity:
            stored = found.identity.describe() if found else "nothing"
            raise ModelMismatch(
                f"The model name {identity.name!r} is taken: stored is {stored}, asked for is "
                f"{identity.describe()}.",
                hint="Give the other model another name (DOCYARD_EMBEDDING_MODEL).",
                operation="register model",
            )
        return found

    async def use(self, identity: ModelIdentity) -> EmbeddingModel:
        """The active model, which must be ``identity``; an empty database takes it as its first.

        Raises :class:`ModelMismatch`, naming both, when another model is active.
        """
        active = await self.active()
        if active is None:
            model = await self.register(identity)
            # Of two processes that come first at once, one activates; both then see the same model.
            with suppress(psycopg.errors.UniqueViolation):
                active = await self._one(_statements.activate_first, {"id": model.id}, None)
            active = active or await self.active()
        if active is None or active.identity != identity:
            stored = active.identity.describe() if active else "none"
            raise ModelMismatch(
                f"The stored vectors are of {stored}; the settings ask for {identity.describe()}. "
                "Vectors of two models cannot be compared.",
                hint="Set DOCYARD_EMBEDDING_PROVIDER, DOCYARD_EMBEDDING_MODEL and "
                "DOCYARD_EMBEDDING_DIMENSION as they were, or use another database for the other model.",
                operation="use model",
            )
        return active

    async def _make(self, identity: ModelIdentity) -> EmbeddingModel | None:
        """The new row with its partition; None when the name is taken."""
        parameters = {
            "name": identity.name,
            "provider": identity.provider,
            "dimension": identity.dimension,
            "hash": identity.hash,
        }
        timeout_seconds = self._database.settings.migration_timeout_seconds
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                async with self._database.transaction() as connection:
                    # Making a partition locks embeddings, chunks and models against writers: for a moment
                    # or not at all. Less than the server's deadlock_timeout (1 s), so that it is never a
                    # writer that gives way.
                    await connection.execute("SET LOCAL lock_timeout = '500ms'")
                    model = await self._one(_statements.add_model, parameters, connection)
                    if model is not None:
                        await self._make_partition(connection, model)
                    return model
            except psycopg.errors.InsufficientPrivilege as error:
                said = error.diag.message_primary
                raise DatabaseError(
                    f"This user may not make the table for the vectors of {identity.name}: {said}.",
                    hint="Let the schema's owner use the model first: docyard ingest FILE --work",
                    operation="register model",
                    reason=said,
                ) from error
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if time.monotonic() > deadline:
                    raise Conflict(
                        f"The partition of {identity.name} got no lock within {timeout_seconds:g} s.",
                        hint="Long transactions use the embeddings (SELECT pid, query, xact_start FROM "
                        "pg_stat_activity ORDER BY xact_start); try again when they have ended.",
                        operation="register model",
                    ) from error
                await asyncio.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - jitter, not a secret

    async def _make_partition(self, connection: Connection, model: EmbeddingModel) -> None:
        namespace = self._database.namespace
        await connection.execute(
            sql.SQL(
                "CREATE TABLE {table} PARTITION OF {parent} "
                "(CONSTRAINT {check} CHECK ({vectors}.vector_dims(embedding) = {dimension})) "
                "FOR VALUES IN ({id})"
            ).format(
                table=sql.Identifier(namespace.schema, model.partition),
                parent=sql.Identifier(namespace.schema, "embeddings"),
                check=sql.Identifier(f"{model.partition}_dimension"),
                vectors=sql.Identifier(namespace.vectors),
                dimension=sql.Literal(model.dimension),
                id=sql.Literal(model.id),
            )
        )

    async def _one(
        self, statement: str, parameters: dict[str, Any], connection: Connection | None
    ) -> EmbeddingModel | None:
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(EmbeddingModel)
            await cursor.execute(self._database.sql(statement), parameters)
            return await cursor.fetchone()
