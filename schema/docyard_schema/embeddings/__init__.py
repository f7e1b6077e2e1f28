"""Embedding models and the vectors they made."""

from docyard_schema.embeddings.models import ModelRepository
from docyard_schema.embeddings.records import EmbeddingModel, ModelIdentity
from docyard_schema.embeddings.vector_index import (
    IndexOptions,
    IndexState,
    build_index,
    index_is_due,
    index_state,
)
from docyard_schema.embeddings.vector_text import vector_literal
from docyard_schema.embeddings.vectors import NewVector, PendingChunk, VectorRepository

__all__ = [
    "EmbeddingModel",
    "IndexOptions",
    "IndexState",
    "ModelIdentity",
    "ModelRepository",
    "NewVector",
    "PendingChunk",
    "VectorRepository",
    "build_index",
    "index_is_due",
    "index_state",
    "vector_literal",
]
