"""All settings, read once at the edge: defaults, then ``docyard.toml``, then ``DOCYARD_*``.

In the file a table's name stands before its keys: ``[pool] max_size = 20`` is ``DOCYARD_POOL_MAX_SIZE=20``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from datetime import timedelta
from decimal import Decimal  # noqa: TC003 - a field's type
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from docyard_schema.connection_string import mask_password
from docyard_schema.errors import ConfigError
from docyard_schema.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard_workers.pipeline import PipelineOptions
    from docyard_workers.process import WorkerOptions

FILE = "docyard.toml"
PREFIX = "DOCYARD_"


class Settings(DatabaseSettings):
    """Every setting of docyard; the ground floor's are inherited."""

    model_config = SettingsConfigDict(extra="forbid")

    embedding_provider: Literal["openai", "wordllama"] | None = Field(
        None,
        description="Who makes the vectors. None: openai when OPENAI_API_KEY or OPENAI_BASE_URL is set, "
        "else wordllama, which needs neither key nor network.",
    )
    embedding_model: str | None = Field(None, description="The provider's model. None: its default.")
    embedding_dimension: int | None = Field(
        None, ge=1, le=4000, description="Numbers per vector. None: the model's own."
    )
    embedding_base_url: str | None = Field(
        None, description="Address of an OpenAI-compatible server. None: OPENAI_BASE_URL, else OpenAI's."
    )
    embedding_api_key: SecretStr | None = Field(None, description="Its key. None: OPENAI_API_KEY.")
    embedding_api_keys: SecretStr | None = Field(
        None,
        description="Keys of other servers, for models registered there: 'HOST=KEY, HOST=KEY'.",
    )
    embedding_timeout_seconds: float = Field(30, gt=0, description="Time limit of one request in seconds.")
    embedding_price_per_million_tokens: Decimal | None = Field(
        None, ge=0, description="Price in US dollars. None: the known models' own."
    )
    embedding_max_texts_per_request: int | None = Field(
        None, ge=1, description="Most texts of one request. None: 2,048."
    )
    embedding_max_tokens_per_request: int | None = Field(
        None, ge=1, description="Most tokens of one request. None: 300,000."
    )
    embedding_max_tokens_per_text: int | None = Field(
        None, ge=1, description="Most tokens of one text. None: 8,192."
    )
    embedding_parallel_requests: int | None = Field(
        None, ge=1, description="Requests that one worker process sends at once. None: 4."
    )
    embedding_longest_wait_seconds: float = Field(
        5, ge=0, description="How long a text waits at most for others to fill its request."
    )
    embedding_daily_ceiling: Decimal | None = Field(
        None,
        ge=0,
        description="Most US dollars that all vectors of a day (UTC) may cost; then jobs wait for midnight. "
        "None: no ceiling.",
    )
    vector_index_m: int = Field(
        16, ge=2, le=100, description="Neighbours that a vector has in each layer of an HNSW index (m)."
    )
    vector_index_ef_construction: int = Field(
        64,
        ge=4,
        le=1000,
        description="Candidates that are looked at for each vector when the index is built; at least twice "
        "vector_index_m.",
    )
    chunk_size: int = Field(1200, ge=16, description="Most characters of a chunk.")
    chunk_overlap: int = Field(0, ge=0, description="Most characters that neighbouring chunks share.")
    ingest_max_bytes: int = Field(100 * 1024 * 1024, gt=0, description="Largest source in bytes.")
    parser_processes: int | None = Field(
        None, ge=1, description="Parser processes per worker process. None: one per core."
    )
    parser_timeout_seconds: float = Field(60, gt=0, description="Time limit for parsing one source.")
    worker_concurrency: int = Field(16, ge=1, description="Jobs that one worker process runs at once.")
    heartbeat_seconds: float = Field(
        5, gt=0, description="Seconds between heartbeats; after three missed ones a worker is taken for dead."
    )
    shutdown_seconds: float = Field(
        30, ge=0, description="How long a stop waits for running jobs before it gives them back."
    )
    poll_seconds: float = Field(
        5, gt=0, description="Longest sleep of an idle worker without a notification."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Form of log lines. 'auto': console on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what :func:`load_settings` gathered: it has merged file and environment already."""
        return (init_settings,)

    def pipeline_options(self) -> PipelineOptions:
        """The values that the pipeline takes."""
        from docyard_schema.embeddings import IndexOptions
        from docyard_workers.embed.providers import EmbeddingConfig
        from docyard_workers.ingest.preparation import ChunkOptions
        from docyard_workers.pipeline import PipelineOptions

        return PipelineOptions(
            embedding=EmbeddingConfig(
                provider=self.embedding_provider,
                model=self.embedding_model,
                dimension=self.embedding_dimension,
                base_url=self.embedding_base_url,
                api_key=self.embedding_api_key.get_secret_value() if self.embedding_api_key else None,
                api_keys=_keys_by_host(self.embedding_api_keys),
                timeout=timedelta(seconds=self.embedding_timeout_seconds),
                price_per_million_tokens=self.embedding_price_per_million_tokens,
                max_texts_per_request=self.embedding_max_texts_per_request,
                max_tokens_per_request=self.embedding_max_tokens_per_request,
                max_tokens_per_text=self.embedding_max_tokens_per_text,
                parallel_requests=self.embedding_parallel_requests,
            ),
            longest_wait=timedelta(seconds=self.embedding_longest_wait_seconds),
            chunking=ChunkOptions(size=self.chunk_size, overlap=self.chunk_overlap),
            daily_ceiling=self.embedding_daily_ceiling,
            max_bytes=self.ingest_max_bytes,
            parser_processes=self.parser_processes,
            parser_deadline=timedelta(seconds=self.parser_timeout_seconds),
            index=IndexOptions(m=self.vector_index_m, ef_construction=self.vector_index_ef_construction),
        )

    def worker_options(self, **changes: Any) -> WorkerOptions:
        """The values that a worker takes; ``changes`` are a command's own."""
        from docyard_workers.process import WorkerOptions

        values: dict[str, Any] = {
            "concurrency": self.worker_concurrency,
            "heartbeat_seconds": self.heartbeat_seconds,
            "shutdown_seconds": self.shutdown_seconds,
            "poll_seconds": self.poll_seconds,
        }
        return WorkerOptions(
            **(values | {name: value for name, value in changes.items() if value is not None})
        )


def load_settings(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Settings:
    """The settings in force. ``file`` of None is ``docyard.toml`` in the current folder, if it is there.

    ``overrides`` are a command line's and win. Raises :class:`ConfigError` naming the setting, where it
    came from, what was expected and what came.
    """
    return settings_and_origins(file=file, environment=environment, **overrides)[0]


def settings_and_origins(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **overrides: Any,
) -> tuple[Settings, dict[str, str]]:
    """As :func:`load_settings`, and where each came from that is not its default: name → origin."""
    environment = os.environ if environment is None else environment
    path = file if file is not None else Path(FILE)
    found: dict[str, tuple[Any, str]] = {}
    for name, value in _read_file(path, required=file is not None).items():
        found[name] = (value, str(path))
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and value != "":
            found[variable.removeprefix(PREFIX).lower()] = (value, variable)
    found |= {name: (value, "the command line") for name, value in overrides.items() if value is not None}
    _refuse_unknown(found)
    try:
        settings = Settings(**{_field_of(name): value for name, (value, _) in found.items()})
    except ValidationError as error:
        raise _unusable(error, found) from None
    return settings, {name: origin for name, (_, origin) in found.items()}


def setting_names() -> dict[str, str]:
    """Each setting's name, as it stands after ``DOCYARD_``, in lower case, with its field's name."""
    return {_name_of(field): field for field in Settings.model_fields}


def masked(value: Any) -> Any:
    """A setting's value, fit to be shown: a URL without its password, of another secret nothing."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return mask_password(secret) if "://" in secret or "dbname=" in secret else "***"
    return mask_password(value) if isinstance(value, str) else value


def _keys_by_host(keys: SecretStr | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in (keys.get_secret_value() if keys else "").replace("\n", ",").split(","):
        host, equals, key = (part.strip() for part in pair.partition("="))
        if host and equals and key:
            found[host.lower()] = key
        elif pair.strip():
            raise ConfigError(
                "embedding_api_keys: expected HOST=KEY, HOST=KEY; got something else.",
                hint="For example DOCYARD_EMBEDDING_API_KEYS='api.openai.com=sk-…'",
            )
    return found


def _name_of(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return str(alias).removeprefix(PREFIX).lower() if alias else field


def _field_of(name: str) -> str:
    return setting_names()[name]


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise ConfigError(
                f"The settings file {path} does not exist.", hint="Check --config, or leave it out."
            ) from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The settings file {path} cannot be read: {error}", hint="Expected TOML, one setting a line."
        ) from error
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _refuse_unknown(found: Mapping[str, tuple[Any, str]]) -> None:
    known = setting_names()
    for name, (_, origin) in found.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            shown = origin if origin.startswith(PREFIX) else f"{name} (in {origin})"
            raise ConfigError(
                f"Unknown setting: {shown}.",
                hint=(f"Did you mean {PREFIX}{near[0].upper()}? " if near else "")
                + "All settings: docyard config show",
            )


def _unusable(error: ValidationError, found: Mapping[str, tuple[Any, str]]) -> ConfigError:
    problems = []
    for problem in error.errors(include_url=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        name = _name_of(field) if field in Settings.model_fields else field.removeprefix(PREFIX).lower()
        value, origin = found.get(name, (None, "default"))
        secret = any(word in name for word in ("url", "key", "password"))
        shown = "" if secret else f", got {value!r}"
        problems.append(f"{name} (from {origin}): {problem['msg']}{shown}")
    return ConfigError(
        f"Unusable settings: {'; '.join(problems)}",
        hint="All settings and their meaning: docyard config show",
    )
