"""A TCP proxy before a Postgres that can go silent: it swallows every byte and keeps the sockets open.

So does a broken load balancer, or a firewall that forgot a connection: to both ends all looks well.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter


class SilentProxy:
    """Forwards to the server of ``url`` from a thread of its own; :attr:`url` leads through it."""

    def __init__(self, url: str) -> None:
        self._target = conninfo_to_dict(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server
        # Connections are numbered; those up to this one are silent.
        self._opened = 0
        self._silent_up_to = 0
        self._swallowed = 0
        self._deaf = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    @property
    def opened(self) -> int:
        """How many connections were made through it."""
        return self._opened

    @property
    def swallowed(self) -> int:
        """How many bytes never arrived."""
        return self._swallowed

    def silence(self) -> None:
        """From now on nothing comes through the connections that there are; new ones work."""
        self._silent_up_to = self._opened

    def deafen(self, deaf: bool = True) -> None:
        """Whether new connections are accepted and then ignored."""
        self._deaf = deaf

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result()
        port = self._server.sockets[0].getsockname()[1]
        self.url = make_conninfo("", **self._target | {"host": "127.0.0.1", "port": port})
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._opened += 1
        number = self._opened
        if self._deaf:
            self._silent_up_to = number
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, port = str(self._target["host"]), int(self._target.get("port") or 5432)
        if host.startswith("/"):
            onward = asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            onward = asyncio.open_connection(host, port)
        upstream: StreamWriter | None = None
        try:
            answers, upstream = await onward
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, upstream, number))
                both.create_task(self._pump(answers, writer, number))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    end.close()
                    with suppress(OSError):
                        await end.wait_closed()

    async def _pump(self, source: StreamReader, target: StreamWriter, number: int) -> None:
        while data := await source.read(65536):
            if number <= self._silent_up_to:
                self._swallowed += len(data)
                continue
            target.write(data)
            await target.drain()
        # One end has closed. A silent proxy does not tell the other.
        if number > self._silent_up_to:
            raise ConnectionResetError
