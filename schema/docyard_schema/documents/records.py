"""The rows of documents, versions and chunks, and what is asked for before they are rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - class_row reads the annotations' names
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003
from typing import Any, Literal
from uuid import UUID  # noqa: TC003

Visibility = Literal["private", "group", "public"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document as a caller gives it.

    ``raw`` is the exact text that was received, None for a binary original; ``sha256`` (32 bytes) is of
    the exact bytes. ``pipeline_version`` names the code that made text and chunks of them: with another
    one, equal bytes are processed again.
    """

    kind: str
    collection: str
    source_uri: str
    title: str | None
    raw: str | None
    media_type: str
    sha256: bytes
    pipeline_version: str
    contents: Mapping[str, Any] | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    owner_id: UUID | None = None
    visibility: Visibility = "private"
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A stored document; what it says is in its current version."""

    id: UUID
    kind: str
    collection: str
    source_uri: str | None
    title: str | None
    current_version: UUID
    owner_id: UUID | None
    visibility: Visibility
    shared_with_groups: list[UUID]
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    accessed_at: datetime | None
    expires_at: datetime | None
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentVersion:
    """One immutable version. ``raw`` is None for a binary original."""

    document_id: UUID
    version: UUID
    previous_version: UUID | None
    raw: str | None
    contents: dict[str, Any] | None
    media_type: str
    blob_uri: str | None
    sha256: bytes
    signature: dict[str, Any] | None
    pipeline_version: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChunk:
    """A passage before it is stored; made by :func:`docyard_schema.documents.identify`."""

    ordinal: int
    occurrence: int
    text: str
    heading_path: tuple[str, ...]
    content_hash: bytes
    token_count: int
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A stored passage of a document's current version."""

    id: int
    document_id: UUID
    ordinal: int
    text: str
    heading_path: list[str]
    content_hash: bytes
    token_count: int
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What storing a document did.

    ``version`` is the current version afterwards; ``changed`` is False when the same bytes and pipeline
    were there already, and neither version nor chunk was written. The counts are of chunks.
    """

    document_id: UUID
    version: UUID
    changed: bool
    added: int = 0
    removed: int = 0
    kept: int = 0
