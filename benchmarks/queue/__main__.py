"""``python -m benchmarks.queue``: measures, prints the tables, writes the JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.queue.run import LESS_IS_BETTER, MEASURES, Sizes, run
from benchmarks.queue.systems import chosen_systems
from benchmarks.results import FOLDER, against, comparison, write_results

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says."""
    options = _parser().parse_args(arguments)
    sizes = Sizes(
        jobs=options.jobs, rounds=options.rounds, waiting=options.waiting, finished=options.finished
    )
    systems = chosen_systems(options.only, concurrency=options.concurrency)
    environment, compared, own = run(systems, sizes, wanted=options.measures)
    _say(f"\nJobs a second (latencies in ms); behind each, how many times better docyard is. {sizes}\n")
    _say(comparison(compared, less_is_better=LESS_IS_BETTER))
    base = compared.get("drain_1", {}).get("docyard")
    if own and base:
        _say("\ndocyard under other conditions, jobs a second, and what that is of drain_1:\n")
        _say(against(own, base))
    write_results(options.output, environment, compared | own)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _names(text: str) -> list[str]:
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.queue",
        description="docyard's queue beside others, on one Postgres in one run. Compare within a run only.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", type=_names, metavar="A,B", help="these packages only")
    parser.add_argument("--measures", type=_names, metavar="A,B", help=f"these only of {', '.join(MEASURES)}")
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs of a drain; slow systems get a part")
    parser.add_argument("--rounds", type=int, default=2, help="times that all is measured; the best counts")
    parser.add_argument("--concurrency", type=int, help="of docyard's worker, instead of its best")
    parser.add_argument("--waiting", type=int, default=200_000, help="rows that wait in the backlog")
    parser.add_argument("--finished", type=int, default=600_000, help="finished rows beside the backlog")
    parser.add_argument("--output", type=Path, default=FOLDER / "queue.json", help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
