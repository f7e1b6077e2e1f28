"""One child process and its pipes: how it starts, takes a call, and dies."""

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
from typing import IO, TYPE_CHECKING, TypeVar

from docyard_workers.ingest.child import LENGTH, Answer
from docyard_workers.ingest.errors import ParserCrashed, ParserMemory, ParseTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

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
import json, sys, types
arguments = json.loads(sys.argv[1])
sys.path[:] = arguments["path"]
for name in ("docyard_schema", "docyard_workers"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = arguments["packages"][name]
from docyard_workers.ingest import preparation, transfer
from docyard_workers.ingest.child import serve
serve(arguments["parent"], arguments["memory_bytes"])
"""


class ChildProcess:
    """A process that answers one call at a time; ``memory_bytes`` caps its address space, ``None`` does not.

    ``calls`` counts those it was given.
    """

    def __init__(self, memory_bytes: int | None) -> None:
        self.calls = 0
        self._memory_bytes = memory_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._messages: IO[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether it was started and is not known to have ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts it and waits until it is ready. Raises ``ParserCrashed`` with the reason it is not."""
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-c", _BOOT, _boot_arguments(self._memory_bytes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._messages,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _FRUGAL,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's business
                limit=_BUFFER,
            )
        except OSError as error:
            raise ParserCrashed(
                f"no child process could be started: {error}", operation="ingest.parse"
            ) from error
        await self._within(_START_SECONDS, self._receive())

    async def call(self, request: bytes, seconds: float) -> Answer:
        """The answer to a pickled call. Raises ``ParseTimeout``, ``ParserMemory`` or ``ParserCrashed``.

        After any of them, or a cancellation, the process is of no use: kill it.
        """
        self.calls += 1
        return await self._within(seconds, self._exchange(request))

    def signal(self) -> None:
        """Kills it and what it started, at once; it leads a process group of its own."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(_started(self._process).pid, signal.SIGKILL)

    async def kill(self) -> None:
        """Ends it and waits until it is gone; no call may be waiting for its answer."""
        self.signal()
        if self._process is not None:
            _started(self._process.stdin).close()
            await _started(self._process.stdout).read()  # to its end, or the pipe would stay open
            await self._process.wait()
        if self._messages is not None:
            self._messages.close()

    async def _exchange(self, request: bytes) -> Answer:
        stdin = _started(_started(self._process).stdin)
        stdin.write(LENGTH.pack(len(request)))
        view = memoryview(request)
        for start in range(0, len(view), _BUFFER):
            stdin.write(view[start : start + _BUFFER])
            await stdin.drain()
        return await self._receive()

    async def _receive(self) -> Answer:
        stdout = _started(_started(self._process).stdout)
        (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
        body = await stdout.readexactly(length)
        if length > _BUFFER:  # loading 100 MB takes a moment that others' heartbeats should not wait
            return await asyncio.to_thread(_load, body)
        return _load(body)

    async def _within(self, seconds: float, work: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return await work
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
                await _started(self._process).wait()
        if _started(self._process).returncode is None:
            _started(self._process).kill()
        code = await _started(self._process).wait()
        messages = _started(self._messages)
        messages.seek(0)
        said = messages.read(65_536)
        if _OUT_OF_MEMORY.search(said):
            return memory_error(self._memory_bytes)
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ParserCrashed(
            f"the child process died: {cause}",
            hint="A crash of the parser, or the kernel's memory killer." if self.calls else _last_line(said),
            operation="ingest.parse",
            exit_code=code,
        )


def _started(thing: T | None) -> T:
    """What a started child has."""
    if thing is None:
        raise RuntimeError("the child process has ended")
    return thing


def _last_line(said: bytes) -> str:
    """Why a child did not start; once it has seen a document its messages may quote it, and are not shown."""
    return said.decode("utf-8", "replace").strip().rpartition("\n")[2]


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


def memory_error(memory_bytes: int | None) -> ParserMemory:
    """What is raised when a call needed more than its child may take."""
    cap = "what the host has" if memory_bytes is None else f"the {memory_bytes >> 20} MiB it may take"
    return ParserMemory(f"the document needs more memory than {cap}", operation="ingest.parse")
