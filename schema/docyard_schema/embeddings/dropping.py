"""Drops a model: its vectors are one table, and go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from docyard_schema.embeddings.cut_over import hold, one_at_a_time, unknown
from docyard_schema.embeddings.short_locks import in_short_tries
from docyard_schema.errors import DatabaseError, InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "cut_over.sql")


async def drop_model(
    database: Database,
    name: str,
    find: Callable[[str, Connection], Awaitable[EmbeddingModel | None]],
    connection: Connection | None = None,
) -> EmbeddingModel:
    """What :meth:`ModelRepository.drop` does."""

    async def drop(opened: Connection) -> EmbeddingModel:
        await one_at_a_time(database, opened)
        model = await find(name, opened)
        if model is None:
            raise unknown(name)
        if model.state == "active":
            raise InvalidInput(
                f"The model {name} is the active one: searches use it.",
                hint="Make another one active: docyard models activate NAME   or: docyard models rollback",
                operation="drop model",
            )
        await opened.execute(database.sql(_statements.close_all_gates))
        await hold(database, model, opened)
        await opened.execute(database.sql(_statements.remember), {"id": model.id})
        await opened.execute(database.sql(_statements.forget_failures), {"id": model.id})
        # Not detached first: the table would get triggers of its own on the chunks, and dropping those locks
        # all readers of chunks out.
        table = sql.Identifier(database.namespace.schema, model.partition)
        await opened.execute(sql.SQL("DROP TABLE {}").format(table))
        await opened.execute(database.sql(_statements.forget), {"id": model.id})
        return model

    try:
        return await in_short_tries(
            database, drop, what=f"The drop of {name}", operation="drop model", connection=connection
        )
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary
        raise DatabaseError(
            f"This user may not drop the table with the vectors of {name}: {said}.",
            hint=f"Let the schema's owner run: docyard models drop {name}",
            operation="drop model",
            reason=said,
        ) from error
