"""The worker's side of the process that forks children: orders go out, news of their ends come back."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from docyard_queue.errors import IsolationFailed
from docyard_workers.process.isolation import messages

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_BOOT = """
import json, sys
arguments = json.loads(sys.argv[1])
sys.path[:], sys.argv[:] = arguments["path"], arguments["argv"]
from docyard_workers.process.isolation.forking import serve
serve(arguments["parent"])
"""


class Child:
    """One child process. ``ended`` gives its exit code, minus the signal's number if it was killed; None when
    the nursery died with it."""

    def __init__(
        self,
        nursery: Nursery,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ended: asyncio.Future[int | None],
    ) -> None:
        self.ended = ended
        self._nursery = nursery
        self._number = number
        self._reader = reader
        self._writer = writer

    async def send(self, message: dict[str, Any]) -> None:
        """Say something; a child that is gone does not hear it."""
        try:
            await messages.send(self._writer, message)
        except ConnectionError:
            return

    async def receive(self) -> dict[str, Any] | None:
        """What it says next; None when it has ended."""
        return await messages.receive(self._reader)

    def kill(self) -> None:
        """End it at once, and what it started."""
        if not self.ended.done():
            self._nursery.order({"kill": self._number})

    def close(self) -> None:
        """Let go of it; one that has said how its attempt ended ends by itself."""
        self._writer.close()


class Nursery:
    """Gives children, each a fresh process; its own is started when the first one is asked for."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._process: Process | None = None
        self._control: socket.socket | None = None
        self._ended: dict[int, asyncio.Future[int | None]] = {}
        self._last = 0
        self._heard = b""

    async def child(self) -> Child:
        """A new child. Raises :class:`IsolationFailed` when no process can be started."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                async with self._starting:
                    if self._control is None:
                        await self._start()
                self._last += 1
                number = self._last
                self._ended[number] = asyncio.get_running_loop().create_future()
                self.order({"fork": number}, theirs.fileno())
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
        return Child(self, number, reader, writer, self._ended[number])

    def order(self, order: dict[str, int], *handles: int) -> None:
        """Send one order, with the sockets that belong to it; one that is dying does not hear it."""
        if self._control is None:
            return
        try:
            socket.send_fds(self._control, [json.dumps(order).encode() + b"\n"], handles)
        except OSError:
            self._lost()

    async def close(self) -> None:
        """End all children and the nursery."""
        process, self._process = self._process, None
        self._lost()
        if process is not None:
            try:
                async with asyncio.timeout(2):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-c", _BOOT, _boot_arguments()),
                    stdin=theirs.fileno(),
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise IsolationFailed(f"No child process could be started: {error}") from error
        self._control, self._heard = ours, b""
        asyncio.get_running_loop().add_reader(ours, self._hear)

    def _hear(self) -> None:
        try:
            data = b"" if self._control is None else self._control.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            ended = self._ended.pop(told["ended"], None)
            if ended is not None and not ended.done():
                ended.set_result(told["code"])

    def _lost(self) -> None:
        """The nursery is gone, and its children with it; the next one asked for starts another."""
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(None)
        self._ended.clear()


def _boot_arguments() -> str:
    # "" is the current folder.
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100
    return json.dumps({"path": path, "argv": sys.argv, "parent": os.getpid()})
