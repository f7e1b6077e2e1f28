"""When a lane sends what waits in it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.eventually import eventually

from docyard_queue import Snooze
from docyard_schema.embeddings import MissingVector
from docyard_workers.embed.lane import Lane
from docyard_workers.embed.providers import ProviderLimits
from docyard_workers.embed.work import Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from docyard_workers.embed.packing import Group


class Told:
    """What a lane sent, and a provider that answers when the test says so."""

    def __init__(self) -> None:
        self.sent: list[Group] = []
        self.settled: list[Any] = []
        self.may_come = False
        self.puts_back = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.storing = asyncio.Event()
        self.storing.set()
        self.lane: Lane

    async def send(self, group: Group) -> Coroutine[Any, Any, None] | None:
        self.sent.append(group)
        await self.answering.wait()
        if self.puts_back:
            self.puts_back -= 1
            self.lane.put_back(group)
            # The lane looks now, and sees that this request is still on its way.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return None
        self.lane.forget(group.entries)
        self.lane.went_well()
        return self.store()

    async def store(self) -> None:
        await self.storing.wait()

    async def asked(self) -> bool:
        return self.may_come

    @property
    def sizes(self) -> list[int]:
        return [len(group.entries) for group in self.sent]

    def add(self, *texts: int) -> Work:
        attempt: Any = SimpleNamespace(ended=False, committed=False, job=SimpleNamespace(queue="embed"))
        work = Work(attempt, self.settled.append)
        self.lane.add(
            [MissingVector(text, uuid4(), "default", text.to_bytes(32), 10) for text in texts],
            lambda _: [work],
        )
        return work


@asynccontextmanager
async def a_lane(*, longest_wait: float = 60, texts: int = 4, parallel: int = 2) -> AsyncIterator[Told]:
    told = Told()
    limits = ProviderLimits(max_texts_per_request=texts, parallel_requests=parallel)
    told.lane = Lane(limits, may_come=told.asked, longest_wait=longest_wait)
    told.lane.send = told.send  # type: ignore[method-assign]
    yield told
    told.answering.set()
    told.storing.set()
    await told.lane.close()


async def test_a_lone_text_is_sent_at_once() -> None:
    async with a_lane() as told:
        told.add(1)
        await eventually(lambda: told.sizes == [1], what="the text to leave")


async def test_the_end_of_the_only_request_makes_room_for_what_it_put_back() -> None:
    async with a_lane(parallel=1) as told:
        told.puts_back = 2
        told.add(1)
        await eventually(lambda: told.sizes == [1, 1, 1], seconds=2, what="the text to leave again")


async def test_a_full_request_is_sent_whatever_may_come() -> None:
    async with a_lane() as told:
        told.may_come = True
        told.add(1, 2, 3)
        told.add(4, 5)
        await eventually(lambda: told.sizes == [4], what="the full request")
        told.may_come = False
        await eventually(lambda: told.sizes == [4, 1], what="the rest")


async def test_what_is_not_full_waits_no_longer_than_told() -> None:
    async with a_lane(longest_wait=0.2) as told:
        told.may_come = True
        told.add(1)
        await eventually(lambda: told.sizes == [1], what="the wait to be over")


async def test_nothing_unfull_leaves_while_somebody_reads_what_is_missing() -> None:
    async with a_lane() as told:
        with told.lane.reading():
            told.add(1)
            await asyncio.sleep(0.1)
            assert told.sent == []
            told.add(2)
        await eventually(lambda: told.sizes == [2], what="both in one request")


async def test_an_equal_text_joins_the_one_that_waits_or_travels() -> None:
    async with a_lane() as told:
        told.answering.clear()
        told.add(1)
        await eventually(lambda: told.sizes == [1], what="the text to leave")
        told.add(1, 2)
        await eventually(lambda: told.sizes == [1, 1], what="the other text")
        assert [len(group.entries[0].wants) for group in told.sent] == [2, 1]


async def test_a_text_whose_vector_came_since_the_look_makes_the_reader_look_again() -> None:
    async with a_lane() as told:
        missing = [MissingVector(1, uuid4(), "default", (1).to_bytes(32), 10)]
        told.answering.clear()
        told.add(1)
        await eventually(lambda: told.sizes == [1], what="the text to leave")
        entries = told.sent[0].entries
        with told.lane.reading() as reading:
            assert told.lane.overtaken(missing, reading) is None, "it only travels: join it"
            with told.lane.storing(entries):
                [future] = told.lane.overtaken(missing, reading) or []
                assert not future.done()
            assert future.done()
            assert told.lane.overtaken(missing, reading) == []
            reading.stored.clear()
            assert told.lane.overtaken(missing, reading) is None


async def test_so_many_requests_travel_at_once_and_one_after_a_pause() -> None:
    async with a_lane(texts=1) as told:
        told.answering.clear()
        told.add(1, 2, 3, 4)
        await eventually(lambda: len(told.sent) == 2, what="two requests")
        await asyncio.sleep(0.05)
        assert len(told.sent) == 2
    async with a_lane(texts=1) as told:
        told.answering.clear()
        told.lane.pause(0.1, "cooling")
        told.add(1, 2, 3, 4)
        await eventually(lambda: len(told.sent) == 1, what="one request after the pause")
        await asyncio.sleep(0.05)
        assert len(told.sent) == 1, "to see whether it goes on"
        told.answering.set()
        await eventually(lambda: len(told.sent) == 4, what="all")


async def test_the_next_request_leaves_while_answers_are_stored_but_few_are_held() -> None:
    async with a_lane(texts=1, parallel=1) as told:
        told.storing.clear()
        told.add(1, 2, 3, 4)
        await eventually(lambda: len(told.sent) == 2, what="two requests, one after the other")
        await asyncio.sleep(0.05)
        assert len(told.sent) == 2, "two answers are in memory"
        told.storing.set()
        await eventually(lambda: len(told.sent) == 4, what="the rest")


async def test_nothing_is_sent_during_a_pause_and_a_long_one_gives_jobs_back() -> None:
    async with a_lane() as told:
        told.lane.pause(0.2, "cooling")
        work = told.add(1)
        await asyncio.sleep(0.1)
        assert told.sent == []
        await eventually(lambda: told.sizes == [1], what="the pause to end")
        told.lane.forget(told.sent[0].entries)
        told.lane.pause(3600, "the day's ceiling")
        work = told.add(2)
        await asyncio.wait_for(work.over, 5)
        [outcome] = told.settled
        assert isinstance(outcome, Snooze)
        assert outcome.reason == "the day's ceiling"
        assert outcome.delay == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=10))


async def test_texts_that_nobody_wants_any_more_are_not_sent() -> None:
    async with a_lane() as told:
        told.lane.pause(0.5, "cooling")
        cancelled, other = told.add(1, 2), told.add(2, 3)
        cancelled.attempt.ended = True
        await asyncio.wait_for(cancelled.over, 5)
        await eventually(lambda: told.sizes == [2], what="what the other job wants")
        assert not other.over.done()
        assert told.settled == [], "whoever cancelled it has settled it"


async def test_a_group_that_failed_is_sent_by_itself_when_it_is_due() -> None:
    async with a_lane() as told:
        told.add(1, 2, 3, 4)
        await eventually(lambda: told.sizes == [4], what="the request")
        [group] = told.sent
        group.failed_at = 0.0
        first, second = group.halves()
        told.lane.put_back(first)
        told.lane.put_back(second)
        told.may_come = True
        told.add(5)
        await eventually(lambda: told.sizes == [4, 2, 2], what="the halves")
