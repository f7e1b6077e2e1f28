"""The repository of documents: the one place that writes versions and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from docyard_schema.documents.chunk_store import replace_chunks
from docyard_schema.documents.records import Chunk, Document, DocumentVersion, NewChunk, NewDocument, Stored
from docyard_schema.errors import Conflict, InvalidInput, NotFound
from docyard_schema.identifiers import new_id
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
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

        The document is found by collection and source URI, or made; a removed one is restored.
        ``replaces`` demands that the current version is that one, else :class:`Conflict` tells the
        current one. Atomic: a transaction of its own, or a savepoint in the caller's.
        """
        _check(document)
        async with self._database.transaction(connection) as opened:
            values: dict[str, Any] = {
                "id": new_id(),
                "version": new_id(),
                "kind": document.kind,
                "collection": document.collection,
                "source_uri": document.source_uri,
                "title": document.title,
                "owner_id": document.owner_id,
                "visibility": document.visibility,
                "tags": list(document.tags),
                "metadata": Jsonb(dict(document.metadata)),
                "expires_at": document.expires_at,
                "raw": document.raw,
                "contents": None if document.contents is None else Jsonb(dict(document.contents)),
                "media_type": document.media_type,
                "sha256": document.sha256,
                "pipeline_version": document.pipeline_version,
            }
            cursor = await opened.execute(self._database.sql(_statements.hold), values)
            row = await cursor.fetchone()
            assert row is not None  # noqa: S101 - an upsert returns its row
            document_id, previous, old_title, sha256, pipeline = row
            if previous is not None and sha256 is None:
                # It waited for another writer, whose version its snapshot is too old to see.
                version = await self.version(document_id, previous, connection=opened)
                if version is not None:
                    sha256, pipeline = version.sha256, version.pipeline_version
            if replaces is not None and replaces != previous:
                raise Conflict(
                    f"Document {document_id} is at version {previous}, not at {replaces}.",
                    hint="Read it again, then store on top of the current version.",
                    operation="store",
                    current_version=previous,
                )
            if (sha256, pipeline) == (document.sha256, document.pipeline_version):
                return Stored(document_id=document_id, version=previous, changed=False, kept=len(chunks))
            values |= {"id": document_id, "previous": previous}
            await opened.execute(self._database.sql(_statements.advance), values)
            added, removed = await replace_chunks(
                opened,
                self._database.namespace,
                document_id,
                document.title,
                chunks,
                is_new=previous is None,
                retitled=old_title != document.title,
            )
        return Stored(
            document_id=document_id,
            version=values["version"],
            changed=True,
            added=added,
            removed=removed,
            kept=len(chunks) - added,
        )

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
    ) -> list[Document]:
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
    ) -> list[DocumentVersion]:
        """All versions of a document, removed or not, oldest first."""
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(DocumentVersion)
            await cursor.execute(self._database.sql(_statements.list_versions), {"id": document_id})
            return await cursor.fetchall()

    async def chunks(self, document_id: UUID, *, connection: Connection | None = None) -> list[Chunk]:
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


def _check(document: NewDocument) -> None:
    for name in ("kind", "collection", "source_uri"):
        if not getattr(document, name):
            raise InvalidInput(f"A document needs a {name}; got an empty one.", operation="store")
    for name in ("raw", "title", "source_uri"):
        text = getattr(document, name)
        if text and "\x00" in text:
            raise InvalidInput(
                f"The {name} of {document.source_uri!r} contains a NUL character, which Postgres cannot store.",
                hint="Remove it, or store the bytes as a binary original (raw=None).",
                operation="store",
            )
    if len(document.sha256) != 32:
        raise InvalidInput(
            f"sha256 is 32 bytes, got {len(document.sha256)}.",
            hint="Use hashlib.sha256(data).digest().",
            operation="store",
        )
