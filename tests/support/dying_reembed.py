"""``docyard`` as a process that kills itself, with SIGKILL, at a named step of a reembed.

``python dying_reembed.py STEP migrate reembed …``; the step ``-`` is none. Ranges are small, and every model
is worth an index, so that a corpus of some hundred chunks goes through all the steps of a large one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from docyard_schema.embeddings import ModelRepository, build_index
from docyard_workers.migrate import beginning, planning, reembed

CHUNKS_PER_RANGE = 25
STEPS = (
    "registered",  # the model's row and table are there, nothing is planned
    "planned",  # the ranges wait
    "indexing",  # while the index is being built
    "indexed",
    "verified",  # all is proved, nothing is activated
    "activating",  # the new model is active in a transaction that has not committed
    "activated",  # it has
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(owner: Any, name: str) -> None:
    real = getattr(owner, name)

    async def dying(*arguments: Any, **options: Any) -> None:
        await real(*arguments, **options)
        die()

    setattr(owner, name, dying)


async def die_while_building(database: Any, model: Any, **options: Any) -> None:
    building = asyncio.create_task(build_index(database, model, **options))
    while not building.done():
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT FROM pg_class WHERE relname = %s", [f"{model.partition}_hnsw"]
            )
            if await cursor.fetchone() is not None:
                break
    die()


def arm(step: str) -> None:
    planning.CHUNKS_PER_RANGE = CHUNKS_PER_RANGE
    reembed.ROWS_WORTH_AN_INDEX = 1
    match step:
        case "registered":
            die_after(ModelRepository, "register")
        case "planned":
            die_after(beginning, "begin")
        case "indexing":
            reembed.build_index = die_while_building
        case "indexed":
            die_after(reembed, "build_index")
        case "verified":
            die_after(reembed, "verify")
        case "activating":
            die_after(ModelRepository, "activate")
        case "activated":
            die_after(reembed.Reembed, "_end")


if __name__ == "__main__":
    arm(sys.argv.pop(1))
    from docyard.cli.application import app

    app(prog_name="docyard")
