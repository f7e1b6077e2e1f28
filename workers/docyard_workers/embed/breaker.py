"""A circuit breaker that one bad text cannot open.

It opens when requests without a common text fail one after the other: then it is the provider. One request
that fails again and again, or what it was halved into, counts once.
"""

from __future__ import annotations

import time

# So many different requests, none of which succeeded.
_ENOUGH = 3
_SHORTEST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0


class Breaker:
    """Says whether the provider is out of order, and for how long to leave it alone."""

    def __init__(self) -> None:
        self._failing: set[object] = set()
        self._opened = 0
        self._opened_at = self._succeeded_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether the provider, and not what it was sent, is at fault."""
        # Once open, the first failure after the pause opens it again.
        return len(self._failing) >= _ENOUGH or (self._opened > 0 and len(self._failing) > 0)

    def succeeded(self) -> None:
        """A request was answered, or refused for its texts: the provider works."""
        self._failing.clear()
        self._opened = 0
        self._succeeded_at = time.monotonic()

    def failed(self, root: object, sent_at: float) -> None:
        """A request of the group ``root`` failed by no fault of its texts that could be seen.

        One that was on its way already when the breaker opened says nothing new. ``sent_at`` is a moment of
        :func:`time.monotonic`.
        """
        if sent_at > self._opened_at:
            self._failing.add(root)

    def open(self) -> float:
        """The seconds to leave the provider alone now; twice as many each time, up to a minute."""
        seconds = min(_SHORTEST_SECONDS * 2.0**self._opened, _LONGEST_SECONDS)
        self._opened = min(self._opened + 1, 16)
        self._opened_at = time.monotonic()
        self._failing.clear()
        return seconds

    def worked_since(self, moment: float) -> bool:
        """Whether any request succeeded after this moment of :func:`time.monotonic`."""
        return self._succeeded_at > moment
