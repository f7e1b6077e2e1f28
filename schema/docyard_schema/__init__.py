"""The ground floor of docyard: the database, its schema, documents, vectors and search.

Imports nothing of docyard's other packages.
"""

from docyard_schema.database import Connection, Database
from docyard_schema.documents import (
    Chunk,
    Document,
    DocumentRepository,
    DocumentVersion,
    NewChunk,
    NewDocument,
    Stored,
)
from docyard_schema.embeddings import EmbeddingModel, ModelIdentity, ModelRepository, VectorRepository
from docyard_schema.errors import (
    ConfigError,
    Conflict,
    ConnectionRejected,
    DatabaseError,
    DatabaseUnavailable,
    DocyardError,
    EmbeddedError,
    ExtensionMissing,
    InvalidInput,
    MigrationError,
    ModelMismatch,
    NotFound,
    PoolExhausted,
    SchemaMismatch,
    VerificationError,
)
from docyard_schema.health import Health, HealthStatus
from docyard_schema.namespace import Namespace
from docyard_schema.settings import DatabaseSettings
from docyard_schema.shared import shared_database

__all__ = [
    "Chunk",
    "ConfigError",
    "Conflict",
    "Connection",
    "ConnectionRejected",
    "Database",
    "DatabaseError",
    "DatabaseSettings",
    "DatabaseUnavailable",
    "Document",
    "DocumentRepository",
    "DocumentVersion",
    "DocyardError",
    "EmbeddedError",
    "EmbeddingModel",
    "ExtensionMissing",
    "Health",
    "HealthStatus",
    "InvalidInput",
    "MigrationError",
    "ModelIdentity",
    "ModelMismatch",
    "ModelRepository",
    "Namespace",
    "NewChunk",
    "NewDocument",
    "NotFound",
    "PoolExhausted",
    "SchemaMismatch",
    "Stored",
    "VectorRepository",
    "VerificationError",
    "shared_database",
]
