"""Settings of the ground floor: which database, how many connections, how long to wait.

Read once at the edge (the CLI, the façade, or ``Database.connect`` without arguments); inner code gets
values. The door's own settings extend this class and add ``docyard.toml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]


class DatabaseSettings(BaseSettings):
    """Values for :class:`docyard_schema.Database`; each may come from ``DOCYARD_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="DOCYARD_", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    database_url: SecretStr | None = Field(
        None, description="URL or libpq connection string of a Postgres server. None: the embedded one."
    )
    direct_database_url: SecretStr | None = Field(
        None, description="The same server without a pooler between: for LISTEN and migrations."
    )
    database_schema: str = Field(
        "docyard",
        validation_alias="DOCYARD_SCHEMA",
        description="Schema that holds all of docyard's objects.",
    )
    home: Path = Field(
        Path(".docyard"), description="Folder of the embedded database, used when there is no URL."
    )
    embedded_version: Literal[16, 18] = Field(
        18, description="Major version of the embedded Postgres for a new folder."
    )
    pooler: Literal["none", "transaction"] = Field(
        "none", description="'transaction' when a pooler in transaction mode stands between."
    )
    pool_min_size: int = Field(1, ge=0, description="Connections that are kept open.")
    pool_max_size: int = Field(10, ge=1, description="Connections at most, per process.")
    pool_acquire_seconds: Seconds = Field(30, description="Longest wait in seconds for a free connection.")
    pool_idle_seconds: Seconds = Field(600, description="Seconds until an unneeded connection is closed.")
    pool_lifetime_seconds: Seconds = Field(1800, description="Seconds until a connection is replaced.")
    pool_connect_seconds: Seconds = Field(10, description="Longest wait in seconds for a new connection.")
    pool_statement_seconds: float = Field(
        60, ge=0, description="Time limit in seconds of one statement, kept by the server; 0 is none."
    )
    pool_answer_seconds: float = Field(
        75,
        ge=0,
        description="Longest silence in seconds of a server that owes an answer; the client closes the "
        "connection then. 0 is none. Keep it above pool_statement_seconds, and raise both together.",
    )
    tls_mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = Field(
        None, description="libpq's sslmode. None: what the URL says, else libpq's own default."
    )
    tls_root_certificate: Path | None = Field(
        None, description="File of certificates that may have signed the server's (sslrootcert)."
    )
    tls_certificate: Path | None = Field(None, description="Client certificate file (sslcert).")
    tls_key: Path | None = Field(None, description="Client key file (sslkey).")
    auto_migrate: bool = Field(
        False, description="Bring a server's schema up to date at start. The embedded database always is."
    )
    migration_timeout_seconds: Seconds = Field(
        30, description="Longest wait in seconds of a schema step for its locks, in tries of one second."
    )
