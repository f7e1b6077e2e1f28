"""Which errors mean that the database cannot be had for now, and how a log line tells of one."""

from __future__ import annotations

import psycopg

from docyard_schema.errors import DatabaseError

# Also deadlocks, serialization failures, time limits and a full disk: what may go well the next time.
OUTAGE: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError)

# All that can go wrong between us and Postgres.
DATABASE_ERRORS: tuple[type[Exception], ...] = (psycopg.Error, DatabaseError)


def brief(error: BaseException) -> str:
    """The first line of what an error says, or its class when it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
