"""Runs parsers in child processes with a deadline and a memory cap, so that a document can only harm itself.

Each child has its own pair of pipes, so a death is always the death of a known call, and none can leave a
shared lock or half a message behind. Children are started by ``exec``, never ``fork`` (the parent has
threads and connections), and, unlike ``multiprocessing``'s, do not import the parent's ``__main__``: a script
without an ``if __name__ == "__main__"`` works, and a child is ready in a tenth of a second.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from docyard_schema.errors import InvalidInput
from docyard_workers.ingest.child_process import ChildProcess, memory_error
from docyard_workers.ingest.errors import IngestError, ParseFailed, PoolClosed
from docyard_workers.ingest.preparation import ChunkOptions, ParsedAndChunked
from docyard_workers.ingest.transfer import Packed, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from docyard_workers.ingest.child import Answer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEADLINE = timedelta(seconds=60)
MEMORY_BYTES = 2 << 30


class ChildPool:
    """Up to ``processes`` children, started when first needed; ``None`` is one per core this process may use.

    A call that outlives ``deadline`` (measured from when a child takes it) or takes more than
    ``memory_bytes`` of address space (``None``: no cap) costs its child, and no other call. After
    ``max_calls`` a child makes room for a new one, so that what a parser leaks is given back. Belongs to the
    event loop it is first used in.
    """

    def __init__(
        self,
        processes: int | None = None,
        *,
        deadline: timedelta = DEADLINE,
        memory_bytes: int | None = MEMORY_BYTES,
        max_calls: int = 1000,
    ) -> None:
        self.processes = processes if processes is not None else available_cores()
        if self.processes < 1 or max_calls < 1 or deadline <= timedelta(0):
            raise InvalidInput("a pool needs at least one process, one call per process, and a deadline")
        self._deadline = deadline
        self._memory_bytes = memory_bytes
        self._max_calls = max_calls
        self._slots = asyncio.Semaphore(self.processes)
        self._idle: list[ChildProcess] = []
        self._children: set[ChildProcess] = set()
        self._closed = False

    async def __aenter__(self) -> ChildPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def parse(
        self,
        source: bytes | Path,
        media_type: str | None,
        name: str,
        options: ChunkOptions | None = None,
        *,
        deadline: timedelta | None = None,
    ) -> ParsedAndChunked:
        """Parses and chunks a document in a child; a ``media_type`` of ``None`` is found out there.

        A path is read by the child. Raises an :class:`~docyard_workers.ingest.errors.IngestError`; whatever
        else a parser raises becomes ``ParseFailed``. Cancelling it kills the child.
        """
        arguments = (source, media_type, name, options or ChunkOptions())
        answer = await self._answer(pack, arguments, deadline)
        if answer.kind == "error" and not isinstance(answer.value, IngestError | InvalidInput):
            raise ParseFailed(
                f"the parser of {name!r} failed: {_in_words(answer.value)}",
                operation="ingest.parse",
                name=name,
            ) from answer.value
        packed: Packed = self._result(answer)
        return unpack(packed)

    async def run(
        self, function: Callable[[*Ts], T], *arguments: *Ts, deadline: timedelta | None = None
    ) -> T:
        """Calls an importable function in a child and gives its result, or raises what it raised.

        Raises ``ParseTimeout``, ``ParserMemory`` or ``ParserCrashed`` when the call costs its child, and
        ``PoolClosed`` when the pool is closed.
        """
        result: T = self._result(await self._answer(function, arguments, deadline))
        return result

    async def _answer(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], deadline: timedelta | None
    ) -> Answer:
        request = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        seconds = (deadline or self._deadline).total_seconds()
        async with self._slots:
            child = await self._take()
            try:
                answer = await child.call(request, seconds)
            except BaseException:
                await self._discard(child)
                raise
            await self._give_back(child, answer)
        return answer

    def _result(self, answer: Answer) -> Any:
        if answer.kind == "memory":
            raise memory_error(self._memory_bytes)
        if answer.kind == "error":
            error = answer.value
            raise error if isinstance(error, Exception) else RuntimeError(_in_words(error))
        return answer.value

    async def close(self) -> None:
        """Ends all children, calls in flight included; a second close does nothing."""
        if self._closed:
            return
        self._closed = True
        for child in self._children:
            child.signal()
        for _ in range(self.processes):  # each call in flight sees its child die, and clears up after it
            await self._slots.acquire()
        for child in list(self._children):
            await self._discard(child)
        for _ in range(self.processes):
            self._slots.release()

    async def _take(self) -> ChildProcess:
        while not self._closed:
            if not self._idle:
                child = ChildProcess(self._memory_bytes)
                self._children.add(child)
                try:
                    await child.start()
                except BaseException:
                    await self._discard(child)
                    raise
            else:
                child = self._idle.pop()
            if child.alive and not self._closed:
                return child
            await self._discard(child)
        raise PoolClosed("the pool of child processes is closed", operation="ingest.parse")

    async def _give_back(self, child: ChildProcess, answer: Answer) -> None:
        if self._closed or child.calls >= self._max_calls or answer.kind == "memory":
            await self._discard(child)
        else:
            self._idle.append(child)

    async def _discard(self, child: ChildProcess) -> None:
        await child.kill()
        self._children.discard(child)


def available_cores() -> int:
    """How many cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:400]
