"""``python -m benchmarks.views``: makes the rows, asks every view, prints the table, writes the JSON."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.environment import describe_environment
from benchmarks.results import FOLDER, write_results
from benchmarks.servers import settle, temporary_server
from benchmarks.views.queries import QUERIES
from docyard_queue.minutes import count_minutes
from docyard_schema import Database
from docyard_schema.statements import parse_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

# The best counts: the one that was disturbed least.
ROUNDS = 7
_ROWS = Path(__file__).with_name("rows.sql")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says."""
    options = _parser().parse_args(arguments)
    sizes = {"finished": options.finished, "waiting": options.waiting, "running": options.running}
    with temporary_server() as server:
        url = server.create("views")
        environment = describe_environment(
            url, {"docyard": ", ".join(f"{n:,} {what}" for what, n in sizes.items())}
        )
        seconds = asyncio.run(_fill(url, sizes))
        settle(url)
        measures = {name: {"docyard": value} for name, value in _measured(url).items()}
    _say(f"\nMilliseconds over {environment['systems']['docyard']} jobs, best of {ROUNDS}.\n")
    for name, values in measures.items():
        _say(f"{name:32}{values['docyard']:10.1f}")
    _say(f"\nThe first count of minutes, over all jobs of a day: {seconds:.1f} s.")
    write_results(options.output, environment, measures | {"first count, s": {"docyard": round(seconds, 1)}})
    return 0


async def _fill(url: str, sizes: dict[str, int]) -> float:
    """Make the rows, and count them by minutes; how many seconds the count took."""
    async with await Database.connect(url) as database:
        await database.initialize(migrate_schema=True)
        async with database.dedicated() as connection:
            await connection.execute("SET statement_timeout = 0")
            for statement in parse_statements(_ROWS.read_text(), _ROWS.name).values():
                await connection.execute(statement.encode(), sizes)
            await connection.execute("ANALYZE")
        began = time.perf_counter()
        await count_minutes(database)
        return time.perf_counter() - began


def _measured(url: str) -> dict[str, float]:
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        job = _one(connection, "SELECT max(job_id) FROM docyard.dead_letters")
        batch = _one(connection, "SELECT id FROM docyard.batches WHERE label = 'batch 0'")
        for name, statement in QUERIES.items():
            times = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                connection.execute(statement.encode(), {"job": job, "batch": batch}).fetchall()
                times.append(time.perf_counter() - began)
            found[name] = round(1000 * min(times), 2)
    return found


def _one(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.views",
        description="What a dashboard waits for, over millions of jobs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--finished", type=int, default=5_000_000, help="jobs that ended within a day")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="jobs that wait")
    parser.add_argument("--running", type=int, default=1_000, help="jobs that run")
    parser.add_argument("--output", type=Path, default=FOLDER / "views.json", help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
