"""Indexes serve the statement that is run, on data large enough for the planner to want them by itself."""

from __future__ import annotations

from typing import Any

from docyard_schema.embeddings import build_index
from docyard_schema.search.question import read_question
from docyard_schema.search.request import query_vector, search_parameters
from docyard_schema.statements import load_statements

STATEMENTS = dict(load_statements("docyard_schema.search", "search.sql"))


async def explain(database, query: str, *, model=None, mode="text", **filters: str) -> list[tuple[str, str]]:
    """The (node type, index or table) of each node of the plan that was executed at least once."""
    vector = [1.0] * model.dimension if model else None
    parameters = search_parameters(read_question(query), mode, 10, 0) | {
        "collection": None,
        "kind": None,
        "language": "english",
        "vectorial": model is not None,
        "vector": query_vector(vector, model) if model else None,
    }
    parameters |= filters
    literals = {"{model}": model.id if model else 0, "{dimension}": model.dimension if model else 1}
    prepare, search = STATEMENTS["prepare_search"], STATEMENTS["search"]
    for name, value in literals.items():
        prepare, search = prepare.replace(name, str(value)), search.replace(name, str(value))
    async with database.transaction() as connection:
        await connection.execute(database.sql(prepare), parameters)
        explained = database.sql(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {search}")
        cursor = await connection.execute(explained, parameters)
        row = await cursor.fetchone()
    return list(executed(row[0][0]["Plan"]))


def executed(node: dict[str, Any]):
    if node["Actual Loops"]:
        yield node["Node Type"], node.get("Index Name") or node.get("Relation Name") or ""
    for child in node.get("Plans", ()):
        yield from executed(child)


async def test_words_are_found_and_counted_through_the_gin_index(library, database) -> None:
    await library.fill(4000)
    plan = await explain(database, "w17 word9")
    # Two words counted in one place, the strict branch, BM25.
    assert plan.count(("Bitmap Index Scan", "chunks_lexemes_idx")) == 3
    assert ("Seq Scan", "chunks") not in plan
    assert ("Index Only Scan", "chunks_length_idx") in plan
    assert not any("embeddings" in name for _, name in plan)


async def test_the_hnsw_index_serves_vectors(library, database) -> None:
    await library.fill(8000, dimension=16)
    await build_index(database, library.model)
    index = f"{library.model.partition}_hnsw"
    for query in ("anything", "common -w17"):
        for mode in ("vector", "hybrid"):
            plan = await explain(database, query, model=library.model, mode=mode)
            assert ("Index Scan", index) in plan, (query, mode)
            assert ("Seq Scan", library.model.partition) not in plan


async def test_a_search_by_vector_counts_no_words(library, database) -> None:
    await library.fill(100)
    plan = await explain(database, "common w17", model=library.model, mode="vector")
    assert not any(name.startswith("chunks_lexemes") or name == "chunks_length_idx" for _, name in plan)
    # Those of the vectors, and those of the hits.
    assert sum(name.startswith("chunks") for _, name in plan) == 2


async def test_a_search_that_runs_often_keeps_being_planned_for_its_values(library, search, database) -> None:
    await library.add("apple", vectors=[(1, 0)])
    async with database.connection() as connection:
        for _ in range(12):
            await search.search("apple", vector=(1, 0), model=library.model, connection=connection)
        cursor = await connection.execute(
            "SELECT generic_plans, custom_plans > 0 FROM pg_prepared_statements "
            "WHERE statement LIKE '%bm25_chunk%'"
        )
        assert await cursor.fetchall() == [(0, True)]


async def test_statements_prepare_on_a_fresh_database(database) -> None:
    async with database.connection() as connection:
        for name, statement in STATEMENTS.items():
            text = statement.replace("{model}", "1").replace("{dimension}", "256")
            # EXPLAIN plans it, so every name in it is looked up.
            parameters = search_parameters(read_question("a"), "hybrid", 10, 0) | {
                "before": [""] * 6,
                "collection": None,
                "kind": None,
                "language": "english",
                "vectorial": True,
                "vector": str([1.0] * 256),
            }
            cursor = await connection.execute(database.sql(f"EXPLAIN {text}"), parameters)
            assert await cursor.fetchall(), name
