"""docyard: a Postgres-backed background job system for documents.

::

    from docyard import Docyard

    async with Docyard.open() as yard:
        await yard.ingest(["docs/"], collection="manual")
        await yard.work()
        for hit in await yard.search("how do I roll back a migration"):
            print(hit.title, hit.snippet)
"""

from docyard.batch import Batch, IngestSummary
from docyard.facade import Docyard
from docyard.settings import Settings, load_settings

__all__ = ["Batch", "Docyard", "IngestSummary", "Settings", "load_settings"]
