"""Brings a document's stored chunks in line with those of its new version, touching as few as can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import psycopg

    from docyard_schema.documents.records import NewChunk
    from docyard_schema.namespace import Namespace

_statements = load_statements("docyard_schema.documents", "chunks.sql")
_ROWS_PER_STATEMENT = 500


async def replace_chunks(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    document_id: UUID,
    title: str | None,
    chunks: Sequence[NewChunk],
    *,
    is_new: bool,
    retitled: bool,
) -> tuple[int, int]:
    """Make ``chunks`` the document's own; returns how many rows were added and removed.

    In the caller's transaction, which holds the document's row lock. ``retitled`` says that the title
    changed: the kept chunks carry it among their lexemes.
    """
    added, removed = list(chunks), 0
    if not is_new:
        cursor = await connection.execute(
            namespace.sql(_statements.reconcile),
            {
                "document_id": document_id,
                "hashes": [chunk.content_hash for chunk in chunks],
                "occurrences": [chunk.occurrence for chunk in chunks],
                "ordinals": [chunk.ordinal for chunk in chunks],
                "languages": [chunk.language for chunk in chunks],
            },
        )
        row = await cursor.fetchone()
        if row is not None:
            removed, ordinals, relanguaged = row
            wanted = set(ordinals)
            added = [chunk for chunk in chunks if chunk.ordinal in wanted]
            if (retitled or relanguaged) and len(added) < len(chunks):
                await lex_again(connection, namespace, document_id, title)
    for start in range(0, len(added), _ROWS_PER_STATEMENT):
        rows = added[start : start + _ROWS_PER_STATEMENT]
        await connection.execute(
            namespace.sql(_statements.add),
            {
                "document_id": document_id,
                "title": title,
                "ordinals": [chunk.ordinal for chunk in rows],
                "occurrences": [chunk.occurrence for chunk in rows],
                "texts": [chunk.text for chunk in rows],
                "paths": ["\x1f".join(chunk.heading_path) for chunk in rows],
                "hashes": [chunk.content_hash for chunk in rows],
                "tokens": [chunk.token_count for chunk in rows],
                "languages": [chunk.language for chunk in rows],
            },
        )
    return len(added), removed


async def lex_again(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace, document_id: UUID, title: str | None
) -> None:
    """Compute the lexemes of a document's stored chunks anew, for a title or language that changed."""
    await connection.execute(
        namespace.sql(_statements.lex_again), {"document_id": document_id, "title": title}
    )
