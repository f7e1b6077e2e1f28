"""The repository of documents: the one place that writes versions and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import class_row

from docyard_schema.documents.records import Chunk, Document, DocumentVersion, NewChunk, NewDocument, Stored
from docyard_schema.documents.storing import store_document
from docyard_schema.documents.validity import check_document
from docyard_schema.errors import Conflict, InvalidInput, NotFound
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence
    from uuid import UUID

    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_schema.documents", "documents.sql")
_chunk_statements = load_statements("docyard_schema.documents", "chunks.sql")


class DocumentRepository:
    """Stores, reads, removes and restores documents.

    Every method takes ``connection=`` to take part in the caller's transaction, which it never commits.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(
        self, collection: str, source_uri: str, *, connection: Connection | None = None
    ) -> tuple[bytes, str] | None:
        """The sha256 and pipeline version of what is stored under a source; None if absent or removed."""
        async with self._database.connection(connection) as opened:
            cursor = await opened.execute(
                self._database.sql(_statements.current),
                {"collection": collection, "source_uri": source_uri},
            )
            row = await cursor.fetchone()
        return None if row is None or row[5] is not None else (row[2], row[3])

    async def store(
        self,
        document: NewDocument,
        chunks: Sequence[NewChunk] = (),
        *,
        replaces: UUID | None = None,
        connection: Connection | None = None,
    ) -> Stored:
        """Write a new version with its chunks, or find that the same bytes are there already.

        The document is found by collection and source URI, or made; a removed one is restored. The same
        bytes with another title, other tags or metadata change those and make no version; owner and
        visibility stay as they were first stored. ``replaces`` demands that the current version is that
        one, else :class:`Conflict` tells the current one. :class:`InvalidInput` names what Postgres cannot
        store (NUL, half characters). Atomic: a transaction of its own, or a savepoint in the caller's.
        """
        check_document(document, chunks)
        try:
            async with self._database.transaction(connection) as opened:
                return await store_document(opened, self._database.namespace, document, chunks, replaces)
        except (psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation) as error:
            raise Conflict(
                f"Another writer changed {document.source_uri!r} first: {error.diag.message_primary}",
                hint="Begin the transaction again.",
                operation="store",
            ) from error

    async def get(self, document_id: UUID, *, connection: Connection | None = None) -> Document | None:
        """The document, or None when there is none or it was removed."""
        return await self._one(_statements.get, {"id": document_id}, connection)

    async def find(
        self, collection: str, source_uri: str, *, connection: Connection | None = None
    ) -> Document | None:
        """The document stored under a source, or None when there is none or it was removed."""
        return await self._one(
            _statements.find, {"collection": collection, "source_uri": source_uri}, connection
        )

    async def list(
        self,
        *,
        kind: str | None = None,
        collection: str | None = None,
        limit: int = 100,
        offset: int = 0,
        connection: Connection | None = None,
    ) -> builtins.list[Document]:
        """Documents, newest first, in a fixed order; None for ``kind`` or ``collection`` means any."""
        if limit < 0 or offset < 0:
            raise InvalidInput(f"limit and offset are zero or more; got {limit} and {offset}.")
        parameters = {"kind": kind, "collection": collection, "limit": limit, "offset": offset}
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(Document)
            await cursor.execute(self._database.sql(_statements.list_documents), parameters)
            return await cursor.fetchall()

    async def version(
        self, document_id: UUID, version: UUID | None = None, *, connection: Connection | None = None
    ) -> DocumentVersion | None:
        """One version of a document; None for ``version`` is the current one. None when there is none."""
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(DocumentVersion)
            await cursor.execute(
                self._database.sql(_statements.get_version), {"id": document_id, "version": version}
            )
            return await cursor.fetchone()

    async def versions(
        self, document_id: UUID, *, connection: Connection | None = None
    ) -> builtins.list[DocumentVersion]:
        """All versions of a document, removed or not, oldest first."""
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(DocumentVersion)
            await cursor.execute(self._database.sql(_statements.list_versions), {"id": document_id})
            return await cursor.fetchall()

    async def chunks(
        self, document_id: UUID, *, connection: Connection | None = None
    ) -> builtins.list[Chunk]:
        """The passages of the current version in their order of reading."""
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(Chunk)
            await cursor.execute(
                self._database.sql(_chunk_statements.of_document), {"document_id": document_id}
            )
            return await cursor.fetchall()

    async def remove(self, document_id: UUID, *, connection: Connection | None = None) -> Document:
        """Leave a tombstone: reads and searches skip the document; :meth:`restore` brings it back.

        Returns what was removed. Raises :class:`NotFound` when there is none, or it is removed already.
        """
        return self._required(
            await self._one(_statements.remove, {"id": document_id}, connection), document_id, "remove"
        )

    async def restore(self, document_id: UUID, *, connection: Connection | None = None) -> Document:
        """Take the tombstone away. Raises :class:`NotFound` when the document is not a removed one."""
        return self._required(
            await self._one(_statements.restore, {"id": document_id}, connection), document_id, "restore"
        )

    async def count_by_kind(
        self, *, collection: str | None = None, connection: Connection | None = None
    ) -> dict[str, int]:
        """How many documents of each kind there are; kinds without documents are left out."""
        async with self._database.connection(connection) as opened:
            cursor = await opened.execute(
                self._database.sql(_statements.count_by_kind), {"collection": collection}
            )
            return dict(await cursor.fetchall())

    async def _one(
        self, statement: str, parameters: dict[str, Any], connection: Connection | None
    ) -> Document | None:
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(Document)
            await cursor.execute(self._database.sql(statement), parameters)
            return await cursor.fetchone()

    @staticmethod
    def _required(found: Document | None, document_id: UUID, operation: str) -> Document:
        if found is None:
            raise NotFound(f"There is no document {document_id} to {operation}.", operation=operation)
        return found
