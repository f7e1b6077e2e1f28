"""Hears of new jobs the moment they are committed; polling finds whatever it misses."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import psycopg
import structlog

from docyard_queue.outage import brief
from docyard_schema.answers import answering_within
from docyard_schema.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema.database import Database

_log = structlog.get_logger("docyard.queue")

CHANNEL = "procrastinate_any_queue_v1"

# Silence is what an idle database and a dead connection have in common: after so much of it we ask.
QUIET_SECONDS = 30.0
_ANSWER_SECONDS = 10.0


async def listen(database: Database, *, on_job: Callable[[], None], on_cancel: Callable[[int], None]) -> None:
    """Call ``on_job`` when jobs came in and ``on_cancel`` with the id of a job to stop; until cancelled.

    Anyone may notify, and the channel belongs to the whole database, not to this schema: an id is a reason
    to look, no more.

    A lost connection is opened again, with jitter, and ``on_job`` is called once then: what was said in
    between was not heard. One that stays silent is asked for an answer from time to time. Behind a
    transaction pooler without a direct URL it says so and returns.
    """
    settings = database.settings
    if settings.pooler == "transaction" and settings.direct_database_url is None:
        _log.info("listener.disabled", reason="a transaction pooler cannot LISTEN; polling instead")
        return
    while True:
        try:
            async with database.dedicated() as connection:
                await connection.execute(f"LISTEN {CHANNEL}".encode())
                on_job()
                while True:
                    with answering_within(connection, None):
                        async for notification in connection.notifies(timeout=QUIET_SECONDS):
                            _tell(notification.payload, on_job, on_cancel)
                    with answering_within(connection, _ANSWER_SECONDS):
                        await connection.execute("SELECT 1")
        except (psycopg.Error, DatabaseUnavailable, OSError) as error:
            _log.warning("listener.lost", error=brief(error))
            await asyncio.sleep(random.uniform(0.1, 1))  # noqa: S311 - jitter


def _tell(payload: str, on_job: Callable[[], None], on_cancel: Callable[[int], None]) -> None:
    try:
        message = json.loads(payload)
        kind, job_id = message["type"], int(message["job_id"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        # Anyone may notify on the channel. A poll too many does no harm.
        on_job()
        return
    if kind == "abort_job_requested":
        on_cancel(job_id)
    else:
        on_job()
