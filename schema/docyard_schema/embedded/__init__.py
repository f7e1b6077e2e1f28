"""A PostgreSQL of our own, run from a wheel: one server per home folder, shared by all its processes.

Floors of this package, imports point down only::

    server       EmbeddedServer, the only public name
    sharing      who uses a home: joining, leaving, the last one stops the server
    cluster      starting the server, asking whether it answers, seeing off one that does not
    creation     making a data directory
    home  sockets  binaries  account  configuration  locks
    watchdog     a script: stops the server when its last user died
    postmaster   standard library only: is it alive, stop it

The reasons are in ``docs/design/embedded-database.md``.
"""

from docyard_schema.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
