"""Identifiers made in Python, so that a caller knows them before the database does."""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0


def new_id() -> uuid.UUID:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then order, then chance.

    The 12 bits after the version and 14 more below count up within one millisecond of one process,
    so ids made one after another also sort that way and land side by side in an index.
    """
    global _last
    with _lock:
        now = time.time_ns() // 1_000_000 << 26
        _last = max(now, _last + 1)
        stamp = _last
    milliseconds, counter = stamp >> 26, stamp & 0x3FFFFFF
    value = milliseconds << 80
    value |= 0x7 << 76 | (counter >> 14) << 64
    value |= 0b10 << 62 | (counter & 0x3FFF) << 48
    value |= int.from_bytes(os.urandom(6), "big")
    return uuid.UUID(int=value)
