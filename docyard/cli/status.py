"""``docyard status``: the database, what is in it, and who works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.obstacles import cool_downs, paused_queues, tell_obstacles, told_spend
from docyard.cli.output import span

if TYPE_CHECKING:
    from docyard.cli.output import Output
    from docyard_queue import QueueStats
    from docyard_schema import Database

_COVERAGE = """
SELECT model, state, sum(chunks)::bigint, sum(embedded)::bigint, sum(missing)::bigint, sum(failed)::bigint
FROM docyard.embedding_coverage GROUP BY model, state ORDER BY state <> 'active', model
"""
_COUNTS = ("chunks", "embedded", "missing", "failed")


@command
async def status(
    invocation: Invocation,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> int:
    """Show the database's health, documents, vectors, queues and workers."""
    async with invocation.database() as database:
        found = await _look(database)
    if as_json:
        invocation.output.json(found)
    else:
        _tell(invocation.output, found)
    return FAILED if found["health"].status == "unavailable" else DONE


async def _look(database: Database) -> dict[str, Any]:
    from docyard_queue import Inspection
    from docyard_schema import DocumentRepository, ModelRepository
    from docyard_schema.embeddings.spend import spend_today
    from docyard_schema.migrations import load_steps, migration_status

    inspection = Inspection(database)
    stats = await inspection.queues()
    health = await database.health_check()
    model = await ModelRepository(database).active()
    async with database.connection() as connection:
        steps = await migration_status(connection, database.namespace)
        cursor = await connection.execute(database.sql("SELECT count(*) FROM docyard.chunks"))
        chunks = (await cursor.fetchone() or (0,))[0]
        cursor = await connection.execute(database.sql(_COVERAGE))
        models = [
            {"model": name, "state": state, **dict(zip(_COUNTS, counts, strict=True))}
            for name, state, *counts in await cursor.fetchall()
        ]
    return {
        "database": database.describe(),
        "backend": database.backend,
        "health": health,
        "schema": {"name": database.namespace.schema, "step": steps.version, "of": len(load_steps())},
        "documents": await DocumentRepository(database).count_by_kind(),
        "chunks": chunks,
        "model": None if model is None else model.identity,
        "coverage": None if model is None else _of(model.name, models),
        "models": models,
        "spend": await spend_today(database),
        "paused": await paused_queues(database) if any(queue.paused for queue in stats) else [],
        "cool_downs": await cool_downs(database),
        "queues": stats,
        "workers": await inspection.workers(),
    }


def _tell(output: Output, found: dict[str, Any]) -> None:
    health, model, coverage = found["health"], found["model"], found["coverage"]
    documents = found["documents"]
    output.fields(
        {
            "Database": found["database"],
            "Health": f"{health.status}{': ' + health.reason if health.reason else ''}"
            f" ({health.milliseconds:.1f} ms)",
            "Schema": f"{found['schema']['name']}, step {found['schema']['step']} of {found['schema']['of']}",
            "Documents": ", ".join(f"{count:,} {kind}" for kind, count in documents.items()) or "none yet",
            "Chunks": f"{found['chunks']:,}",
            "Model": "none yet" if model is None else f"{model.name} ({model.dimension} dimensions)",
            "Vectors": None if coverage is None else _coverage(coverage),
            "Other models": "; ".join(
                f"{other['model']} ({other['state']}): {_coverage(other)}"
                for other in found["models"]
                if other["state"] not in ("active", "failed")
            )
            or None,
            "Spent today": told_spend(found["spend"]),
        }
    )
    tell_obstacles(output, found)
    if found["queues"]:
        output.line()
        _tell_queues(output, found["queues"])
    output.line()
    output.table(
        ["worker", "host", "pid", "queues", "running", "state", "heartbeat at"],
        [
            [row.id, row.host, row.pid, row.queues or "all", row.running, row.state, row.heartbeat_at]
            for row in found["workers"]
        ],
        empty="No worker is running. Start one: docyard worker",
    )
    if not documents:
        output.note("No documents yet. Add some: docyard ingest PATH --work")


def _tell_queues(output: Output, queues: list[QueueStats]) -> None:
    counts = ("scheduled", "available", "running", "retryable", "dead")
    output.table(
        ["queue", "paused", *counts, "done 24 h", "oldest"],
        [
            [
                row.queue,
                row.paused,
                *(getattr(row, name) for name in counts),
                row.completed_24h,
                None if row.oldest_available_s is None else span(row.oldest_available_s),
            ]
            for row in queues
        ],
    )


def _of(name: str, models: list[dict[str, Any]]) -> dict[str, int]:
    # The view has no row of a model while there is no chunk.
    found = next((counts for counts in models if counts["model"] == name), {})
    return {count: found.get(count, 0) for count in _COUNTS}


def _coverage(coverage: dict[str, int]) -> str:
    chunks, embedded = coverage["chunks"], coverage["embedded"]
    share = f" ({embedded / chunks:.1%})" if chunks else ""
    rest = "".join(f", {coverage[name]:,} {name}" for name in ("missing", "failed") if coverage[name])
    return f"{embedded:,} of {chunks:,} chunks{share}{rest}"
