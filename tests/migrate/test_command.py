"""``docyard migrate reembed`` as a person and a script call it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.reembed_process import NEW, NEW_NAME, OLD, OLD_DIMENSION, OLD_NAME, TO_NEW
from support.yards import ingest, open_yard, rows, value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.embedding_server import EmbeddingServer
    from support.reembed_process import Process

    from docyard import Docyard


@pytest.fixture
async def yard(url: str, environment: dict[str, str], small_corpus: Path) -> AsyncIterator[Docyard]:
    """A docyard whose documents have vectors of the old model."""
    async with open_yard(url, environment) as opened:
        await ingest(opened, small_corpus)
        yield opened


async def ended(process: Process) -> Process:
    await eventually(lambda: process.ended, seconds=60, what="the command to end")
    return process


def printed(process: Process) -> Any:
    """The JSON that it printed, among its log lines."""
    [told] = [line for line in process.said.splitlines() if line.startswith("{") and '"event"' not in line]
    return json.loads(told)


async def states(yard: Docyard) -> dict[str, str]:
    return dict(await rows(yard.database, "SELECT name, state FROM docyard.embedding_models"))


@pytest.mark.slow
async def test_it_works_tells_what_it_verified_and_how_to_go_back(
    yard: Docyard, command: Callable[..., Process], models: EmbeddingServer
) -> None:
    dry = await ended(command(*TO_NEW, "--dry-run"))
    assert dry.code == 0, dry.said
    for word in ("rows", "requests", "tokens", "price", "time", "assumed: 0.5 s per request"):
        assert word in dry.said
    assert await states(yard) == {OLD_NAME: "active"}
    done = await ended(command(*TO_NEW))
    assert done.code == 0, done.said
    for sentence in (
        "with a vector: all of them.",
        "A search finds",
        "of the exact 10 nearest",
        f"are the same as with {OLD_NAME}",
        f"{NEW_NAME} is the active model now.",
        f"docyard models rollback   Free its room: docyard models drop {OLD_NAME}",
    ):
        assert sentence in done.said
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}
    again = await ended(command(*TO_NEW))
    assert again.code == 0, again.said
    assert f"{NEW_NAME} is the active model already; nothing was done." in again.said
    back = await ended(command("models", "rollback"))
    assert back.code == 0, back.said
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "retired"}


@pytest.mark.slow
async def test_detached_it_only_enqueues_and_a_second_call_joins_and_works(
    yard: Docyard, command: Callable[..., Process]
) -> None:
    first = await ended(command(*TO_NEW, "--detach", "--json"))
    assert first.code == 0, first.said
    told = printed(first)
    assert (told["model"], told["joined"], told["status"]) == (NEW_NAME, False, "enqueued")
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}
    second = await ended(command("migrate", "reembed", "--model", NEW_NAME, "--json"))
    assert second.code == 0, second.said
    end = printed(second)
    assert (end["batch_id"], end["joined"], end["phase"]) == (told["batch_id"], True, "done")
    assert end["result"]["status"] == "activated"
    assert end["error"] is None


@pytest.mark.slow
async def test_what_went_wrong_is_said_and_what_to_do(
    yard: Docyard, command: Callable[..., Process], models: EmbeddingServer
) -> None:
    unknown = await ended(command("migrate", "reembed", "--model", "no-such-model"))
    assert unknown.code == 2, unknown.said
    assert "no-such-model" in unknown.said
    place = await ended(command(*TO_NEW, "--strategy", "in-place"))
    assert place.code == 2, place.said
    assert "Say --yes if that is meant" in place.said
    assert await states(yard) == {OLD_NAME: "active"}
    same = await ended(
        command("migrate", "reembed", "--model", OLD, "--dimension", str(OLD_DIMENSION), "--json")
    )
    assert same.code == 0, same.said
    assert printed(same) == {"model": OLD_NAME, "batch_id": None, "status": "active"}


@pytest.mark.slow
async def test_stopped_by_a_signal_it_says_how_to_go_on(
    yard: Docyard, command: Callable[..., Process], models: EmbeddingServer
) -> None:
    models.latency = 1.0
    process = command(*TO_NEW)

    async def begun() -> bool:
        running = "SELECT count(*) FROM docyard.jobs WHERE kind = 'backfill' AND state = 'running'"
        return await value(yard.database, running) > 0

    await eventually(begun, seconds=30)
    process.process.send_signal(signal.SIGINT)
    await ended(process)
    assert process.code == 130, process.said
    assert f"Go on: docyard migrate reembed --model {NEW_NAME}" in process.said
    models.latency = 0.0
    again = await ended(command(*TO_NEW))
    assert again.code == 0, again.said
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}


@pytest.mark.slow
async def test_a_provider_that_wants_another_key_stops_it_and_it_says_so(
    yard: Docyard, command: Callable[..., Process], models: EmbeddingServer
) -> None:
    models.latency = 0.3
    process = command(*TO_NEW)
    await eventually(lambda: "worker.started" in process.said, seconds=60)
    models.key = "another"
    await eventually(lambda: "The queue migrate is paused: " in process.said, seconds=30)
    assert "docyard queues resume migrate" in process.said
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}
    models.key, models.latency = None, 0.0
    resumed = await ended(command("queues", "resume", "migrate"))
    assert resumed.code == 0, resumed.said
    await ended(process)
    assert process.code == 0, process.said
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}


@pytest.mark.slow
async def test_cancelled_it_ends_and_leaves_the_active_model_as_it_was(
    yard: Docyard, command: Callable[..., Process], models: EmbeddingServer
) -> None:
    models.latency = 1.0
    process = command(*TO_NEW)
    await eventually(lambda: "worker.started" in process.said, seconds=60)
    [[batch]] = await rows(
        yard.database, "SELECT id::text FROM docyard.batches WHERE callback ->> 'kind' = 'reembed'"
    )
    cancelled = await ended(command("batches", "cancel", batch))
    assert cancelled.code == 0, cancelled.said
    await ended(process)
    assert process.code == 1, process.said
    assert "It was cancelled; the active model is as it was." in process.said
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}


@pytest.mark.slow
async def test_in_place_with_yes(yard: Docyard, command: Callable[..., Process]) -> None:
    done = await ended(command(*TO_NEW, "--strategy", "in-place", "--yes"))
    assert done.code == 0, done.said
    assert await states(yard) == {NEW_NAME: "active"}
    assert f"{NEW_NAME} is the active model now." in done.said
    assert NEW in done.said
