"""What a worker and its child process say to each other: JSON, each message with its length before it."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from docyard_queue.jobs import Job
from docyard_queue.kept_text import encode_result
from docyard_queue.outcomes import Cancel, Done, Failure, Outcome, Snooze

if TYPE_CHECKING:
    import asyncio

_LENGTH = struct.Struct(">I")


async def send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Send one message. Raises :class:`ConnectionError` when the other side is gone."""
    post(writer, message)
    await writer.drain()


def post(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Send one message without waiting for its way."""
    body = json.dumps(message).encode()
    writer.write(_LENGTH.pack(len(body)) + body)


async def receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None when the other side is gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        message: dict[str, Any] = json.loads(await reader.readexactly(length))
    except (EOFError, ConnectionError):
        return None
    return message


def write_job(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return job._asdict() | {
        "batch_id": None if job.batch_id is None else str(job.batch_id),
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat(),
    }


def read_job(written: dict[str, Any]) -> Job:
    """The job that :func:`write_job` wrote."""
    batch = written["batch_id"]
    times = {name: datetime.fromisoformat(written[name]) for name in ("created_at", "started_at")}
    return Job(**(written | times | {"batch_id": None if batch is None else UUID(batch)}))


def write_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON; of a result that is not JSON its ``repr`` is kept, as in the job's row."""
    match outcome:
        case Done():
            result = encode_result(outcome.result)
            return {"says": "done", "result": None if result is None else json.loads(result)}
        case Snooze():
            return {"says": "snooze", "delay": outcome.delay.total_seconds(), "reason": outcome.reason}
        case Cancel():
            return {"says": "cancel", "reason": outcome.reason}
        case Failure():
            wait = None if outcome.retry_in is None else outcome.retry_in.total_seconds()
            return {"says": "failure"} | asdict(outcome) | {"retry_in": wait}


def read_outcome(written: dict[str, Any]) -> Outcome | None:
    """The outcome that :func:`write_outcome` wrote; None when the message is none."""
    match written:
        case {"says": "done", "result": result}:
            return Done(result)
        case {"says": "snooze", "delay": delay, "reason": reason}:
            return Snooze(timedelta(seconds=delay), reason)
        case {"says": "cancel", "reason": reason}:
            return Cancel(reason)
        case {"says": "failure", "retry_in": wait}:
            told = {name: written[name] for name in ("code", "error_class", "message", "traceback")}
            return Failure(**told, retry_in=None if wait is None else timedelta(seconds=wait))
    return None
