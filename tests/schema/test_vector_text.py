"""Vectors travel as text, exact to the bit."""

from __future__ import annotations

import math
import struct
from array import array

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docyard_schema import Database, InvalidInput
from docyard_schema.embeddings import vector_literal

DIMENSION = 8

_floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-65504, max_value=65504)
_vectors = st.lists(_floats, min_size=DIMENSION, max_size=DIMENSION).filter(
    lambda values: max(map(abs, values)) >= 2.0**-24
)


def bits(values: list[float]) -> bytes:
    return struct.pack(f"{len(values)}f", *values)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_vectors)
def test_a_float32_vector_comes_back_bit_for_bit(
    plain_connection: psycopg.Connection, values: list[float]
) -> None:
    row = plain_connection.execute(
        # pgvector's own binary form: two lengths, then the numbers in network order.
        "SELECT vector_send(%s::vector)",
        [vector_literal(values, DIMENSION)],
    ).fetchone()
    assert row is not None
    assert list(struct.unpack(f">{DIMENSION}f", row[0][4:])) == values
    assert bits(list(struct.unpack(f">{DIMENSION}f", row[0][4:]))) == bits(values)


@given(st.lists(st.floats(-1000, 1000), min_size=3, max_size=3).filter(lambda v: max(map(abs, v)) > 1e-6))
def test_a_float64_is_rounded_to_the_nearest_float32(values: list[float]) -> None:
    told = [float(part) for part in vector_literal(values, 3)[1:-1].split(",")]
    assert told == array("f", values).tolist()


def test_arrays_of_float32_are_taken_as_they_are() -> None:
    values = array("f", [0.1, -2.5, 3e-8])
    assert vector_literal(values, 3) == "[0.10000000149011612,-2.5,2.999999892949745e-08]"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([1.0, 2.0], "3 numbers is expected, got 2"),
        ([1.0, math.nan, 2.0], "NaN or infinity"),
        ([1.0, math.inf, 2.0], "NaN or infinity"),
        ([1.0, -math.inf, 2.0], "NaN or infinity"),
        ([0.0, 0.0, -0.0], "got all zeros"),
        ([1e-60, 0.0, 0.0], "got all zeros"),
        ([1e-9, 0.0, 0.0], "nothing above 6e-08"),
        ([70000.0, 0.0, 0.0], "up to 65504 is expected, got one with 70000"),
    ],
)
def test_a_vector_that_cannot_be_compared_is_refused(values: list[float], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        vector_literal(values, 3)


async def test_what_is_accepted_at_the_edges_can_be_indexed_and_compared(database: Database) -> None:
    for values in ([65504.0] * 3, [2.0**-24] * 3, [-65504.0, 2.0**-24, 0.0]):
        literal = vector_literal(values, 3)
        async with database.connection() as connection:
            cursor = await connection.execute(
                database.sql(
                    "SELECT %(v)s::pgvector.halfvec(3) OPERATOR(pgvector.<=>) %(v)s::pgvector.halfvec(3), "
                    "%(v)s::pgvector.vector OPERATOR(pgvector.<=>) %(v)s::pgvector.vector"
                ),
                {"v": literal},
            )
            assert await cursor.fetchone() == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))


@pytest.fixture
def plain_connection(url: str):  # type: ignore[no-untyped-def]
    with psycopg.connect(url) as connection:
        yield connection
