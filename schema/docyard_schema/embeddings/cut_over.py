"""Makes another model the active one, in one transaction, if no search can find less by it.

The reasons for the locks, and why the check still holds at the commit: docs/design/models.md.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from docyard_schema.answers import answering_within
from docyard_schema.embeddings.records import EmbeddingModel
from docyard_schema.embeddings.short_locks import in_short_tries
from docyard_schema.errors import ConfigError, InvalidInput, NotFound, VerificationError
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from datetime import timedelta

    from docyard_schema.database import Connection, Database

_models = load_statements("docyard_schema.embeddings", "models.sql")
_statements = load_statements("docyard_schema.embeddings", "cut_over.sql")

_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """How many chunks of live documents a model lacks.

    ``never_made``: they were there when it was registered; a migration makes them. ``late``: they came
    later, and the active model has their vectors already. ``on_their_way``: neither has. ``late_chunks``
    are the ids of at most a thousand late ones.
    """

    never_made: int
    late: int
    on_their_way: int
    late_chunks: list[int]


async def cut_over(
    database: Database,
    name: str,
    *,
    except_failed: bool,
    even_incomplete: bool,
    patience: timedelta,
    connection: Connection | None = None,
) -> EmbeddingModel:
    """What :meth:`ModelRepository.activate` does."""
    async with database.transaction(connection) as opened:
        target = await required(database, name, opened)
        if target.state == "active":
            return target
        if not even_incomplete:
            # Most that are not ready are found out here, where nobody waits for us.
            found = await missing(database, target, await _active(database, opened), except_failed, opened)
            if found.never_made or found.late > len(found.late_chunks):
                raise _incomplete(target, found)

    async def swap(opened: Connection) -> EmbeddingModel:
        await one_at_a_time(database, opened)
        target = await required(database, name, opened)
        if target.state == "active":
            return target
        active = await _active(database, opened)
        if active is not None:
            # From here on nothing new becomes searchable by the active model, so what the other one lacks
            # can only become less, and its writers go on.
            await hold(database, active, opened)
        if not even_incomplete:
            await _wait_until_complete(database, target, active, except_failed, patience, opened)
        await hold(database, target, opened)
        if active is not None:
            await opened.execute(database.sql(_statements.retire), {"id": active.id})
        made = await _one(database, _models.activate, {"id": target.id}, opened)
        assert made is not None  # noqa: S101 - its row is locked
        return made

    return await in_short_tries(
        database, swap, what=f"The cut-over to {name}", operation="activate model", connection=connection
    )


async def missing(
    database: Database,
    model: EmbeddingModel,
    active: EmbeddingModel | None,
    except_failed: bool,
    connection: Connection,
) -> Missing:
    """What ``model`` lacks beside ``active``; texts that it refused do not count if ``except_failed``.

    In the caller's transaction. Reads all chunks' ids: a second for a million.
    """
    statement = _between(_statements.missing, model, active)
    values = {"backfill_to": _line(model), "except_failed": except_failed}
    await connection.execute("SET LOCAL statement_timeout = 0")
    with answering_within(connection, None):
        async with connection.cursor(row_factory=class_row(Missing)) as cursor:
            await cursor.execute(database.sql(statement), values)
            row = await cursor.fetchone()
    await connection.execute("SET LOCAL statement_timeout TO DEFAULT")
    assert row is not None  # noqa: S101 - an aggregate
    return row


async def one_at_a_time(database: Database, connection: Connection) -> None:
    """Wait for other changes of the active model, and keep them waiting until the transaction ends."""
    cursor = await connection.execute(database.sql(_statements.one_at_a_time))
    row = await cursor.fetchone()
    if row is None or row[0] != "read committed":
        raise ConfigError(
            f"A change of models needs a transaction that reads what is committed, got {row and row[0]}.",
            hint="Begin the transaction without an isolation level.",
            operation="activate model",
        )


async def hold(database: Database, model: EmbeddingModel, connection: Connection) -> None:
    """Lock a model against the writers of its vectors until the transaction ends."""
    await close_gate(database, model, connection)
    await connection.execute(database.sql(_statements.hold_row), {"id": model.id})


async def close_gate(database: Database, model: EmbeddingModel, connection: Connection) -> None:
    """Wait in turn for the writers of a model's vectors; without it a change of its row may wait for ever."""
    await connection.execute(database.sql(_statements.close_gate), {"id": model.id})


async def required(database: Database, name: str, connection: Connection) -> EmbeddingModel:
    """The model of this name, which can be used; raises :class:`NotFound` and :class:`InvalidInput`."""
    model = await _one(database, _models.get_model, {"name": name}, connection)
    if model is None:
        raise unknown(name)
    if model.state == "failed":
        raise InvalidInput(
            f"The model {name} cannot become active: its migration failed.",
            hint=f"Begin it again: docyard migrate reembed --model {name}   or: docyard models drop {name}",
            operation="activate model",
        )
    return model


def unknown(name: str) -> NotFound:
    """The error for a name that no model has."""
    return NotFound(
        f"There is no embedding model {name!r}.",
        hint="Those there are: docyard models list",
        operation="model",
    )


async def _wait_until_complete(
    database: Database,
    model: EmbeddingModel,
    active: EmbeddingModel | None,
    except_failed: bool,
    patience: timedelta,
    connection: Connection,
) -> None:
    found = await missing(database, model, active, except_failed, connection)
    if found.never_made or found.late > len(found.late_chunks):
        raise _incomplete(model, found)
    statement = _between(_statements.still_missing, model, active)
    values = {
        "backfill_to": _line(model),
        "except_failed": except_failed,
        "chunks": found.late_chunks,
    }
    deadline = time.monotonic() + patience.total_seconds()
    while values["chunks"]:
        cursor = await connection.execute(database.sql(statement), values)
        row = await cursor.fetchone()
        if row is not None and row[0] == 0:
            return
        if time.monotonic() > deadline:
            raise _incomplete(model, found)
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)


def _line(model: EmbeddingModel) -> int:
    """Up to which chunk all must be there. A model that was active once had its migration: from then on only
    what is found now counts, so that a document restored since, which nobody finds yet, bars no way back.
    """
    return model.backfill_to if model.activated_at is None else 0


def _between(statement: str, model: EmbeddingModel, active: EmbeddingModel | None) -> str:
    from_model = 0 if active is None else active.id
    return statement.replace("{from_model}", str(from_model)).replace("{to_model}", str(model.id))


def _incomplete(model: EmbeddingModel, found: Missing) -> VerificationError:
    never, late = found.never_made, found.late
    return VerificationError(
        f"The model {model.name} lacks vectors: of {never:,} chunks that were there when it was registered, "
        f"and of {late:,} that came later and are found by the active model.",
        hint=f"Have them made: docyard migrate reembed --model {model.name}   Those that came later have "
        "jobs of their own, in the queue migrate: docyard queues list",
        operation="activate model",
        missing=never + late,
        never_made=never,
        late=late,
        on_their_way=found.on_their_way,
    )


async def _active(database: Database, connection: Connection) -> EmbeddingModel | None:
    return await _one(database, _models.active_model, {}, connection)


async def _one(
    database: Database, statement: str, values: dict[str, object], connection: Connection
) -> EmbeddingModel | None:
    async with connection.cursor(row_factory=class_row(EmbeddingModel)) as cursor:
        await cursor.execute(database.sql(statement), values)
        return await cursor.fetchone()
