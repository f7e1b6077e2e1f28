"""Feeds docyard from an application that has procrastinate already.

    DOCYARD_DATABASE_URL=postgresql://… python procrastinate_producer.py FILE…

docyard's jobs are rows of procrastinate's tables in the schema `docyard`, so its client must look there:
`search_path=public,docyard`, here on the connection, or once for the role:
`ALTER ROLE app SET search_path = public, docyard`.
"""

import os
import sys
from pathlib import Path

from procrastinate import App, PsycopgConnector

app = App(
    connector=PsycopgConnector(
        conninfo=os.environ["DOCYARD_DATABASE_URL"],
        kwargs={"options": "-c search_path=public,docyard"},
    )
)

if __name__ == "__main__":
    with app.open():
        ingest = app.configure_task("ingest", queue="ingest")
        for name in sys.argv[1:]:
            print(ingest.defer(source=str(Path(name).resolve()), collection="from-procrastinate"))
