"""A corpus of some hundred real passages, two models on one server, and the command as a process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.embedding_server import EmbeddingServer
from support.reembed_process import OLD, OLD_DIMENSION, Process
from support.yards import asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def models() -> Iterator[EmbeddingServer]:
    """Both models: texts that share words are close in both, but not equally close."""
    with EmbeddingServer(vectors="words") as server:
        yield server


@pytest.fixture
def environment(models: EmbeddingServer) -> dict[str, str]:
    """The settings of the old model, and small requests: a reembed takes many."""
    return asking(
        models,
        DOCYARD_EMBEDDING_MODEL=OLD,
        DOCYARD_EMBEDDING_DIMENSION=str(OLD_DIMENSION),
        DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST="20",
        DOCYARD_CHUNK_SIZE="400",
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The documentation of this repository, cut into small files: some hundred chunks."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    pages = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))
    for page in pages[:24]:
        (folder / f"{page.parent.name}-{page.name}").write_text(page.read_text()[:6_000])
    return folder


@pytest.fixture
def small_corpus(corpus: Path) -> Path:
    """Four of these files."""
    for page in sorted(corpus.iterdir())[4:]:
        page.unlink()
    return corpus


@pytest.fixture
def command(url: str, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts the command line as a process that may kill itself; ends what is left of it."""
    started: list[Process] = []

    def start(*arguments: str, step: str = "-", **more: str) -> Process:
        log = tmp_path / f"command-{len(started)}.log"
        started.append(Process(url, environment | more, log, [step, *arguments]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
