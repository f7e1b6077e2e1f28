"""Checks of the Postgres server: what slows every queue on it, and how much room is left."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from docyard_queue.diagnosis.finding import Finding, counted, duration, ok, problem, warning
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_queue.diagnosis.patient import Patient

_statements = load_statements("docyard_queue.diagnosis", "server.sql")

_CLOCK_SECONDS = 2.0


async def versions(patient: Patient) -> list[Finding]:
    """What works together here."""
    [(postgres, vectors)] = await patient.ask(_statements.versions)
    told = (
        f"docyard {version('docyard')}, Python {platform.python_version()}, "
        f"PostgreSQL {postgres.split()[0]}, pgvector {vectors or 'absent'}, "
        f"procrastinate {version('procrastinate')}"
    )
    if vectors is None and patient.database.backend == "embedded":
        return [warning("versions", told, "Any other command brings the embedded database up to date.")]
    if vectors is None:
        return [problem("versions", told, "Run: docyard db migrate   (it creates pgvector, or says who can)")]
    return [ok("versions", told)]


async def clock(patient: Patient) -> list[Finding]:
    """This machine's clock beside the database's, which is the only one that counts."""
    begun, asked = time.time(), time.monotonic()
    [(there,)] = await patient.ask(_statements.clock)
    took = time.monotonic() - asked
    ahead = begun + took / 2 - there
    if abs(ahead) <= _CLOCK_SECONDS + took / 2:
        return [ok("clock", f"this machine and the database differ by {abs(ahead) * 1000:.0f} ms")]
    way = "ahead of" if ahead > 0 else "behind"
    return [
        warning(
            "clock",
            f"this machine is {duration(abs(ahead))} {way} the database",
            "Jobs go by the database's clock alone, but log lines and run_at made here are off: "
            "set this machine's clock (NTP).",
        )
    ]


async def transactions(patient: Patient) -> list[Finding]:
    """Who holds dead rows in the tables: sessions, and transactions that were prepared and left."""
    limit = {"seconds": patient.transaction_seconds}
    found = []
    for pid, name, user, state, seconds, query_seconds, query in await patient.ask(
        _statements.long_transactions, limit
    ):
        found.append(
            warning(
                "transactions",
                f"pid {pid} ({name or 'no application name'}, user {user}, {state}) holds one open for "
                f"{duration(seconds)}; its last statement began {duration(query_seconds or 0)} ago: {query}",
                "Claims slow down while it is open. "
                f"Let its program commit, or: SELECT pg_terminate_backend({pid})",
            )
        )
    for gid, owner, seconds in await patient.ask(_statements.prepared_transactions, limit):
        found.append(
            problem(
                "transactions",
                f"the prepared transaction {gid!r} of {owner} is open for {duration(seconds)}",
                f"It stays until somebody ends it: COMMIT PREPARED '{gid}' or ROLLBACK PREPARED '{gid}'",
            )
        )
    [(user, sees_all)] = await patient.ask(_statements.sees_all)
    if not sees_all:
        found.append(
            warning(
                "transactions",
                "could not look at other users' sessions: needs pg_monitor",
                f'As a superuser: GRANT pg_monitor TO "{user}"',
            )
        )
    longest = duration(patient.transaction_seconds)
    return found or [ok("transactions", f"none is open for more than {longest}")]


async def replication_slots(patient: Patient) -> list[Finding]:
    """Slots that nobody reads."""
    found = []
    for name, holds_rows, kept in await patient.ask(_statements.replication_slots):
        holds = "keeps dead rows and " if holds_rows else "keeps "
        found.append(
            warning(
                "replication slots",
                f"nobody reads {name!r}; it {holds}{(kept or 0) / 2**20:,.0f} MB of log",
                f"Start its reader, or: SELECT pg_drop_replication_slot('{name}')",
            )
        )
    return found or [ok("replication slots", "none is left unread")]


async def connections(patient: Patient) -> list[Finding]:
    """How many more clients the server takes."""
    [(used, most)] = await patient.ask(_statements.connections)
    told = f"{used} of {most} are used"
    advice = "Raise max_connections, lower DOCYARD_POOL_MAX_SIZE, or put a pooler between."
    if used >= 0.95 * most:
        return [problem("connections", told, advice)]
    return [warning("connections", told, advice) if used >= 0.8 * most else ok("connections", told)]


async def notify_queue(patient: Patient) -> list[Finding]:
    """How full the queue of notifications is, which a listener that does not read fills."""
    [(usage,)] = await patient.ask(_statements.notify_queue)
    told = f"{usage:.0%} full"
    advice = "A session that listens has been in a transaction for long: see transactions, and end it."
    if usage > 0.5:
        return [problem("notify queue", f"{told}: new jobs are only found by polling", advice)]
    return [warning("notify queue", told, advice) if usage > 0.1 else ok("notify queue", told)]


_UNSAFE = {
    "fsync": "a crash of the machine can destroy the database",
    "full_page_writes": "a crash of the machine can destroy the database",
    "autovacuum": "dead rows stay, and claims become slower and slower",
    "track_counts": "autovacuum does not know what to do",
    "track_activities": "nobody can see who holds a transaction open",
    "synchronous_commit": "a crash of the server can lose the last half second of commits",
}


async def settings(patient: Patient) -> list[Finding]:
    """Settings that were turned off and should not be."""
    found = []
    for name, _ in await patient.ask(_statements.settings):
        say = warning if name in ("synchronous_commit", "track_activities") else problem
        found.append(
            say("settings", f"{name} is off: {_UNSAFE[name]}", f"Set {name} = on and reload the server.")
        )
    return found or [ok("settings", f"{counted(len(_UNSAFE), 'safety setting')} are as they should be")]
