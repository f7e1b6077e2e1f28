"""Embedding models and the vectors they made."""

from docyard_schema.embeddings.models import ModelRepository
from docyard_schema.embeddings.overview import ModelOverview, overview
from docyard_schema.embeddings.records import EmbeddingModel, ModelIdentity
from docyard_schema.embeddings.vector_index import (
    IndexOptions,
    IndexState,
    build_index,
    index_is_due,
    index_state,
)
from docyard_schema.embeddings.vector_text import vector_literal
from docyard_schema.embeddings.vectors import ChunkRange, MissingVector, NewVector, VectorRepository

__all__ = [
    "ChunkRange",
    "EmbeddingModel",
    "IndexOptions",
    "IndexState",
    "MissingVector",
    "ModelIdentity",
    "ModelOverview",
    "ModelRepository",
    "NewVector",
    "VectorRepository",
    "build_index",
    "index_is_due",
    "index_state",
    "overview",
    "vector_literal",
]
