from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from docyard.demo.corpus import Corpus, find_corpus
from docyard.demo.show import DemoInvocation, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    handlers, level, configured = logging.root.handlers[:], logging.root.level, structlog.get_config()
    yield
    logging.root.handlers, logging.root.level = handlers, level
    structlog.configure(**configured)


def test_the_corpus_is_hundreds_of_files_and_no_licences() -> None:
    corpus = find_corpus()
    assert 200 <= len(corpus.files) <= 3000
    assert corpus.packages >= 40
    assert len(set(corpus.files)) == len(corpus.files)
    names = {path.name.lower() for path in corpus.files}
    assert not {"license", "license.txt", "record", "top_level.txt", "entry_points.txt"} & names
    assert {"metadata"} <= names
    assert any(path.suffix == ".py" for path in corpus.files)


async def test_the_demo_ignores_keys_and_settings_and_its_second_run_finds_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [path for path in find_corpus().files if path.name == "METADATA"][:30]
    corpus = Corpus(files=tuple(files), packages=30, size=sum(path.stat().st_size for path in files))
    monkeypatch.setattr("docyard.demo.show.find_corpus", lambda: corpus)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    monkeypatch.setenv("DOCYARD_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    (tmp_path / "docyard.toml").write_text("colour = 'blue'\n")

    assert await show(DemoInvocation()) == 0
    first = capsys.readouterr().out
    assert "30 files new" in first
    assert first.count('"  (') == 3
    assert "30 files · " in first
    assert "env -u DOCYARD_DATABASE_URL DOCYARD_EMBEDDING_PROVIDER=wordllama" in first
    assert (tmp_path / ".docyard").is_dir()

    assert await show(DemoInvocation()) == 0
    assert "Nothing changed since the last run: 30 files looked at" in capsys.readouterr().out
