"""The schema as numbered, reversible SQL steps: read, applied, rolled back, compared."""

from docyard_schema.migrations.drift import find_drift, snapshot
from docyard_schema.migrations.event_rows import event_rows_are_written, write_event_rows
from docyard_schema.migrations.extension import check_vectors, ensure_vectors, find_vectors
from docyard_schema.migrations.ledger import MigrationStatus, check_version, migration_status
from docyard_schema.migrations.runner import migrate, rollback
from docyard_schema.migrations.steps_on_disk import Step, load_steps

__all__ = [
    "MigrationStatus",
    "Step",
    "check_vectors",
    "check_version",
    "ensure_vectors",
    "event_rows_are_written",
    "find_drift",
    "find_vectors",
    "load_steps",
    "migrate",
    "migration_status",
    "rollback",
    "snapshot",
    "write_event_rows",
]
