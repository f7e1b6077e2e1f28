"""What can be said about texts before they are sent.

A provider answers a single empty text with a refusal of all 2,048; seeing it here costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.errors import InvalidInput
from docyard_workers.embed.providers.protocol import TextFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_workers.embed.providers.protocol import ProviderLimits

BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Tokens of ``text`` as UTF-8 bytes / 4, rounded up, and at least 1.

    English prose has about 4.5 bytes per token in the common vocabularies, so this is a little too many; for
    numbers and code it can be too few by a third.
    """
    return max(1, -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN))


def screen(texts: Sequence[str], limits: ProviderLimits) -> tuple[list[int], int, dict[int, TextFailure]]:
    """The indices of the texts that can be sent, their estimated tokens, and why the others cannot.

    Raises ``InvalidInput`` when what can be sent is more than one request may carry.
    """
    sendable: list[int] = []
    failures: dict[int, TextFailure] = {}
    total = 0
    for index, text in enumerate(texts):
        tokens = estimate_tokens(text)
        failure = _failure(text, tokens, limits)
        if failure is not None:
            failures[index] = failure
        else:
            sendable.append(index)
            total += tokens
    if len(sendable) > limits.max_texts_per_request:
        raise InvalidInput(
            f"expected at most {limits.max_texts_per_request:,} texts in one request, got {len(sendable):,}",
            hint="Split the call: limits.max_texts_per_request says where.",
            operation="embed",
        )
    if total > limits.max_tokens_per_request:
        raise InvalidInput(
            f"expected at most {limits.max_tokens_per_request:,} tokens in one request, got about {total:,}",
            hint="Split the call: limits.max_tokens_per_request says where, count_tokens() counts.",
            operation="embed",
        )
    return sendable, total, failures


def _failure(text: str, tokens: int, limits: ProviderLimits) -> TextFailure | None:
    if not text:
        return TextFailure(code="empty", message="expected a text to embed, got an empty one")
    if tokens > limits.max_tokens_per_text:
        return TextFailure(
            code="too_long",
            message=f"expected at most {limits.max_tokens_per_text:,} tokens, got about {tokens:,}",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return TextFailure(
            code="not_unicode",
            message=f"expected text that UTF-8 can hold, got a lone surrogate at character {error.start:,}",
        )
    return None
