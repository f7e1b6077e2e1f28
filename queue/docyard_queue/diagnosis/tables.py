"""Checks of docyard's own tables and indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_queue.diagnosis.finding import Finding, duration, ok, problem, warning
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_queue.diagnosis.patient import Patient

_statements = load_statements("docyard_queue.diagnosis", "tables.sql")

# Autovacuum comes at a fifth of a table by default; below this many nobody notices.
_DEAD_ROWS, _DEAD_SHARE = 50_000, 0.4


async def dead_rows(patient: Patient) -> list[Finding]:
    """Rows that died and are not cleared away, and whether anybody is going to."""
    schema = {"schema": patient.database.namespace.schema}
    found = [
        problem(
            "dead rows",
            f"autovacuum is turned off for {table}",
            f'ALTER TABLE "{schema["schema"]}".{table} RESET (autovacuum_enabled)',
        )
        for (table,) in await patient.ask(_statements.without_autovacuum, schema)
    ]
    most = ""
    for table, live, dead, vacuumed in await patient.ask(_statements.dead_rows, schema):
        when = "never vacuumed" if vacuumed is None else f"vacuumed {duration(vacuumed)} ago"
        most = most or f"{dead:,} in {table}, {when}"
        if dead > max(_DEAD_ROWS, _DEAD_SHARE * live):
            found.append(
                warning(
                    "dead rows",
                    f"{table} has {dead:,} beside {live:,} living ones, {when}",
                    f'If no transaction is open for long: VACUUM (ANALYZE) "{schema["schema"]}".{table}',
                )
            )
    return found or [ok("dead rows", f"at most {most}" if most else "none")]


async def indexes(patient: Patient) -> list[Finding]:
    """Indexes that every write keeps up and no query uses."""
    schema = patient.database.namespace.schema
    return [
        problem(
            "indexes",
            f"{index} is invalid: it costs every write, and serves nobody",
            f'REINDEX INDEX CONCURRENTLY "{schema}"."{index}", or drop it',
        )
        for (index,) in await patient.ask(_statements.invalid_indexes, {"schema": schema})
    ] or [ok("indexes", "all are valid")]
