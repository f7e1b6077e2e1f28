"""The embedded server, as its users see it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import psycopg

from docyard_schema.errors import EmbeddedError

if sys.platform != "win32":
    from docyard_schema.embedded.binaries import find_binaries
    from docyard_schema.embedded.cluster import Cluster
    from docyard_schema.embedded.home import WAYS_OUT, Home
    from docyard_schema.embedded.sharing import Share

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class EmbeddedServer:
    """One use of the PostgreSQL server of a home folder, which all its users share.

    Made by :meth:`acquire`, ended by :meth:`release` or a ``with`` block; the last of all users, in this
    process and in others, stops the server. A process that dies without releasing counts as gone.
    A forked child does not use the server until it acquires it itself.
    """

    def __init__(self, cluster: Cluster, share: Share) -> None:
        self._cluster = cluster
        self._share = share
        self._mutex = threading.Lock()
        self._process: int | None = os.getpid()
        self.data_directory = cluster.home.data_directory
        self.version = cluster.version()
        self.conninfo = cluster.conninfo("docyard")

    @classmethod
    def acquire(cls, home: Path, *, major: int = 18, settings: Mapping[str, str] | None = None) -> Self:
        """The running server of ``home``, started, and its folder made, when it is not there yet.

        Blocks: about 0.8 s the first time, 0.2 s to start, 10 ms to join. ``major`` counts for a new
        data directory only, ``settings`` (PostgreSQL's names and values) when this call starts the server.
        Asking again after a crash of the server starts it anew at the same address.
        Raises :class:`EmbeddedError` when there is no way; its hint names one.
        """
        if sys.platform == "win32":
            raise EmbeddedError(
                "The embedded Postgres needs Linux or macOS.",
                hint="Set DOCYARD_DATABASE_URL to a Postgres server, or run under WSL.",
                operation="embedded.acquire",
            )
        place = Home.at(home)
        cluster = Cluster(place, major, settings or {})
        find_binaries()  # before anything is made
        try:
            place.prepare()
            share = Share.of(place)
            share.join(cluster)
        except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
            raise EmbeddedError(
                f"The embedded Postgres of {place.path} cannot be used: {error}",
                hint=WAYS_OUT,
                operation="embedded.acquire",
                reason=str(error),
            ) from error
        return cls(cluster, share)

    def conninfo_for(self, database: str) -> str:
        """How psycopg reaches another database of this server; it need not exist yet."""
        return psycopg.conninfo.make_conninfo(self.conninfo, dbname=database)

    def release(self) -> None:
        """Ends this use; a second call, or one in a forked child, does nothing."""
        with self._mutex:
            process, self._process = self._process, None
        if process == os.getpid():
            self._share.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
