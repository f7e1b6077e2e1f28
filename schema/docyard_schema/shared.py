"""One database for everything in a process that does not bring its own."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TypeAlias

from docyard_schema.database import Database
from docyard_schema.settings import DatabaseSettings


@dataclass(slots=True)
class _Place:
    """Where one database is, or is being opened: those who come meanwhile wait for it."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    database: Database | None = None


# Held by the loop itself: an id() is given again after the loop is gone. The process is told apart for a
# fork, whose child must not use its parent's connections.
_Key: TypeAlias = tuple[int, asyncio.AbstractEventLoop, str]
_places: dict[_Key, _Place] = {}


async def shared_database(url: str | None = None) -> Database:
    """One initialized :class:`Database` per process, URL and event loop, opened at first use.

    Whoever calls it first decides the settings (the environment's); closing it is left to the end of
    the process, or to :meth:`Database.close`, after which the next call opens a new one.
    """
    for key in [key for key in _places if key[1].is_closed()]:
        del _places[key]
    settings = DatabaseSettings()
    if url is None and settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    where = url or f"embedded in {settings.home.resolve()}"
    place = _places.setdefault((os.getpid(), asyncio.get_running_loop(), where), _Place())
    async with place.opening:
        if place.database is None or place.database.pool.closed:
            place.database = await _open(url, settings)
        return place.database


async def _open(url: str | None, settings: DatabaseSettings) -> Database:
    database = await Database.connect(url, settings=settings)
    try:
        return await database.initialize()
    except BaseException:
        await database.close()
        raise
