"""Where docyard's objects live in a database, and how its SQL is made to say so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from docyard_schema.errors import ConfigError

# Names that begin with pg_ are the server's own; 47 leaves room for what is appended to them.
_VALID = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,46}")
# Not docyard.now: a parameter that moves the clock in tests, called so whatever the schema is called.
_OURS = re.compile(r"\bdocyard\.(?!now\b)")
_VECTORS = re.compile(r"\bpgvector\.")


@dataclass(frozen=True, slots=True)
class Namespace:
    """Two schema names: docyard's own, and the one that holds the pgvector extension.

    SQL files are written as if they were ``docyard`` and ``pgvector``; :meth:`sql` puts the real
    names in. So every statement is qualified, operators included, and runs under any search path
    (FAULTS: a transaction pooler gives no session to set one in).
    """

    schema: str = "docyard"
    vectors: str = "public"
    _prefixes: tuple[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _VALID.fullmatch(self.schema):
            raise ConfigError(
                f"The schema name {self.schema!r} cannot be used: expected a lower-case letter or '_' "
                "first, then letters, digits or '_', at most 47 in all, and no 'pg_' in front.",
                hint="Set DOCYARD_SCHEMA to such a name, for example 'docyard'.",
            )
        object.__setattr__(self, "_prefixes", (_quoted(self.schema), _quoted(self.vectors)))

    def sql(self, text: str) -> bytes:
        """The statement with real schema names, as bytes that psycopg sends unchanged."""
        return _qualify(text, *self._prefixes)


def _quoted(schema: str) -> str:
    # Always: 'order' and 'user' are schema names too.
    return '"' + schema.replace('"', '""') + '".'


@lru_cache(maxsize=2048)
def _qualify(text: str, ours: str, vectors: str) -> bytes:
    # Functions as replacements: a schema name must never be read as a regex template.
    return _VECTORS.sub(lambda _: vectors, _OURS.sub(lambda _: ours, text)).encode()
