"""A refusal that no job can mend pauses the queue, and says why wherever somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.queueing import add

from docyard_queue import NewJob
from docyard_queue.explain import explain
from docyard_queue.queues import list_queues, pause, resume
from docyard_workers.embed.errors import ProviderRefused, QuotaExhausted
from docyard_workers.embed.stopping import stop_queue

if TYPE_CHECKING:
    from docyard_schema import Database

NO_MONEY = QuotaExhausted("openai refused: the quota is used up", hint="Add credit, then resume the queue.")


async def reason(database: Database, queue: str = "embed") -> str | None:
    [found] = [known for known in await list_queues(database) if known.name == queue]
    return found.reason


async def test_a_queue_that_was_stopped_says_why_and_goes_on_when_it_is_told(database: Database) -> None:
    [job] = await add(database, NewJob("embed", queue="embed"))
    await stop_queue(database, "embed", NO_MONEY)
    assert await reason(database) == (
        "openai refused: the quota is used up. Add credit, then resume the queue."
    )
    [told] = [found for found in (await explain(database, job)).reasons if found.code == "queue_paused"]
    assert "the quota is used up" in told.text
    assert "docyard queues resume embed" in told.text
    assert await resume(database, "embed")
    assert await reason(database) is None


async def test_the_first_refusal_and_a_persons_own_words_are_kept(database: Database) -> None:
    await stop_queue(database, "embed", NO_MONEY)
    await stop_queue(database, "embed", ProviderRefused("openai refused the key"))
    assert "the quota is used up" in str(await reason(database))
    await pause(database, "migrate", reason="moving house")
    await stop_queue(database, "migrate", NO_MONEY)
    assert await reason(database, "migrate") == "moving house"
    await resume(database, "embed")
    await stop_queue(database, "embed", ProviderRefused("openai refused the key"))
    assert await reason(database) == "openai refused the key."
