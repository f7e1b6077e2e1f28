"""Writes a new version of a document with its chunks, or finds that nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from docyard_schema.documents.chunk_store import lex_again, replace_chunks
from docyard_schema.documents.records import NewChunk, NewDocument, Stored
from docyard_schema.errors import Conflict
from docyard_schema.identifiers import new_id
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import psycopg

    from docyard_schema.namespace import Namespace

_statements = load_statements("docyard_schema.documents", "documents.sql")


async def store_document(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    document: NewDocument,
    chunks: Sequence[NewChunk],
    replaces: UUID | None,
) -> Stored:
    """What :meth:`DocumentRepository.store` does, inside a transaction that the caller began."""
    values = _values(document)
    cursor = await connection.execute(namespace.sql(_statements.hold), values)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an upsert returns its row
    document_id, previous, old_title, sha256, pipeline = row
    if replaces is not None and replaces != previous:
        raise _conflict(document, previous, replaces)
    if previous is not None and sha256 is None:
        # It waited for another writer, whose version that statement's snapshot is too old to see.
        cursor = await connection.execute(
            namespace.sql(_statements.processed), {"id": document_id, "version": previous}
        )
        sha256, pipeline = await cursor.fetchone() or (None, None)
    values |= {"id": document_id, "previous": previous}
    retitled = old_title != document.title
    if (sha256, pipeline) == (document.sha256, document.pipeline_version):
        await connection.execute(namespace.sql(_statements.amend), values)
        if retitled:
            await lex_again(connection, namespace, document_id, document.title)
        return Stored(document_id=document_id, version=previous, changed=False, kept=len(chunks))
    await connection.execute(namespace.sql(_statements.advance), values)
    added, removed = await replace_chunks(
        connection,
        namespace,
        document_id,
        document.title,
        chunks,
        is_new=previous is None,
        retitled=retitled,
    )
    return Stored(
        document_id=document_id,
        version=values["version"],
        changed=True,
        added=added,
        removed=removed,
        kept=len(chunks) - added,
    )


def _values(document: NewDocument) -> dict[str, Any]:
    return {
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


def _conflict(document: NewDocument, current: UUID | None, wanted: UUID) -> Conflict:
    state = "is not there" if current is None else f"is at version {current}"
    return Conflict(
        f"Document {document.source_uri!r} in {document.collection!r} {state}; version {wanted} was to be "
        "replaced.",
        hint="Read it again, then store on top of the current version.",
        operation="store",
        current_version=current,
    )
