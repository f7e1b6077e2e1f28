"""What a test expects of a job, and in what a job differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard.testing.listing import EnqueuedJob

# A test that computes a time and the code that does so again do not meet within the same millisecond.
CLOSE_ENOUGH = timedelta(seconds=1)

_COMPARED = ("queue", "priority", "unique_key", "lock_key", "partition_key", "batch_id")


@dataclass(frozen=True, slots=True)
class Expectation:
    """A kind, what its payload has at least, and columns; ``columns`` that are absent may be anything."""

    kind: str
    payload: Mapping[str, Any]
    columns: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, payload: Mapping[str, Any] | BaseModel | None, **columns: Any) -> Expectation:
        """Read a test's arguments; a column of None is any."""
        if isinstance(payload, BaseModel):
            payload = payload.model_dump(mode="json")
        given = {name: value for name, value in columns.items() if value is not None}
        return cls(kind, payload or {}, given)

    def differences(self, job: EnqueuedJob) -> list[str]:
        """In what a job is not as expected, in words; empty when it is."""
        found = [] if job.kind == self.kind else [f"kind is {job.kind!r}"]
        found += _payload_differences(self.payload, job.payload, "payload")
        for name in _COMPARED:
            if name in self.columns and self.columns[name] != getattr(job, name):
                found.append(f"{name} is {getattr(job, name)!r}")
        return found + self._wrong_time(job)

    def _wrong_time(self, job: EnqueuedJob) -> list[str]:
        wanted: datetime | timedelta | None = self.columns.get("run_at")
        if wanted is None:
            return []
        moment = job.created_at + wanted if isinstance(wanted, timedelta) else wanted
        off = job.run_at - moment
        if abs(off) <= CLOSE_ENOUGH:
            return []
        late = "later" if off > timedelta(0) else "earlier"
        return [f"run_at is {_shown(job.run_at)}, {abs(off)} {late}"]

    def __str__(self) -> str:
        parts = [f"a {self.kind!r} job"]
        if self.payload:
            parts.append(f"with {dict(self.payload)!r} in its payload")
        shown = {
            name: f"{value} after its enqueue" if isinstance(value, timedelta) else _shown(value)
            for name, value in self.columns.items()
        }
        if shown:
            parts.append("and " * bool(self.payload) + ", ".join(f"{name} {shown[name]}" for name in shown))
        return " ".join(parts)


def _payload_differences(expected: Any, found: Any, path: str) -> Iterator[str]:
    """A mapping has at least what is expected of it; everything else is equal, or a matcher that says so."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key, value in expected.items():
            if key in found:
                yield from _payload_differences(value, found[key], f"{path}[{key!r}]")
            else:
                yield f"{path} has no {key!r}"
    elif expected != found:
        yield f"{path} is {found!r}, not {expected!r}"


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")
    return repr(value)
