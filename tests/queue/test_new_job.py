"""What no job can have is refused before anything is sent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from docyard_queue import NewJob
from docyard_queue.payload import MAXIMUM_PAYLOAD_BYTES, encode_payload
from docyard_schema.errors import InvalidInput

DEEP: dict[str, Any] = {}
for _ in range(100_000):
    DEEP = {"d": DEEP}
ROUND: dict[str, Any] = {}
ROUND["itself"] = ROUND


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": ""}, "kind is text, not empty"),
        ({"kind": "k" * 129}, "1 to 128 characters"),
        ({"kind": "a\x00b"}, "without NUL"),
        ({"queue": ""}, "queue is text, not empty"),
        ({"queue": "q" * 41}, "1 to 40 bytes"),
        ({"queue": "ü" * 21}, "1 to 40 bytes"),
        ({"queue": "half \ud800"}, "half characters"),
        ({"run_at": datetime(2026, 1, 1)}, "must name its time zone"),  # noqa: DTZ001
        ({"max_attempts": 0}, "max_attempts is at least 1"),
        ({"timeout": timedelta(0)}, "longer than zero"),
        ({"priority": 2**31}, "32-bit"),
        ({"unique_key": ""}, "unique_key is text"),
        ({"lock_key": "l" * 1025}, "lock_key has 1 to 1,024 bytes, got 1,025"),
        ({"unique_key": "a\x00"}, "without NUL"),
    ],
)
def test_a_job_that_cannot_be_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        NewJob(**{"kind": "work"} | options)


def test_a_queues_name_may_have_forty_bytes_of_any_letters() -> None:
    assert len(NewJob("work", queue="ü" * 20).queue.encode()) == 40


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ({"x": object()}, "not JSON: Object of type object"),
        ({"x": float("nan")}, "not JSON"),
        ({"x": b"bytes"}, "not JSON"),
        ({("a", "b"): 1}, "not JSON"),
        (["a", "list"], "expected a mapping, got list"),
        (DEEP, "nested too deeply"),
        (ROUND, "not JSON"),
        ({"x": "half \udc80"}, "not JSON: .*surrogates not allowed"),
        ({"x": "a\x00b"}, "NUL character"),
        ({"a\x00": 1}, "NUL character"),
        ({"x": "y" * MAXIMUM_PAYLOAD_BYTES}, r"has 1,048,584 bytes; the most is 1,048,576"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_payload_that_cannot_be_kept_is_refused(payload: Any, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        encode_payload(NewJob("work", payload))


def test_a_payload_of_exactly_one_mebibyte_is_kept() -> None:
    text = encode_payload(NewJob("work", {"x": "y" * (MAXIMUM_PAYLOAD_BYTES - 8)}))
    assert len(text) == MAXIMUM_PAYLOAD_BYTES


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "a\\", "\\\x01u0000"])
def test_a_backslash_is_not_taken_for_a_nul(text: str) -> None:
    assert encode_payload(NewJob("work", {"x": text}))
