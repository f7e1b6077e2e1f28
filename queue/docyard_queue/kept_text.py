"""What is kept of an attempt, in a form that Postgres always takes: a finish must not fail for it."""

from __future__ import annotations

import json
from typing import Any, Literal

MAXIMUM_NAME = 200
MAXIMUM_MESSAGE = 2_000
MAXIMUM_TRACEBACK = 20_000
MAXIMUM_RESULT = 1024 * 1024


def encode_result(result: Any) -> str | None:
    """A handler's result as JSON text; None stays None. Of what is not JSON its ``repr`` is kept."""
    if result is None:
        return None
    try:
        text = json.dumps(result, allow_nan=False)
        # jsonb refuses NUL and halves of a surrogate pair, which json writes as escapes.
        if "\\u0000" in text or "\\ud" in text:
            text = json.dumps(_cleaned(json.loads(text)))
    except Exception:  # noqa: BLE001 - a value may raise whatever it likes
        return json.dumps(_repr(result))
    return text if len(text) <= MAXIMUM_RESULT else json.dumps(_repr(result))


def clean(text: str, limit: int, *, keep: Literal["start", "end"] = "start") -> str:
    """Text that Postgres takes and a page can show: no NUL, no lone surrogates, at most ``limit`` long."""
    if len(text) > limit:
        text = text[: limit - 1] + "…" if keep == "start" else "…" + text[len(text) - limit + 1 :]
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def _repr(value: Any) -> str:
    try:
        return clean(repr(value), MAXIMUM_MESSAGE)
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(value).__qualname__}, whose repr raised {type(error).__name__}>"


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, len(value) + 1)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return value
