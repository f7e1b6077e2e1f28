"""Divides what a request took among the collections whose texts it carried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.embeddings.spend import SpendPart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal


def split(
    shares: Mapping[str, float], tokens: int, cost_of: Callable[[int], Decimal | None]
) -> list[SpendPart]:
    """Whole tokens by largest remainder, so that the parts add up to exactly what was used.

    The request counts for the collection with the largest share. Without shares all is of the collection
    ``""``, which no document has.
    """
    known = {collection: max(share, 0.0) for collection, share in shares.items()}
    total = sum(known.values())
    if not total:
        known, total = dict.fromkeys(known or [""], 1.0), float(len(known) or 1)
    exact = {collection: tokens * share / total for collection, share in known.items()}
    whole = {collection: int(amount) for collection, amount in exact.items()}
    by_remainder = sorted(exact, key=lambda collection: (whole[collection] - exact[collection], collection))
    for collection in by_remainder[: tokens - sum(whole.values())]:
        whole[collection] += 1
    largest = max(known, key=lambda collection: (known[collection], collection))
    return [
        SpendPart(
            collection=collection,
            requests=int(collection == largest),
            tokens=amount,
            cost=cost_of(amount),
        )
        for collection, amount in sorted(whole.items())
    ]
