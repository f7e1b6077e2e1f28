"""What a database's health is, in one word and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HealthStatus(StrEnum):
    """``healthy`` serves; ``degraded`` serves, but look; ``unavailable`` does not serve."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A status, the reason when it is not healthy (else empty), and how long the check took."""

    status: HealthStatus
    reason: str = ""
    milliseconds: float
