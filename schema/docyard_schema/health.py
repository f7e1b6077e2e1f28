"""What a database's health is, in one word and a reason."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from docyard_schema.answers import answering_within
from docyard_schema.connection_string import mask_password
from docyard_schema.errors import PoolExhausted
from docyard_schema.pool import why_none

if TYPE_CHECKING:
    from docyard_schema.pool import Pool

# Two of waiting for a connection, two of an attempt beside the pool, and some to spare.
LONGEST_SECONDS = 6
_ACQUIRE_SECONDS = 2
_ANSWER_SECONDS = 3


class HealthStatus(StrEnum):
    """``healthy`` serves; ``degraded`` serves, but look; ``unavailable`` does not serve."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A status, the reason when it is not healthy (else empty), and how long the check took."""

    status: HealthStatus
    reason: str = ""
    milliseconds: float


async def check_pool(pool: Pool) -> Health:
    """Ask the pool's server something small. Never raises; takes six seconds at most."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            status, reason = await _look(pool)
    except TimeoutError:
        status, reason = HealthStatus.UNAVAILABLE, f"no answer within {LONGEST_SECONDS} seconds"
    except (OSError, psycopg.Error) as error:
        status, reason = HealthStatus.UNAVAILABLE, mask_password(str(error)).strip() or type(error).__name__
    return Health(status=status, reason=reason, milliseconds=(time.perf_counter() - begun) * 1000)


async def _look(pool: Pool) -> tuple[HealthStatus, str]:
    waiting = pool.get_stats().get("requests_waiting", 0)
    try:
        async with pool.connection(timeout=_ACQUIRE_SECONDS) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            with answering_within(connection, _ANSWER_SECONDS):
                await cursor.execute(
                    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
                )
            row = await cursor.fetchone()
    except PoolClosed:
        return HealthStatus.UNAVAILABLE, "the database is closed"
    except (PoolTimeout, TooManyRequests):
        why = await why_none(pool, _ACQUIRE_SECONDS)
        if isinstance(why, PoolExhausted):
            return HealthStatus.DEGRADED, f"the pool is exhausted: {why.message}"
        return HealthStatus.UNAVAILABLE, why.message
    standby, read_only = row or (False, False)
    if standby:
        return HealthStatus.DEGRADED, "the server is a standby: nothing can be written"
    if read_only:
        return HealthStatus.DEGRADED, "transactions are read-only here (default_transaction_read_only)"
    if waiting:
        return HealthStatus.DEGRADED, f"{waiting} callers wait for a connection"
    return HealthStatus.HEALTHY, ""
