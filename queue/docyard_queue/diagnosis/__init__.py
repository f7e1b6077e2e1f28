"""``docyard doctor``: one look at all that is known to go wrong, each check a small function."""

from docyard_queue.diagnosis.examination import TRANSACTION_SECONDS, examine, unreachable
from docyard_queue.diagnosis.finding import Finding, Level

__all__ = ["TRANSACTION_SECONDS", "Finding", "Level", "examine", "unreachable"]
