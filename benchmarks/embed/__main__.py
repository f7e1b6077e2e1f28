"""``python -m benchmarks.embed``: makes a folder, gives it its vectors, prints the table, writes the JSON."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from benchmarks.embed.folder import write_folder
from benchmarks.embed.measures import (
    Measured,
    embed_backlog,
    environment,
    ingest_again,
    ingest_and_embed,
    ingest_only,
    migrate,
)
from benchmarks.embed.memory import peak_memory
from benchmarks.embed.provider import embedding_process
from benchmarks.embed.request_per_document import embed_documents
from benchmarks.environment import describe_environment
from benchmarks.results import FOLDER, comparison, write_results
from benchmarks.servers import settle, temporary_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.results import Measures
    from benchmarks.servers import Server

LATENCIES = {"0ms": 0.0, "50ms": 0.05, "500ms": 0.5}
BASELINE = "request per document"
# The demo's texts make at least so many chunks; that many times over with other numbers in front.
_CHUNKS_OF_THE_CORPUS = 10_500
# Of a request to a provider that takes few: so many requests that their latency is what takes the time.
_FEW_TEXTS = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says."""
    options = _parser().parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    measures: Measures = {}
    with tempfile.TemporaryDirectory(prefix="docyard-embed-") as name, temporary_server() as server:
        folder = Path(name) / "texts"
        write_folder(folder, options.documents, largest=options.bytes)
        made = server.create("empty")
        asyncio.run(migrate(made))
        ingested, chunks = _ingested(server, folder, options)
        described = f"{options.documents:,} documents, {chunks:,} chunks, {options.parallel} requests at once"
        about = describe_environment(
            made, {"docyard": described, BASELINE: f"{options.parallel} requests at once, no queue"}
        )
        _say(f"{described}; best of {options.rounds}")
        for label, latency in LATENCIES.items():
            with embedding_process("--latency", str(latency)) as provider:
                settings = environment(provider, options.parallel)
                ours: list[Measured] = []
                theirs: list[Measured] = []
                for _ in range(options.rounds):
                    with server.copy(ingested) as url:
                        ours.append(asyncio.run(embed_backlog(url, settings, provider)))
                    with server.copy(ingested) as url:
                        provider.reset()
                        seconds = asyncio.run(embed_documents(url, provider.url, parallel=options.parallel))
                        theirs.append(Measured(seconds=seconds, chunks=chunks, counts=provider.counts()))
                _note(measures, label, latency, options.parallel, {"docyard": ours, BASELINE: theirs})
            if label == "50ms":
                _whole(measures, server, folder, options)
        _small_requests(measures, server, ingested, options)
        if options.memory_chunks:
            measures["peak_memory_mb"] = {"docyard": _memory(server, Path(name) / "many", options)}
    _say("")
    less = [name for name in measures if not name.startswith("chunks")]
    for part in _parts(measures):
        _say(comparison(part, less_is_better=less) + "\n")
    write_results(options.output, about, measures)
    return 0


def _ingested(server: Server, folder: Path, options: argparse.Namespace) -> tuple[str, int]:
    """A database where the folder waits for its vectors, and how many."""
    url = server.create("ingested")
    asyncio.run(migrate(url))
    with embedding_process() as provider:
        chunks = asyncio.run(ingest_only(url, environment(provider, options.parallel), [folder]))
    settle(url)
    return "ingested", chunks


def _note(
    measures: Measures, label: str, latency: float, parallel: int, found: dict[str, list[Measured]]
) -> None:
    best = {name: min(runs, key=lambda run: run.seconds) for name, runs in found.items()}
    measures[f"chunks_per_s_{label}"] = {name: round(run.per_second, 1) for name, run in best.items()}
    measures[f"requests_per_minimum_{label}"] = {
        name: round(run.requests_per_minimum, 3) for name, run in best.items()
    }
    if latency:
        ideal = best["docyard"].times_ideal(latency, parallel)
        measures[f"seconds_per_ideal_{label}"] = {"docyard": round(ideal, 3)}
    measures[f"texts_sent_twice_{label}"] = {
        name: max(float(run.counts["sent_again"]) for run in runs) for name, runs in found.items()
    }
    _say(f"{label}: " + ", ".join(f"{name} {run.seconds:.1f} s" for name, run in best.items()))


def _whole(measures: Measures, server: Server, folder: Path, options: argparse.Namespace) -> None:
    """From files to vectors by one worker, then the same folder again, then with a change."""
    with embedding_process("--latency", "0.05") as provider, server.copy("empty") as url:
        settings = environment(provider, options.parallel)
        run = asyncio.run(ingest_and_embed(url, settings, provider, [folder]))
        measures["chunks_per_s_whole_50ms"] = {"docyard": round(run.per_second, 1)}
        measures["requests_per_minimum_whole_50ms"] = {"docyard": round(run.requests_per_minimum, 3)}
        measures["texts_sent_twice_whole_50ms"] = {"docyard": float(run.counts["sent_again"])}
        requests, needless = asyncio.run(ingest_again(url, settings, provider, [folder]))
        measures["requests_second_run"] = {"docyard": float(requests)}
        measures["texts_needless_after_change"] = {"docyard": float(needless)}


def _small_requests(measures: Measures, server: Server, ingested: str, options: argparse.Namespace) -> None:
    with (
        embedding_process("--latency", "0.5", "--max-texts", str(_FEW_TEXTS)) as provider,
        server.copy(ingested) as url,
    ):
        settings = environment(provider, options.parallel)
        settings["DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST"] = str(_FEW_TEXTS)
        run = asyncio.run(embed_backlog(url, settings, provider))
        ideal = run.times_ideal(0.5, options.parallel)
        measures["seconds_per_ideal_small_500ms"] = {"docyard": round(ideal, 3)}


def _memory(server: Server, folder: Path, options: argparse.Namespace) -> float:
    copies = -(-options.memory_chunks // _CHUNKS_OF_THE_CORPUS)
    write_folder(folder, 1_000 * copies, copies=copies)
    with embedding_process("--latency", "0.05") as provider, server.copy("empty") as url:
        settings = environment(provider, options.parallel)
        chunks = asyncio.run(ingest_only(url, settings, [folder]))
        _say(f"memory: {chunks:,} chunks wait")
        return round(asyncio.run(peak_memory(url, settings)), 1)


def _parts(measures: Measures) -> list[Measures]:
    """Tables that fit a terminal: what is compared by kind, what is docyard's alone."""
    alone = {name: values for name, values in measures.items() if BASELINE not in values}
    compared = {name: values for name, values in measures.items() if name not in alone}
    kinds = ("chunks_per_s", "requests_per", "texts_sent")
    parts = [{name: compared[name] for name in compared if name.startswith(kind)} for kind in kinds]
    names = [*alone]
    return [*parts, *({name: alone[name] for name in names[at : at + 3]} for at in range(0, len(names), 3))]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embed",
        description="How many requests, how much time and memory a folder's vectors take.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--documents", type=int, default=2_000, help="documents of the folder")
    parser.add_argument("--bytes", type=int, default=None, help="of real text in them; None: all there is")
    parser.add_argument("--parallel", type=int, default=4, help="requests at once")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured; the best counts")
    parser.add_argument(
        "--memory-chunks", type=int, default=100_000, help="chunks for the memory; 0: not measured"
    )
    parser.add_argument("--output", type=Path, default=FOLDER / "embed.json", help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
