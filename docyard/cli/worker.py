"""``docyard worker``: runs jobs until it is stopped, in one process or several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

if TYPE_CHECKING:
    from docyard_queue import Registry


@command
def worker(
    invocation: Invocation,
    queue: Annotated[
        list[str] | None, typer.Option(metavar="QUEUE", help="Serve only this queue. May be repeated.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Jobs at once in each process.", show_default=False),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes; one that dies is started again.")] = 1,
    app: Annotated[
        str | None, typer.Option(metavar="MODULE:REGISTRY", help="Handlers of your own, beside docyard's.")
    ] = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> int:
    """Run jobs until stopped: Ctrl-C or SIGTERM lets running jobs finish, a second one ends at once."""
    import asyncio

    from docyard.cli.working import load_registry, run_fast

    invocation.start_logs()
    registry = load_registry(app) if app else None
    if processes > 1:
        from docyard.cli.supervisor import Supervisor

        arguments = [f"--queue={name}" for name in queue or ()]
        arguments += [f"--concurrency={concurrency}"] if concurrency else []
        arguments += [f"--app={app}"] if app else []
        return asyncio.run(Supervisor(invocation, arguments, processes).run())
    invocation.stopping.is_the_end = True
    run_fast(
        invocation.stopping.run(_work(invocation, queue, concurrency, registry, app, supervised=supervised))
    )
    return 0


async def _work(
    invocation: Invocation,
    queues: list[str] | None,
    concurrency: int | None,
    registry: Registry | None,
    app: str | None,
    *,
    supervised: bool,
) -> None:
    import asyncio

    from docyard.cli.working import stops

    async with invocation.yard(registry, app) as yard:
        worker = yard.worker(queues=queues or None, concurrency=concurrency)
        with stops(invocation, worker):
            if supervised:
                asyncio.get_running_loop().add_reader(sys.stdin.fileno(), worker.stop)
            async with worker:
                await worker.run()
