"""Embedding models and the vectors they made."""

from docyard_schema.embeddings.models import EmbeddingModel, ModelIdentity, ModelRepository
from docyard_schema.embeddings.vector_index import build_index, index_is_due
from docyard_schema.embeddings.vector_text import vector_literal
from docyard_schema.embeddings.vectors import ChunkRange, MissingVector, NewVector, VectorRepository

__all__ = [
    "ChunkRange",
    "EmbeddingModel",
    "MissingVector",
    "ModelIdentity",
    "ModelRepository",
    "NewVector",
    "VectorRepository",
    "build_index",
    "index_is_due",
    "vector_literal",
]
