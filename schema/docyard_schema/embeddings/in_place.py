"""Changes the model where there is no room for two: the new one is active first, and filled afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.embeddings.cut_over import close_gate, hold, one_at_a_time, required
from docyard_schema.embeddings.models import ModelRepository
from docyard_schema.embeddings.short_locks import in_short_tries
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_cut_over = load_statements("docyard_schema.embeddings", "cut_over.sql")
_models = load_statements("docyard_schema.embeddings", "models.sql")
_statements = load_statements("docyard_schema.embeddings", "in_place.sql")


def is_filling(model: EmbeddingModel) -> bool:
    """Whether the model became active before its vectors were made, and they still are being made."""
    return bool(model.settings.get("filling"))


async def switch_in_place(database: Database, name: str) -> EmbeddingModel:
    """Make a model active whatever it lacks, and drop the one that was: at one moment, for everybody.

    A model that is active already stays as it is. Raises what :meth:`ModelRepository.drop` raises.
    """
    models = ModelRepository(database)

    async def switch(connection: Connection) -> EmbeddingModel:
        await one_at_a_time(database, connection)
        model = await required(database, name, connection)
        active = await models.active(connection=connection)
        if active is not None and active.id == model.id:
            return model
        # As a drop does it, which comes last: the table's lock must not be waited for behind a writer.
        await connection.execute(database.sql(_cut_over.close_all_gates))
        await hold(database, model, connection)
        if active is not None:
            await hold(database, active, connection)
            await connection.execute(database.sql(_cut_over.retire), {"id": active.id})
        await connection.execute(database.sql(_statements.begin_filling), {"id": model.id})
        await connection.execute(database.sql(_models.activate), {"id": model.id})
        if active is not None:
            await models.drop(active.name, connection=connection)
        return await required(database, name, connection)

    return await in_short_tries(database, switch, what=f"The switch to {name}", operation="reembed")


async def filled(database: Database, model: EmbeddingModel, *, connection: Connection) -> None:
    """Note in the caller's transaction that the model has all its vectors."""
    await close_gate(database, model, connection)
    await connection.execute(database.sql(_statements.end_filling), {"id": model.id})
