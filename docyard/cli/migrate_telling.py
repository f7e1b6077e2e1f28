"""What ``docyard migrate`` says: what a change of models would take, that it began, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docyard.cli.output import counted, span

if TYPE_CHECKING:
    from docyard.cli.output import Output
    from docyard.reembedding import Reembedding
    from docyard_workers.migrate.estimate import Estimate
    from docyard_workers.migrate.standing import Standing


def tell_estimate(output: Output, found: Estimate, *, as_json: bool) -> None:
    """Say what it would take; nothing was asked of the provider."""
    if as_json:
        output.json(found)
        return
    price = "unknown" if found.price is None else f"{found.price:,.4f} US dollars" if found.price else "none"
    room = None if found.bytes is None else f"{found.bytes / 1e6:,.0f} MB, the index included"
    reused = found.chunks - found.texts
    output.fields(
        {
            "model": f"{found.model} ({found.provider})" + (", registered" if found.registered else ""),
            "dimension": found.dimension or "the model's own, known once it is asked",
            "rows": f"{found.chunks:,} chunks without a vector"
            + (f", {reused:,} of them with a text that others have" if reused else ""),
            "requests": f"{found.requests:,} or a few more",
            "tokens": f"{found.tokens:,} (estimated, bytes / 4)",
            "price": price,
            "time": f"{span(found.seconds)}, assumed: {found.assumed}",
            "room": room,
        }
    )


def tell_started(output: Output, begun: Reembedding, *, as_json: bool, detach: bool) -> None:
    """Say that it began, was joined, or that there is nothing to do."""
    name = begun.model.name
    if begun.batch_id is None:
        if as_json:
            output.json({"model": name, "batch_id": None, "status": "active"})
        else:
            output.line(f"{name} is the active model already; nothing was done.")
        return
    if begun.paused:
        output.note(f"It is paused. Let it go on: docyard batches resume {begun.batch_id}")
    if not detach:
        word = "Going on with" if begun.joined else "Reembedding as"
        output.note(f"{word} batch {begun.batch_id}. Pause: docyard batches pause {begun.batch_id}")
    elif as_json:
        output.json({"model": name, "batch_id": begun.batch_id, "joined": begun.joined, "status": "enqueued"})
    else:
        output.line(f"{'Joined' if begun.joined else 'Enqueued as'} batch {begun.batch_id}.")
        output.note(f"Run it: docyard worker   Look: docyard batches watch {begun.batch_id}")


async def tell_end(output: Output, begun: Reembedding, *, as_json: bool) -> Standing:
    """Say how it ended, or how far it is."""
    now = await begun.standing()
    assert now is not None  # noqa: S101 - there is a batch
    result = now.result or {}
    if as_json:
        told: dict[str, Any] = {"batch_id": begun.batch_id, "joined": begun.joined, "phase": now.phase}
        counts = {"chunks": now.chunks, "done": now.done, "dead": now.dead}
        error = {"code": now.error_code, "message": now.error_message} if now.has_failed else None
        output.json({"model": now.model, **told, **counts, "result": now.result, "error": error})
    elif now.phase == "done":
        _tell_result(output, result)
    if now.has_failed and not as_json:
        message, _, hint = (now.error_message or "It failed.").partition("\n")
        output.error(message, hint)
    elif now.phase == "cancelled" and not as_json:
        output.note("It was cancelled; the active model is as it was.")
    return now


def _tell_result(output: Output, result: dict[str, Any]) -> None:
    name, failed = result["model"], result["failed"]
    output.line(
        f"{name}: {counted(result['chunks'], 'chunk')}, {result['embedded']:,} with a vector"
        + (f", {failed:,} refused by the model." if failed else ": all of them.")
    )
    for chunk, source, code, message in result["exceptions"]:
        output.warn(f"chunk {chunk}, {source or 'no source'}: {code}: {message}")
    if failed > len(result["exceptions"]):
        output.note(f"… and {failed - len(result['exceptions']):,} more, in docyard.embedding_failures.")
    near = result["neighbours"]
    if result["recall"] is not None:
        found, asked = f"{result['recall'] * near:.2f}", counted(result["questions"], "question")
        output.line(f"A search finds {found} of the exact {near} nearest ({asked}).")
    if result["overlap"] is not None:
        old = result["compared_with"]
        output.line(f"Of these {result['overlap'] * near:.2f} are the same as with {old}.")
    if result["status"] == "ready":
        output.line(f"Ready. Search with it: docyard models activate {name}")
        return
    output.line(f"{name} is the active model now.")
    if result["compared_with"] is not None:
        old = result["compared_with"]
        output.note(f"Back: docyard models rollback   Free its room: docyard models drop {old}")
