"""docyard: a Postgres-backed background job system for documents.

::

    from docyard import Docyard

    async with Docyard.open() as yard:
        await yard.ingest(["docs/"], collection="manual")
        await yard.work()
        for hit in await yard.search("how do I roll back a migration"):
            print(hit.title, hit.snippet)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docyard.batch import Batch, IngestSummary
    from docyard.facade import Docyard
    from docyard.settings import Settings, load_settings

__all__ = ["Batch", "Docyard", "IngestSummary", "Settings", "load_settings"]

# Imported when asked for: `docyard --help` needs none of it.
_HOME = {
    "Batch": "docyard.batch",
    "Docyard": "docyard.facade",
    "IngestSummary": "docyard.batch",
    "Settings": "docyard.settings",
    "load_settings": "docyard.settings",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("docyard")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
