"""The errors of docyard's ground floor.

Every error of docyard is a :class:`DocyardError`::

    DocyardError
    ├── ConfigError              a setting is unknown, malformed or contradicts another
    ├── InvalidInput             a caller's argument cannot be used
    ├── NotFound                 what was named does not exist
    ├── Conflict                 someone else was first
    ├── ModelMismatch            vectors of two embedding models would mix
    ├── VerificationError        stored bytes do not match their hash or signature
    └── DatabaseError            Postgres said no, or nothing
        ├── DatabaseUnavailable  no connection: nobody answers there, or not now
        │   └── ConnectionRejected   and none will be had as asked: wrong password, no such database
        ├── PoolExhausted        no free connection within the acquire time
        ├── ExtensionMissing     pgvector is absent, too old, or may not be created
        ├── SchemaMismatch       the schema is older or newer than this code
        ├── EmbeddedError        the embedded server could not be prepared or started
        └── MigrationError       a schema step was edited, is missing, or failed

The queue adds its own branch in :mod:`docyard_queue.errors`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DocyardError(Exception):
    """The root: a stable ``code``, whether trying again can help, what was being done, and a way out.

    ``message`` says what was expected and what came; ``hint`` says what to do, or is empty.
    Errors pickle, so they travel from child processes whole.
    """

    code: ClassVar[str] = "docyard"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", operation: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.operation = operation
        self.details = details

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__))


def _rebuild(kind: type[DocyardError], message: str, state: dict[str, Any]) -> DocyardError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class ConfigError(DocyardError):
    """A setting is unknown, malformed or contradicts another."""

    code = "config"


class InvalidInput(DocyardError):
    """A caller's argument cannot be used."""

    code = "invalid_input"


class NotFound(DocyardError):
    """What was named does not exist."""

    code = "not_found"


class Conflict(DocyardError):
    """Someone else was first: read again, then decide."""

    code = "conflict"
    retryable = True


class ModelMismatch(DocyardError):
    """Vectors of two embedding models would mix."""

    code = "model_mismatch"


class VerificationError(DocyardError):
    """Stored bytes do not match their hash or signature."""

    code = "verification"


class DatabaseError(DocyardError):
    """Postgres said no; ``details["reason"]`` holds its words."""

    code = "database"


class DatabaseUnavailable(DatabaseError):
    """There is no connection to be had: nobody answers there, or not now."""

    code = "database_unavailable"
    retryable = True


class ConnectionRejected(DatabaseUnavailable):
    """Waiting will not help: wrong password, no such database or user, no TLS where it is demanded."""

    code = "connection_rejected"
    retryable = False


class PoolExhausted(DatabaseError):
    """No connection became free within the acquire time."""

    code = "pool_exhausted"
    retryable = True


class ExtensionMissing(DatabaseError):
    """pgvector is absent, too old, or this role may not create it."""

    code = "extension_missing"


class SchemaMismatch(DatabaseError):
    """The database's schema is older or newer than this code."""

    code = "schema_mismatch"


class EmbeddedError(DatabaseError):
    """The embedded Postgres could not be prepared or started."""

    code = "embedded"


class MigrationError(DatabaseError):
    """A schema step was edited after it was applied, is missing, or failed."""

    code = "migration"
