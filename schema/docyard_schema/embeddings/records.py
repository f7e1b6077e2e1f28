"""What is known of an embedding model."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - a row's field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """What tells one model's vectors from another's: name, dimension, and a sha256 in hex of the model."""

    name: str
    provider: str
    dimension: int
    hash: str

    def describe(self) -> str:
        """One line for people: ``wordllama-256 (wordllama, 256 dimensions, hash 1a2b3c4d5e6f…)``."""
        return f"{self.name} ({self.provider}, {self.dimension} dimensions, hash {self.hash[:12]}…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingModel:
    """A registered model; ``state`` is building, ready, active, retired or failed.

    ``settings`` say how its provider is made (``model``, ``dimension``, ``base_url``), never a key; empty
    when nobody said. Chunks with ids up to ``backfill_to`` were there when it was registered: a migration
    embeds them, and every later chunk came with a job for this model.
    """

    id: int
    name: str
    provider: str
    dimension: int
    hash: str
    state: str
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    backfill_to: int = 0

    @property
    def identity(self) -> ModelIdentity:
        """The part that vectors are compared by."""
        return ModelIdentity(name=self.name, provider=self.provider, dimension=self.dimension, hash=self.hash)

    @property
    def partition(self) -> str:
        """The table that holds its vectors, without the schema."""
        return f"embeddings_{self.id}"
