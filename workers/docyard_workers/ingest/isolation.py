"""Runs parsers in child processes with a deadline and a memory cap, so that a document can only harm itself.

Each child has its own pair of pipes, so a death is always the death of a known call, and none can leave a
shared lock or half a message behind. Children are started by ``exec``, never ``fork`` (the parent has
threads and connections), and, unlike ``multiprocessing``'s, do not import the parent's ``__main__``: a script
without an ``if __name__ == "__main__"`` works, and a child is ready in a tenth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import re
import signal
import sys
import tempfile
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from docyard_schema.errors import InvalidInput
from docyard_workers.ingest.child import LENGTH, Answer
from docyard_workers.ingest.errors import IngestError, ParseFailed, ParserCrashed, ParserMemory, ParseTimeout
from docyard_workers.ingest.preparation import ChunkOptions, ParsedAndChunked
from docyard_workers.ingest.transfer import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEADLINE = timedelta(seconds=60)
MEMORY_BYTES = 2 << 30
_START_SECONDS = 30
_BUFFER = 1 << 20
_OUT_OF_MEMORY = re.compile(rb"memory allocation of \d+ bytes failed|std::bad_alloc|MemoryError")
# Nothing that holds a password or a key: a child parses what strangers wrote.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)
# One thread and few malloc arenas per child: there is a child per core, and an arena takes 64 MB of the cap.
_FRUGAL = {"MALLOC_ARENA_MAX": "2"} | dict.fromkeys(
    ("RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)
# The packages themselves are entered as bare names, so that their own imports (drivers, clients) stay away.
_BOOT = """
import importlib.util, json, sys, types
arguments = json.loads(sys.argv[1])
sys.path[:] = arguments["path"]
for name in ("docyard_schema", "docyard_workers"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = arguments["packages"][name]
from docyard_workers.ingest import preparation, transfer
from docyard_workers.ingest.child import serve
serve(arguments["parent"], arguments["memory_bytes"])
"""


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
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
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
        try:
            packed = await self.run(
                pack, source, media_type, name, options or ChunkOptions(), deadline=deadline
            )
        except (IngestError, InvalidInput):
            raise
        except Exception as error:
            raise ParseFailed(
                f"the parser of {name!r} failed: {type(error).__name__}: {str(error)[:300]}",
                operation="ingest.parse",
                name=name,
            ) from error
        return unpack(packed)

    async def run(
        self, function: Callable[[*Ts], T], *arguments: *Ts, deadline: timedelta | None = None
    ) -> T:
        """Calls an importable function in a child and gives its result, or raises what it raised.

        Raises ``ParseTimeout``, ``ParserMemory`` or ``ParserCrashed`` when the call costs its child.
        """
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
        if answer.kind == "memory":
            raise _memory_error(self._memory_bytes)
        if answer.kind == "error":
            error = answer.value
            raise error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        result: T = answer.value
        return result

    async def close(self) -> None:
        """Ends all children, calls in flight included; a second close does nothing."""
        self._closed = True
        self._idle.clear()
        await asyncio.gather(*(self._discard(child) for child in list(self._children)))

    async def _take(self) -> _Child:
        while not self._closed:
            if not self._idle:
                child = _Child(self._memory_bytes)
                self._children.add(child)
                try:
                    await child.start()
                except BaseException:
                    await self._discard(child)
                    raise
                return child
            child = self._idle.pop()
            if child.alive:
                return child
            await self._discard(child)
        raise RuntimeError("the pool is closed")

    async def _give_back(self, child: _Child, answer: Answer) -> None:
        if self._closed or child.calls >= self._max_calls or answer.kind == "memory":
            await self._discard(child)
        else:
            self._idle.append(child)

    async def _discard(self, child: _Child) -> None:
        await child.kill()
        self._children.discard(child)


class _Child:
    """One child process and its pipes."""

    def __init__(self, memory_bytes: int | None) -> None:
        self.calls = 0
        self._memory_bytes = memory_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._messages: IO[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def _started(self) -> asyncio.subprocess.Process:
        return _pipe(self._process)

    async def start(self) -> None:
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            _BOOT,
            _boot_arguments(self._memory_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._messages,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _FRUGAL,
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's business
            limit=_BUFFER,
        )
        await self._within(_START_SECONDS, self._receive())

    async def call(self, request: bytes, seconds: float) -> Answer:
        self.calls += 1
        return await self._within(seconds, self._exchange(request))

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _pipe(process.stdin).close()
            await _pipe(process.stdout).read()  # to its end, or the pipe would stay open
            await process.wait()
        if self._messages is not None:
            self._messages.close()

    async def _exchange(self, request: bytes) -> Answer:
        stdin = _pipe(self._started.stdin)
        stdin.write(LENGTH.pack(len(request)))
        view = memoryview(request)
        for start in range(0, len(view), _BUFFER):
            stdin.write(view[start : start + _BUFFER])
            await stdin.drain()
        return await self._receive()

    async def _receive(self) -> Answer:
        stdout = _pipe(self._started.stdout)
        (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
        body = await stdout.readexactly(length)
        if length > _BUFFER:  # loading 100 MB takes a moment that others' heartbeats should not wait
            return await asyncio.to_thread(_load, body)
        return _load(body)

    async def _within(self, seconds: float, work: Any) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                answer: Answer = await work
                return answer
        except TimeoutError:
            raise ParseTimeout(
                f"not done within {seconds:g} seconds, and killed", operation="ingest.parse", seconds=seconds
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._obituary() from None

    async def _obituary(self) -> ParserMemory | ParserCrashed:
        # It closed its end, so it is gone or going; the signal is for one that only closed it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._started.wait()
        if self._started.returncode is None:
            self._started.kill()
        code = await self._started.wait()
        messages = _pipe(self._messages)
        messages.seek(0)
        if _OUT_OF_MEMORY.search(messages.read(65_536)):
            return _memory_error(self._memory_bytes)
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ParserCrashed(
            f"the child process died: {cause}",
            hint="A crash of the parser, or the kernel's memory killer.",
            operation="ingest.parse",
            exit_code=code,
        )


def available_cores() -> int:
    """How many cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _pipe(thing: T | None) -> T:
    """What a started child has."""
    if thing is None:
        raise RuntimeError("the child process has ended")
    return thing


def _load(body: bytes) -> Answer:
    answer: Answer = pickle.loads(body)  # noqa: S301 (written by our own child)
    return answer


def _boot_arguments(memory_bytes: int | None) -> str:
    packages = ("docyard_schema", "docyard_workers")
    return json.dumps(
        {
            "path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 ("" is the current folder)
            "packages": {name: list(sys.modules[name].__path__) for name in packages},
            "parent": os.getpid(),
            "memory_bytes": memory_bytes,
        }
    )


def _memory_error(memory_bytes: int | None) -> ParserMemory:
    cap = "what the host has" if memory_bytes is None else f"the {memory_bytes >> 20} MiB it may take"
    return ParserMemory(f"the document needs more memory than {cap}", operation="ingest.parse")
