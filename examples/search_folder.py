"""Makes a folder searchable and asks it something, in one process.

python search_folder.py FOLDER 'what you want to know'
"""

import asyncio
import sys

from docyard import Docyard


async def main(folder: str, question: str) -> None:
    """Ingest, work, search."""
    async with Docyard.open() as yard:
        batch = await yard.ingest([folder], collection="example")
        await yard.work()
        summary = await batch.summary()
        print(f"{summary.created} new, {summary.updated} changed, {summary.unchanged} as before")
        for hit in await yard.search(question, collection="example", limit=3):
            print(f"{hit.score:.3f}  {hit.title}  {hit.source_uri}\n       {hit.snippet}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
