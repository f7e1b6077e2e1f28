"""Embedding providers: the seam they share, and the choice between them.

Importing this package is cheap: the client library and the local model load when first used.
"""

from docyard_workers.embed.providers.choose import EmbeddingConfig, choose_provider
from docyard_workers.embed.providers.of_model import Providers
from docyard_workers.embed.providers.protocol import (
    Embedded,
    EmbeddingProvider,
    ProviderLimits,
    TextFailure,
    Vector,
)

__all__ = [
    "Embedded",
    "EmbeddingConfig",
    "EmbeddingProvider",
    "ProviderLimits",
    "Providers",
    "TextFailure",
    "Vector",
    "choose_provider",
]
