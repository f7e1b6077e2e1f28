"""A job of one's own, whose effects happen exactly once.

    docyard worker --app billing:registry

runs it beside docyard's own jobs. The effects are rows of this application's table: they commit together with
the completion of the job, or not at all, so a worker that dies in between charges nobody twice.
"""

from pydantic import BaseModel

from docyard_queue import NewJob, PermanentError, Registry

TABLE = "CREATE TABLE IF NOT EXISTS charges (order_id bigint NOT NULL, cents bigint NOT NULL, job_id bigint)"

registry = Registry()


class Charge(BaseModel):
    """What a ``charge`` job is told."""

    order_id: int
    cents: int


@registry.handler("charge", queue="billing", max_attempts=5)
async def charge(attempt, payload: Charge):
    """Charge one order, and have a receipt sent after it."""
    if payload.cents <= 0:
        raise PermanentError(f"Order {payload.order_id} has nothing to charge.")  # a dead letter at once
    async with attempt.commit() as connection:
        await connection.execute(
            "INSERT INTO charges (order_id, cents, job_id) VALUES (%s, %s, %s)",
            [payload.order_id, payload.cents, attempt.job.id],
        )
        receipt = NewJob("receipt", {"order_id": payload.order_id}, queue="billing")
        await attempt.enqueue(receipt, connection=connection)


@registry.handler("receipt", queue="billing")
def receipt(attempt, payload):
    """Print a receipt: a plain function runs in a thread. What it returns is the job's result."""
    return {"printed": f"Receipt of order {payload['order_id']}"}
