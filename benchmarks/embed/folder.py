"""As many documents of real text as one wants, of the sizes that real ones have."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

from docyard.demo.corpus import find_corpus

if TYPE_CHECKING:
    from pathlib import Path

# As in the simulation: the sizes of the demo's documents.
_LN_DEVIATION = 1.15
_MARKUP = {".html", ".htm"}


def write_folder(
    folder: Path, documents: int, *, largest: int | None = None, copies: int = 1, seed: int = 1
) -> list[Path]:
    """Write ``documents`` plain texts, cut at blank lines out of what the demo reads; gives their paths.

    Together they have all of it, or ``largest`` bytes, ``copies`` times with a number in front of each
    paragraph, so that no text is equal to another copy's. The same call on the same machine writes the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paragraphs = _paragraphs(largest)
    if copies > 1:
        paragraphs = [f"{copy} {text}" for copy in range(copies) for text in paragraphs]
    chance = random.Random(seed)
    shares = [chance.lognormvariate(0, _LN_DEVIATION) for _ in range(documents)]
    size, whole = sum(map(len, paragraphs)), sum(shares)
    borders, reached, total = [0], 0, 0.0
    for number, share in enumerate(shares):
        total += share
        position = borders[-1]
        most = len(paragraphs) - (documents - number - 1)
        # At least one paragraph each, and enough left for those that follow.
        while position < most and (reached < size * total / whole or position == borders[-1]):
            reached += len(paragraphs[position])
            position += 1
        borders.append(position)
    borders[-1] = len(paragraphs)
    paths = []
    for number, (start, end) in enumerate(pairwise(borders)):
        path = folder / f"{number // 100:03}" / f"{number:05}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n\n".join(paragraphs[start:end]))
        paths.append(path)
    return paths


def _paragraphs(largest: int | None) -> list[str]:
    found: list[str] = []
    size = 0
    for path in find_corpus().files:
        if path.suffix.lower() in _MARKUP:
            continue
        for part in path.read_text(encoding="utf-8", errors="replace").replace("\x00", "").split("\n\n"):
            if not part.strip():
                continue
            found.append(part)
            size += len(part)
            if largest is not None and size >= largest:
                return found
    return found
