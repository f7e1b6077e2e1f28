"""Documents, their versions and chunks."""

from docyard_schema.documents.chunk_identity import content_hash, embedding_input, identify
from docyard_schema.documents.records import (
    Chunk,
    Document,
    DocumentVersion,
    NewChunk,
    NewDocument,
    Stored,
)
from docyard_schema.documents.repository import DocumentRepository

__all__ = [
    "Chunk",
    "Document",
    "DocumentRepository",
    "DocumentVersion",
    "NewChunk",
    "NewDocument",
    "Stored",
    "content_hash",
    "embedding_input",
    "identify",
]
