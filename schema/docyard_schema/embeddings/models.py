"""Embedding models: registered once, one of them active, never mixed."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from docyard_schema.embeddings.cut_over import close_gate, cut_over, unknown
from docyard_schema.embeddings.dropping import drop_model
from docyard_schema.embeddings.records import EmbeddingModel
from docyard_schema.embeddings.registration import add_model, check_identity
from docyard_schema.errors import InvalidInput, ModelMismatch, NotFound
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import ModelIdentity

_statements = load_statements("docyard_schema.embeddings", "models.sql")

PATIENCE = timedelta(seconds=5)
State = Literal["building", "ready", "retired", "failed"]


class ModelRepository:
    """Registers, finds and changes embedding models."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._said: dict[int, dict[str, Any]] = {}

    async def active(self, *, connection: Connection | None = None) -> EmbeddingModel | None:
        """The model that searches use; None before the first one."""
        return await self._one(_statements.active_model, {}, connection)

    async def get(self, name: str, *, connection: Connection | None = None) -> EmbeddingModel | None:
        """The model of this name, in whatever state; None when there is none."""
        return await self._one(_statements.get_model, {"name": name}, connection)

    async def list(self, *, connection: Connection | None = None) -> builtins.list[EmbeddingModel]:
        """All models in the order of their registration."""
        return await self._all(_statements.list_models, connection)

    async def kept(self, *, connection: Connection | None = None) -> builtins.list[EmbeddingModel]:
        """The models whose vectors are kept up to date, by id: all but the failed ones.

        Asked in the transaction that wrote chunks, after they were written, the answer is complete: a model
        that is being registered waits for that transaction, or is there.
        """
        return await self._all(_statements.kept_models, connection)

    async def register(
        self, identity: ModelIdentity, *, settings: Mapping[str, Any] | None = None
    ) -> EmbeddingModel:
        """Make the model's row, in state ``building``, and its partition; the same identity again changes
        nothing but settings that were not known.

        ``settings`` say how its provider is made; never a key. Raises :class:`ModelMismatch`, naming both,
        when the name is taken by another dimension or hash.
        """
        check_identity(identity)
        found = await self.get(identity.name)
        if found is None:
            found = await add_model(self._database, identity, settings or {}) or await self.get(identity.name)
        if found is None or found.identity != identity:
            stored = found.identity.describe() if found else "nothing"
            raise ModelMismatch(
                f"The model name {identity.name!r} is taken: stored is {stored}, asked for is "
                f"{identity.describe()}.",
                hint="Drop the stored one when nobody needs it (docyard models drop), or give the other "
                "model another name (DOCYARD_EMBEDDING_MODEL).",
                operation="register model",
            )
        if not settings or settings.keys() <= found.settings.keys():
            return found
        values = {"id": found.id, "settings": Jsonb(dict(settings))}
        return await self._change(_statements.add_settings, values, found, None) or found

    async def use(
        self, identity: ModelIdentity, *, settings: Mapping[str, Any] | None = None
    ) -> EmbeddingModel:
        """The active model, for a process whose settings ask for ``identity``.

        An empty database takes ``identity`` as its first. Where ``identity`` is registered beside the
        active model, or was before it and is dropped, a change of models is under way or done, and the
        database says which one is active.
        ``settings`` of the active model are brought up to date. Raises :class:`ModelMismatch`, naming
        both, when the database does not know ``identity``.
        """
        active = await self.active()
        if active is None:
            active = await self._first(identity, settings) or await self.active()
        if active is not None and active.identity == identity:
            return await self._bring_up_to_date(active, settings or {})
        known = await self.get(identity.name)
        if active is not None and (
            identity.hash in active.settings.get("replaced", ())
            or (known is not None and known.identity == identity and known.state != "failed")
        ):
            return active
        stored = active.identity.describe() if active else "none"
        raise ModelMismatch(
            f"The stored vectors are of {stored}; the settings ask for {identity.describe()}. "
            "Vectors of two models cannot be compared.",
            hint=f"Change models with: docyard migrate reembed --model {identity.name}   or set as before: "
            "DOCYARD_EMBEDDING_PROVIDER, DOCYARD_EMBEDDING_MODEL, DOCYARD_EMBEDDING_DIMENSION.",
            operation="use model",
        )

    async def activate(
        self,
        name: str,
        *,
        except_failed: bool = True,
        even_incomplete: bool = False,
        patience: timedelta = PATIENCE,
        connection: Connection | None = None,
    ) -> EmbeddingModel:
        """Make a model the active one, and the active one retired: at one moment, for everybody.

        Refused with :class:`VerificationError`, which counts them, when there are chunks without a vector
        that the model should have: all that were there when it was registered (unless it was active once),
        and later ones that the active model has. For a few of the latter it waits, as long as ``patience``;
        writers of the active model's vectors wait meanwhile, and nobody else. Texts that the model refused
        do not count, unless ``except_failed`` is false. With ``even_incomplete`` nothing is looked at. A
        model that is active already stays so.

        In the caller's transaction the locks are held until its end. Raises :class:`NotFound`,
        :class:`InvalidInput` for a failed model, :class:`Conflict` when a lock was not to be had.
        """
        return await cut_over(
            self._database,
            name,
            except_failed=except_failed,
            even_incomplete=even_incomplete,
            patience=patience,
            connection=connection,
        )

    async def rollback(
        self,
        *,
        even_incomplete: bool = False,
        patience: timedelta = PATIENCE,
        connection: Connection | None = None,
    ) -> EmbeddingModel:
        """Make the model active that was so before; as :meth:`activate`, which it undoes and which undoes it.

        Raises :class:`NotFound` when no retired model is left.
        """
        before = await self._one(_statements.last_retired, {}, connection)
        if before is None:
            raise NotFound(
                "There is no model to go back to: none is retired.",
                hint="Those there are: docyard models list",
                operation="roll back model",
            )
        return await self.activate(
            before.name, even_incomplete=even_incomplete, patience=patience, connection=connection
        )

    async def drop(self, name: str, *, connection: Connection | None = None) -> EmbeddingModel:
        """Remove a model with all its vectors and failures; returns what it was.

        Searches and writers of vectors wait while it waits for those before them, half a second at a time
        (each fifth time 1.2 s); a search that has chosen this model chooses again. Raises :class:`NotFound`,
        :class:`InvalidInput` for the active model,
        :class:`Conflict` when a lock was not to be had.
        """

        async def find(name: str, opened: Connection) -> EmbeddingModel | None:
            return await self.get(name, connection=opened)

        return await drop_model(self._database, name, find, connection)

    async def set_state(
        self, name: str, state: State, *, connection: Connection | None = None
    ) -> EmbeddingModel:
        """Note how far the migration to a model has come; the active model has no other state than that.

        Raises :class:`NotFound` when there is no such model, or it is the active one.
        """
        if state not in get_args(State):
            raise InvalidInput(
                f"A model is set to {', '.join(get_args(State))}, got {state!r}.",
                hint="A model becomes active by activate().",
                operation="change model",
            )
        found = await self.get(name, connection=connection)
        values = {"name": name, "state": state}
        model = found and await self._change(_statements.set_state, values, found, connection)
        if model is None:
            raise unknown(name)
        return model

    async def _first(
        self, identity: ModelIdentity, settings: Mapping[str, Any] | None
    ) -> EmbeddingModel | None:
        """``identity`` as the active model; None when another process was first, with whatever model."""
        check_identity(identity)
        if await self.get(identity.name) is None:
            # Registered and activated at once: who comes second leaves no model behind that nobody wanted.
            return await add_model(self._database, identity, settings or {}, state="active")
        model = await self.register(identity, settings=settings)
        with suppress(psycopg.errors.UniqueViolation):
            return await self._one(_statements.activate_first, {"id": model.id}, None)
        return None

    async def _bring_up_to_date(self, model: EmbeddingModel, settings: Mapping[str, Any]) -> EmbeddingModel:
        """Write down how this process makes the model's provider, once: two that differ do not take turns."""
        if settings.items() <= model.settings.items() or self._said.get(model.id) == settings:
            return model
        self._said[model.id] = dict(settings)
        values = {"id": model.id, "settings": Jsonb(dict(settings))}
        return await self._one(_statements.replace_settings, values, None) or model

    async def _change(
        self, statement: str, values: dict[str, Any], model: EmbeddingModel, connection: Connection | None
    ) -> EmbeddingModel | None:
        async with self._database.transaction(connection) as opened:
            await close_gate(self._database, model, opened)
            return await self._one(statement, values, opened)

    async def _all(self, statement: str, connection: Connection | None) -> builtins.list[EmbeddingModel]:
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(EmbeddingModel)
            await cursor.execute(self._database.sql(statement))
            return await cursor.fetchall()

    async def _one(
        self, statement: str, parameters: dict[str, Any], connection: Connection | None
    ) -> EmbeddingModel | None:
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(EmbeddingModel)
            await cursor.execute(self._database.sql(statement), parameters)
            return await cursor.fetchone()
