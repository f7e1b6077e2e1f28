"""Enqueues inside an application's own transaction: the order and its job are there, or neither is.

    DOCYARD_DATABASE_URL=postgresql://… python producer.py 7 1999

Needs nothing but `pip install docyard`, and no worker in the same process.
"""

import os
import sys

import psycopg

from docyard_queue import NewJob, enqueue


def place_order(connection: psycopg.Connection, order_id: int, cents: int) -> int:
    """Store an order and enqueue its charge; the caller commits. Returns the job's id."""
    connection.execute("CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, cents bigint)")
    connection.execute("INSERT INTO orders (id, cents) VALUES (%s, %s)", [order_id, cents])
    return enqueue(connection, NewJob("charge", {"order_id": order_id, "cents": cents}, queue="billing"))


if __name__ == "__main__":
    with psycopg.connect(os.environ["DOCYARD_DATABASE_URL"]) as connection:
        print(place_order(connection, int(sys.argv[1]), int(sys.argv[2])))
