"""A payload as the JSON text that Postgres keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_queue.jobs import NewJob

MAXIMUM_PAYLOAD_BYTES = 1024 * 1024

# Made once: json.dumps with options of its own makes an encoder for every call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# json writes NUL as \\u0000; an even number of backslashes before it would make it plain text.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def encode_payload(job: NewJob) -> str:
    """The payload as JSON text. Raises :class:`InvalidInput` when Postgres could not keep it as jsonb."""
    if not isinstance(job.payload, Mapping):
        raise _not_json(job, f"expected a mapping, got {type(job.payload).__name__}")
    try:
        text = _encode(dict(job.payload))
        size = len(text.encode())
    except RecursionError:
        raise _not_json(job, "it is nested too deeply, or contains itself") from None
    except (TypeError, ValueError) as error:
        raise _not_json(job, str(error)) from error
    if size > MAXIMUM_PAYLOAD_BYTES:
        raise InvalidInput(
            f"The payload of a {job.kind!r} job has {size:,} bytes; the most is {MAXIMUM_PAYLOAD_BYTES:,}.",
            hint="Store the data, and put its address into the payload.",
            operation="enqueue",
        )
    if "\\u0000" in text and _NUL.search(text):
        raise InvalidInput(
            f"The payload of a {job.kind!r} job contains a NUL character, which Postgres cannot store.",
            operation="enqueue",
        )
    return text


def _not_json(job: NewJob, why: str) -> InvalidInput:
    return InvalidInput(
        f"The payload of a {job.kind!r} job is not JSON: {why}",
        hint="Use strings, numbers, booleans, None, lists and dicts; a pydantic model with model_dump.",
        operation="enqueue",
    )
