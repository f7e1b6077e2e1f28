"""Somebody who searches all the while, and writes down every answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from docyard import Docyard
    from docyard_schema.search import SearchMode, SearchResult

Question: TypeAlias = "tuple[str, SearchMode]"
Answer: TypeAlias = tuple[tuple[object, int, float], ...]


def as_answer(result: SearchResult) -> Answer:
    """What is compared: documents, passages and scores, in their order."""
    return tuple((hit.document_id, hit.chunk_id, round(hit.score, 9)) for hit in result)


async def answers(
    yard: Docyard, questions: Sequence[Question], *, collection: str = "default"
) -> dict[Question, Answer]:
    """What each question finds now."""
    return {
        (query, mode): as_answer(await yard.search(query, mode=mode, collection=collection))
        for query, mode in questions
    }


@dataclass
class Searcher:
    """Asks the questions by turns; ``heard`` are the answers, ``errors`` what was raised."""

    questions: Sequence[Question]
    collection: str = "default"
    heard: list[tuple[Question, Answer]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)

    async def run(self, yard: Docyard, every: float) -> None:
        turn = 0
        while True:
            query, mode = self.questions[turn % len(self.questions)]
            turn += 1
            pause = asyncio.create_task(asyncio.sleep(every))
            try:
                result = await yard.search(query, mode=mode, collection=self.collection)
            except Exception as error:  # whatever it is, the test shows it
                self.errors.append(f"{type(error).__name__}: {error}")
            else:
                if result.degraded is not None:
                    self.degraded.append(result.degraded)
                self.heard.append(((query, mode), as_answer(result)))
            await pause

    def told_by(self, **models: Mapping[Question, Answer]) -> list[str]:
        """Which model gave each answer, in their order: ``empty`` and ``mixed`` for those of none."""
        told = []
        for question, answer in self.heard:
            whose = [name for name, known in models.items() if known[question] == answer]
            told.append(whose[0] if whose else ("mixed" if answer else "empty"))
        return told


@asynccontextmanager
async def searching(
    yard: Docyard, questions: Sequence[Question], *, per_second: int = 20
) -> AsyncIterator[Searcher]:
    """A searcher at work until the end of the block."""
    searcher = Searcher(questions)
    task = asyncio.create_task(searcher.run(yard, 1 / per_second))
    try:
        yield searcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
