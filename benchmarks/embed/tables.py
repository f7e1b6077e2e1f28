"""``python -m benchmarks.embed.tables``: the tables of ``docs/design/coalescing.md``, in some seconds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.embed.simulation import Scenario, Simulation, a_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.embed.simulation import Document, Outcome

RULES: dict[str, dict[str, Any]] = {
    "a request per document": {"rule": "claim"},
    "per claim of up to 16 jobs": {"rule": "claim", "jobs_per_claim": 16},
    "per claim of up to 1,000 jobs": {"rule": "claim", "jobs_per_claim": 1_000},
    "a stream per process, 5 s": {"rule": "stream"},
    "a stream for the fleet, 5 s": {"rule": "queue"},
}
ALONE: dict[str, dict[str, Any]] = {
    "a request per document": {"rule": "claim"},
    "a stream that only counts 5 s": {"notices_the_end": False},
    "a stream that sees that nothing could be added": {},
}
RATES: dict[str, float | None] = {"50/s": 50, "200/s": 200, "500/s": 500, "2,000/s": 2_000, "all there": None}


def tables(folder: Sequence[Document]) -> Iterator[str]:
    """Each with its heading, in Markdown."""
    yield _table(
        "Requests by rule and chunks ingested per second; one process",
        ["", *RATES],
        [
            [name, *(_requests(folder, rate=rate, **rule) for rate in RATES.values())]
            for name, rule in RULES.items()
        ],
    )
    yield _table(
        "Requests of streams of several processes",
        ["", *RATES],
        [
            [
                f"{name}, {processes}",
                *(_requests(folder, rate=rate, processes=processes, **rule) for rate in RATES.values()),
            ]
            for name, rule in (("process", {"rule": "stream"}), ("fleet", {"rule": "queue"}))
            for processes in (1, 2, 4)
        ],
    )
    yield _table(
        "Longest wait: requests, and the wait of a document (95 % / all), in seconds",
        ["", "200/s, 1 process", "200/s, 4 processes", "500/s, 1 process", "500/s, 4 processes"],
        [
            [
                f"{wait} s",
                *(
                    _requests_and_waits(folder, rate=rate, processes=processes, longest_wait=wait)
                    for rate in (200, 500)
                    for processes in (1, 4)
                ),
            ]
            for wait in (1, 2, 5, 10, 30)
        ],
    )
    yield _table(
        "Seconds of a folder that is ingested already / requests × latency ÷ parallel requests",
        ["", "1 request at once", "4", "8"],
        [
            [
                f"{latency * 1000:.0f} ms, {micros} µs a text",
                *(
                    _times(
                        folder, rate=None, latency=latency, parallel=parallel, seconds_per_text=micros / 1e6
                    )
                    for parallel in (1, 4, 8)
                ),
            ]
            for micros in (200, 20)
            for latency in (0.0, 0.05, 0.5)
        ],
    )
    yield _table(
        "Texts in hand: seconds of a folder that is ingested already, provider at 500 ms, 20 µs a text",
        ["", "1 request at once", "4", "8"],
        [
            [
                f"{in_hand:,}",
                *(
                    _seconds(
                        folder,
                        rate=None,
                        latency=0.5,
                        parallel=parallel,
                        in_hand=in_hand,
                        seconds_per_text=0.00002,
                    )
                    for parallel in (1, 4, 8)
                ),
            ]
            for in_hand in (1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
        ],
    )
    alone = [(200,) * 10]
    yield _table(
        "A lone upload of ten chunks, provider at 50 ms: seconds from ingested to searchable",
        ["", "wait"],
        [[name, f"{_run(alone, **how).wait(1):.2f}"] for name, how in ALONE.items()],
    )


def _run(folder: Sequence[Document], **scenario: Any) -> Outcome:
    return Simulation(Scenario(**scenario), folder).run()


def _requests(folder: Sequence[Document], **scenario: Any) -> str:
    outcome = _run(folder, **scenario)
    return f"{outcome.requests:,} ({outcome.ratio:.2f}×)"


def _requests_and_waits(folder: Sequence[Document], **scenario: Any) -> str:
    outcome = _run(folder, **scenario)
    return f"{outcome.requests:,} ({outcome.wait(0.95):.1f} / {outcome.wait(1):.1f})"


def _times(folder: Sequence[Document], **scenario: Any) -> str:
    outcome = _run(folder, **scenario)
    return f"{outcome.seconds:.1f} / {outcome.ideal:.1f}"


def _seconds(folder: Sequence[Document], **scenario: Any) -> str:
    outcome = _run(folder, **scenario)
    return f"{outcome.seconds:.1f} ({outcome.requests:,} requests)"


def _table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return f"{heading}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    folder = a_folder(2_000)
    texts, tokens = sum(map(len, folder)), sum(map(sum, folder))
    minimum = _run(folder).minimum
    sys.stdout.write(f"2,000 documents, {texts:,} texts, {tokens:,} tokens; at least {minimum} requests\n\n")
    for table in tables(folder):
        sys.stdout.write(f"{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
