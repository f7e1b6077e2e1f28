"""What vectors cost, and what keeps them from being made, as the command line says it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from conftest import opened
from support.queueing import query

from docyard_queue import NewJob, create_batch, enqueue_async
from docyard_queue.budgets import cool_down, set_budget
from docyard_queue.limits import Rate
from docyard_schema.embeddings.spend import Settlement, SpendPart, reserve_spend, settle_spend, spend_today
from docyard_workers.embed.errors import QuotaExhausted
from docyard_workers.embed.stopping import stop_queue

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard

    from docyard_schema import Database

ACCOUNT = "openai:api.example:0123abcd"


def on(url: str, work: object) -> None:
    """Do ``work``, a function of the database, before the command."""

    async def run() -> None:
        async with opened(url) as database:
            await work(database)  # type: ignore[operator]

    asyncio.run(run())


async def spend(database: Database) -> None:
    day = (await spend_today(database)).day
    for model, collection, tokens, cost, ago in (
        ("small", "manual", 1_200_000, "0.024", 0),
        ("small", "notes", 300, None, 0),
        ("small", "manual", 500, "0.00001", 3),
    ):
        part = SpendPart(
            collection=collection, requests=1, tokens=tokens, cost=None if cost is None else Decimal(cost)
        )
        settlement = Settlement(
            account=ACCOUNT, model=model, day=day - timedelta(days=ago), hold=None, parts=[part]
        )
        await settle_spend(database, settlement)


def test_spend_lists_days_models_and_collections(docyard: Docyard, on_server: str) -> None:
    assert "Nothing was spent" in docyard("spend").err
    on(on_server, spend)
    told = docyard("spend", "--days", 3, "--json").json
    assert told["total"] == {"requests": 2, "tokens": 1_200_300, "cost": "0.024"}
    assert [(row["collection"], row["tokens"], row["cost"]) for row in told["rows"]] == [
        ("manual", 1_200_000, "0.024"),
        ("notes", 300, None),
    ]
    shown = docyard("spend").out
    assert shown.count("manual") == 2
    assert "$0.0240" in shown
    assert "unknown" in shown
    assert "Together: 3 requests, 1,200,800 tokens" in shown


def test_status_says_what_today_cost_and_what_the_ceiling_leaves(docyard: Docyard, on_server: str) -> None:
    assert "Spent today" not in docyard("status").out
    on(on_server, spend)
    assert "1,200,300 tokens, $0.0240\n" in docyard("status").out

    async def reach(database: Database) -> None:
        for cost in ("0.01", "1"):
            await reserve_spend(database, ACCOUNT, {}, cost=Decimal(cost), ceiling=Decimal("0.5"))

    on(on_server, reach)
    shown = docyard("status").out
    assert "1,200,300 tokens, $0.0240 of $0.5000, $0.0100 under way" in shown
    assert "waits for midnight UTC" in shown
    told = docyard("status", "--json").json["spend"]
    assert (told["tokens"], told["cost"], told["ceiling"]) == (1_200_300, "0.024", "0.5")


def test_status_says_which_queue_a_refusal_paused_and_why_until_it_is_resumed(
    docyard: Docyard, on_server: str
) -> None:
    error = QuotaExhausted("expected vectors, got 429: the quota is used up", hint="Add credit.")

    async def refuse(database: Database) -> None:
        await stop_queue(database, "embed", error)
        for unit in ("requests", "tokens"):
            await set_budget(database, ACCOUNT, unit, Rate(10, timedelta(minutes=1)))
        await cool_down(database, ACCOUNT, timedelta(minutes=1), reason="429 Too Many Requests")

    on(on_server, refuse)
    shown = docyard("status").out
    assert "Queue embed is paused since" in shown
    assert "the quota is used up. Add credit. Go on with: docyard queues resume embed" in shown
    assert shown.count("429 Too Many Requests") == 1
    told = docyard("status", "--json").json
    assert [(pause["queue"], "used up" in pause["reason"]) for pause in told["paused"]] == [("embed", True)]
    assert [cooling["name"] for cooling in told["cool_downs"]] == [ACCOUNT]
    assert "used up" in docyard("queues", "list").out
    docyard("queues", "resume", "embed")
    assert docyard("status", "--json").json["paused"] == []


def test_a_batch_adds_up_what_its_jobs_spent(docyard: Docyard, on_server: str) -> None:
    found: list[object] = []

    async def work(database: Database) -> None:
        batch = await create_batch(database, "all")
        results = (
            ("embed", {"embedded": 2, "reused": 0, "failed": 0, "tokens": 700, "cost": "0.000014"}),
            ("backfill", {"embedded": 1, "reused": 1, "failed": 0, "tokens": 300, "cost": "0.000006"}),
            ("embed", {"embedded": 1, "reused": 0, "failed": 0, "tokens": 5, "cost": None}),
            ("an app's own", {"tokens": "many", "cost": {"a": 1}}),
        )
        for kind, result in results:
            async with database.connection() as connection:
                job = await enqueue_async(connection, NewJob(kind, batch_id=batch))
            await query(
                database,
                "UPDATE docyard.procrastinate_jobs SET status = 'succeeded', result = %s WHERE id = %s",
                json.dumps(result),
                job,
            )
        found.append(batch)

    on(on_server, work)
    assert "Spent: 1,005 tokens, $0.000020." in docyard("batches", "show", found[0]).out
    summary = docyard("batches", "show", found[0], "--json").json["summary"]
    assert (summary["tokens"], summary["cost"]) == (1005, "0.000020")


@pytest.mark.parametrize("ceiling", ["5", "0"])
def test_a_ceiling_without_a_price_is_wrong_use(
    docyard: Docyard, on_server: str, library: Path, monkeypatch: pytest.MonkeyPatch, ceiling: str
) -> None:
    monkeypatch.setenv("DOCYARD_EMBEDDING_DAILY_CEILING", ceiling)
    assert docyard("ingest", library, "--work", "-q").code == 0, "wordllama costs nothing"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("DOCYARD_EMBEDDING_MODEL", "home-made")
    ended = docyard("worker")
    assert ended.code == 2
    assert "needs a price" in ended.err
