"""What the embedding server can be told to answer, right and wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Item = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One scripted answer: an error unless ``status`` is 200, else vectors, perhaps spoiled."""

    status: int = 200
    message: str = "The server had an error while processing your request."
    code: str | None = None
    kind: str = "server_error"
    parameter: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    spoil: Callable[[list[Item]], list[Item]] | None = None
    cut: Literal["no", "body", "connection"] = "no"
    raw: bytes | None = None

    @property
    def retry_after_seconds(self) -> float | None:
        """``None`` also when it is said as a date; milliseconds are more exact, and win."""
        headers = dict(self.headers)
        if milliseconds := headers.get("retry-after-ms"):
            return float(milliseconds) / 1000
        value = headers.get("Retry-After", "")
        return float(value) if value[:1].isdigit() else None


def ok() -> Answer:
    return Answer()


def rate_limited(retry_after: float | str | None = 2, *, milliseconds: int | None = None) -> Answer:
    """429; ``retry_after`` is seconds or an HTTP date."""
    headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
    if milliseconds is not None:
        headers += (("retry-after-ms", str(milliseconds)),)
    return Answer(
        status=429,
        message="Rate limit reached.",
        code="rate_limit_exceeded",
        kind="requests",
        headers=headers,
    )


def quota_exhausted() -> Answer:
    words = "You exceeded your current quota, please check your plan and billing details."
    return Answer(status=429, message=words, code="insufficient_quota", kind="insufficient_quota")


def failing(status: int = 500, message: str = "The server had an error.", **more: Any) -> Answer:
    return Answer(status=status, message=message, **more)


def unauthorized(message: str = "Incorrect API key provided.") -> Answer:
    return Answer(status=401, message=message, code="invalid_api_key", kind="invalid_request_error")


def slow(seconds: float) -> Answer:
    return Answer(delay=seconds)


def truncated() -> Answer:
    """Half the JSON, as if that were all of it."""
    return Answer(cut="body")


def cut_off() -> Answer:
    """Half the JSON, then the connection ends."""
    return Answer(cut="connection")


def garbage(body: bytes = b"<html>Welcome to nginx!</html>") -> Answer:
    return Answer(raw=body)


def wrong_dimension() -> Answer:
    return Answer(spoil=lambda items: [item | {"embedding": item["embedding"][:-1]} for item in items])


def too_few() -> Answer:
    return Answer(spoil=lambda items: items[:-1])


def reversed_order() -> Answer:
    """The right vectors under the right indices, last first."""
    return Answer(spoil=lambda items: items[::-1])


def same_index() -> Answer:
    return Answer(spoil=lambda items: [item | {"index": 0} for item in items])


def one_vector(number: float | None, position: int = 0) -> Answer:
    """All right but one vector, which has ``number`` everywhere: 0, NaN, infinity, or null."""
    return Answer(
        spoil=lambda items: [
            item | {"embedding": [number] * len(item["embedding"])} if item["index"] == position else item
            for item in items
        ]
    )


def invalid(message: str, *, code: str | None = None, parameter: str | None = None) -> Answer:
    return Answer(status=400, message=message, code=code, kind="invalid_request_error", parameter=parameter)
