"""What the driver of every system is asked, and how it answers::

    python DRIVER VERB URL '{"count": 1000}'

The verbs: ``prepare``, ``enqueue_single``, ``enqueue_transaction``, ``enqueue_bulk``, ``enqueue_slowly``,
``work``. A verb answers with a line of JSON on standard output; ``work`` says when it is ready, waits for a
line on standard input, says when its first handler starts (with ``trace``: when each does), and is killed.

Times are of the monotonic clock, which on Linux all processes share. Standard library and uvloop only: this
module runs in every system's own environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def answer_command_line(*verbs: Callable[..., Awaitable[dict[str, Any] | None]]) -> None:
    """Run the verb that the command line names, in uvloop, and print what it gives."""
    known = {verb.__name__: verb for verb in verbs}
    name, url, options = sys.argv[1:]

    async def ask() -> dict[str, Any] | None:
        return await known[name](url, **json.loads(options))

    answer = uvloop.run(ask())
    if answer is not None:
        say(**answer)


def say(**answer: Any) -> None:
    """Print one line for the benchmark."""
    print(json.dumps(answer), flush=True)


async def wait_for_go() -> None:
    """Say that everything before the first claim is done, and wait until the others are there too."""
    say(ready=True)
    await asyncio.to_thread(sys.stdin.readline)


def start_recorder(*, trace: bool) -> Callable[[int], None]:
    """What a handler calls first, with its job's number."""

    def tell(number: int) -> None:
        at = time.monotonic()
        say(number=number, at=at)

    if trace:
        return tell
    running = False

    def tell_first(number: int) -> None:
        nonlocal running
        if not running:
            running = True
            tell(number)

    return tell_first


async def enqueue_with_pauses(
    enqueue: Callable[[int], Awaitable[Any]], *, count: int, pause_seconds: float
) -> dict[str, list[float]]:
    """When each of ``count`` single enqueues had committed."""
    committed = []
    for number in range(count):
        await asyncio.sleep(pause_seconds)
        await enqueue(number)
        committed.append(time.monotonic())
    return {"committed": committed}
