"""Vectors made in this process by WordLlama: no key, no network, nothing to pay.

The weights and the tokenizer are inside its wheel (16 MB, 256 dimensions, trained so that the first 64 or
128 numbers serve as well). A vector is the mean of the vectors of its tokens: quick, and blind to word order.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import threading
from array import array
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docyard_schema.embeddings import ModelIdentity
from docyard_schema.errors import ConfigError, InvalidInput
from docyard_workers.embed.providers.answers import vector_failure
from docyard_workers.embed.providers.protocol import Embedded, ProviderLimits
from docyard_workers.embed.providers.screening import estimate_tokens, screen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from docyard_workers.embed.providers.protocol import Vector

MODELS = {"wordllama-64": 64, "wordllama-128": 128, "wordllama-256": 256}
DEFAULT_DIMENSION = 256
_FILES = "l2_supercat"
_STORED_DIMENSION = 256
# The library pads a batch to its longest text and keeps 2 kB per token: batches are of texts of like length.
# 2,000 texts of 1,000 characters: 0.31 s in batches of 8, 0.72 s in the library's own 64.
_BATCH_TEXTS = 8
_BATCH_BYTES = 32_768

_importing = threading.Lock()


class WordLlamaProvider:
    """An :class:`~docyard_workers.embed.providers.protocol.EmbeddingProvider` in threads of this process."""

    name = "wordllama"
    account = "wordllama"

    def __init__(self, *, dimension: int = DEFAULT_DIMENSION, limits: ProviderLimits | None = None) -> None:
        self.limits = replace(
            limits or ProviderLimits(price_per_million_tokens=Decimal(0)), pays_per_request=False
        )
        self._dimension = dimension
        self._folder = _wheel_folder()
        self._hash: str | None = None
        self._inference: Any = None
        self._starting = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"WordLlamaProvider(dimension={self._dimension})"

    @property
    def model(self) -> ModelIdentity:
        """The hash covers the bytes of weights and tokenizer and the dimension, not the package's version."""
        if self._hash is None:
            self._hash = _hash_of_files(self._folder, self._dimension)
        return ModelIdentity(
            name=f"wordllama-{self._dimension}",
            provider=self.name,
            dimension=self._dimension,
            hash=self._hash,
        )

    def count_tokens(self, text: str) -> int:
        """UTF-8 bytes / 4, rounded up: its own tokenizer would cost half as much again as the vectors do."""
        return estimate_tokens(text)

    async def start(self) -> None:
        """Import the library and load the weights in a thread: 0.2 s and 90 MB."""
        async with self._starting:
            if self._closed:
                raise InvalidInput("expected an open embedding provider, got a closed one", operation="embed")
            if self._inference is None:
                self._inference = await asyncio.to_thread(self._load)

    async def embed(
        self, texts: Sequence[str], *, before_sending: Callable[[], Awaitable[None]] | None = None
    ) -> Embedded:
        """Unit vectors of ``texts``; ``tokens`` is the estimate, ``requests`` is 1 though nothing is sent."""
        sendable, tokens, failures = screen(texts, self.limits)
        vectors: list[Vector | None] = [None] * len(texts)
        if not sendable:
            return Embedded(vectors=vectors, tokens=0, requests=0, failures=failures)
        await self.start()
        if before_sending is not None:
            await before_sending()
        made = await asyncio.to_thread(_embed, self._inference, [texts[index] for index in sendable])
        for index, vector in zip(sendable, made, strict=True):
            failure = vector_failure(vector)
            if failure is None:
                vectors[index] = vector
            else:
                failures[index] = failure
        return Embedded(vectors=vectors, tokens=tokens, requests=1, failures=failures)

    async def aclose(self) -> None:
        """Let the weights go."""
        self._closed = True
        self._inference = None

    def _load(self) -> Any:
        self.model  # noqa: B018 - reads the hash here, in the thread
        with _importing:
            # Importing wordllama calls logging.basicConfig(): without effect while the root has a handler.
            keep_out = logging.NullHandler()
            logging.root.addHandler(keep_out)
            try:
                from wordllama import WordLlama
            except ImportError as error:
                raise _missing(str(error)) from error
            finally:
                logging.root.removeHandler(keep_out)
        try:
            return WordLlama.load(
                _FILES,
                cache_dir=self._folder,  # never the home folder, and never a download
                dim=_STORED_DIMENSION,
                trunc_dim=self._dimension,
                disable_download=True,
            )
        except FileNotFoundError as error:
            raise _missing(str(error)) from error


def _embed(inference: Any, texts: list[str]) -> list[Vector]:
    """Runs in a thread; tokenizer and numpy let go of the GIL, so other threads wait about 6 ms at most."""
    import numpy

    vectors: list[Vector] = [array("f")] * len(texts)
    # An all-zero mean is divided by its norm, 0: the NaN is seen later, the warning is nobody's business.
    with numpy.errstate(divide="ignore", invalid="ignore"):
        for indices in _batches(texts):
            rows = inference.embed([texts[index] for index in indices], norm=True, batch_size=len(indices))
            for index, row in zip(indices, rows, strict=True):
                vectors[index] = array("f", row.tobytes())
    return vectors


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Indices in groups of like length, none larger than what a batch may take in memory."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        size = len(texts[index].encode()) * (
            len(batch) + 1
        )  # all are padded to the longest, which is this one
        if batch and (len(batch) == _BATCH_TEXTS or size > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _wheel_folder() -> Path:
    specification = importlib.util.find_spec("wordllama")  # does not import it
    if specification is None or specification.origin is None:
        raise _missing("it is not installed")
    return Path(specification.origin).parent


def _hash_of_files(folder: Path, dimension: int) -> str:
    """Reads 18 MB, once per provider, in about 20 ms: cheap enough to notice any changed byte."""
    digest = hashlib.sha256(f"wordllama:{_FILES}:{dimension}\0".encode())
    weights = folder / "weights" / f"{_FILES}_{_STORED_DIMENSION}.safetensors"
    tokenizer = folder / "tokenizers" / f"{_FILES}_tokenizer_config.json"
    for path in (weights, tokenizer):
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError as error:
            raise _missing(f"its wheel lacks {path.name}") from error
    return digest.hexdigest()


def _missing(reason: str) -> ConfigError:
    return ConfigError(
        f"expected the package wordllama for embeddings without a key: {reason}",
        hint="Run: pip install 'docyard[local]'   or set OPENAI_API_KEY.",
        operation="choose an embedding provider",
    )
