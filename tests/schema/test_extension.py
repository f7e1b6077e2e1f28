"""pgvector: created, or told who can create it.

Where a server looks for extensions can be set for one database (PostgreSQL 18), so one without pgvector, or
with an old one, needs no other server.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict

from docyard_schema import Database, ExtensionMissing, SchemaMismatch
from docyard_schema.embedded.binaries import find_binaries
from docyard_schema.migrations import find_vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def offer_extensions_from(run: Callable[[str, str], None], url: str, folder: str) -> None:
    name = conninfo_to_dict(url)["dbname"]
    run(url, f"ALTER DATABASE {name} SET extension_control_path = '{folder}'")


async def migrate_into(url: str) -> Database:
    async with await Database.connect(url) as database:
        return await database.initialize(migrate_schema=True)


async def test_a_server_without_pgvector_is_told_how_to_get_it(
    empty_url: str, run: Callable[[str, str], None]
) -> None:
    offer_extensions_from(run, empty_url, "/nowhere")
    with pytest.raises(ExtensionMissing, match=r"The Postgres server \(\d+\) has no pgvector") as caught:
        await migrate_into(empty_url)
    assert caught.value.code == "extension_missing"
    assert "apt-get install postgresql-" in caught.value.hint
    assert "docyard db migrate" in caught.value.hint


async def test_a_server_that_offers_an_old_pgvector_is_told_to_upgrade_it(
    empty_url: str, run: Callable[[str, str], None], open_folder: Path
) -> None:
    (open_folder / "extension").mkdir()
    (open_folder / "extension" / "vector.control").write_text(
        "default_version = '0.7.4'\nmodule_pathname = '$libdir/vector'\nrelocatable = true\ntrusted = true\n"
    )
    (open_folder / "extension" / "vector--0.7.4.sql").write_text("")
    offer_extensions_from(run, empty_url, str(open_folder))
    with pytest.raises(ExtensionMissing, match=r"offers pgvector 0\.7\.4, docyard needs 0\.8\.0") as caught:
        await migrate_into(empty_url)
    assert "apt-get install postgresql-" in caught.value.hint


@pytest.mark.parametrize("migrate_schema", [True, False])
async def test_an_old_pgvector_in_the_database_is_told_to_be_updated(
    url: str, run: Callable[[str, str], None], migrate_schema: bool
) -> None:
    run(url, "UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'")
    async with await Database.connect(url) as database:
        with pytest.raises(ExtensionMissing, match=r"has pgvector 0\.7\.0, docyard needs 0\.8\.0") as caught:
            await database.initialize(migrate_schema=migrate_schema)
    assert "ALTER EXTENSION vector UPDATE" in caught.value.hint
    assert "superuser or the extension's owner" in caught.value.hint


async def test_a_database_that_lost_pgvector_is_told_so(url: str, run: Callable[[str, str], None]) -> None:
    run(url, "DROP EXTENSION vector CASCADE")
    async with await Database.connect(url) as database:
        with pytest.raises(ExtensionMissing, match="does not have the extension pgvector") as caught:
            await database.initialize()
    assert "docyard db migrate" in caught.value.hint


async def test_a_user_who_may_not_create_it_is_told_who_can(
    make_role: Callable[..., str], empty_url: str, as_role: Callable[[str, str], str]
) -> None:
    role = make_role()
    with pytest.raises(ExtensionMissing, match=f'user "{role}" may not create the extension') as caught:
        await migrate_into(as_role(empty_url, role))
    assert "Let a superuser (on a managed service, its administrator) run: psql" in caught.value.hint
    assert "CREATE EXTENSION vector" in caught.value.hint
    assert str(conninfo_to_dict(empty_url)["dbname"]) in caught.value.hint


@pytest.mark.parametrize(("public", "home"), [("open", "public"), ("closed", "docyard")])
async def test_where_users_may_create_it_an_ordinary_one_does(
    make_role: Callable[..., str],
    empty_url: str,
    as_role: Callable[[str, str], str],
    run: Callable[[str, str], None],
    open_folder: Path,
    public: str,
    home: str,
) -> None:
    # As managed services have it: the extension is trusted.
    ours = find_binaries()[18].folder.parent / "share" / "postgresql" / "extension"
    shutil.copytree(
        ours, open_folder / "extension", ignore=lambda _, names: [n for n in names if "vector" not in n]
    )
    with (open_folder / "extension" / "vector.control").open("a") as control:
        control.write("\ntrusted = true\n")
    offer_extensions_from(run, empty_url, str(open_folder))
    role = make_role()
    name = conninfo_to_dict(empty_url)["dbname"]
    run(empty_url, f"GRANT CREATE ON DATABASE {name} TO {role}")
    run(empty_url, f"{'GRANT' if public == 'open' else 'REVOKE'} CREATE ON SCHEMA public "
        f"{'TO' if public == 'open' else 'FROM'} PUBLIC")  # fmt: skip
    database = await migrate_into(as_role(empty_url, role))
    assert database.namespace.vectors == home


async def test_a_database_without_a_schema_public_will_do(
    empty_url: str, run: Callable[[str, str], None]
) -> None:
    run(empty_url, "DROP SCHEMA public")
    assert (await migrate_into(empty_url)).namespace.vectors == "docyard"


async def test_a_connection_made_before_the_extension_finds_it_afterwards(
    empty_url: str, run: Callable[[str, str], None]
) -> None:
    async with await Database.connect(empty_url) as database:
        with pytest.raises(SchemaMismatch):
            await database.initialize()
        run(empty_url, 'CREATE SCHEMA "my extensions"; CREATE EXTENSION vector SCHEMA "my extensions"')
        await database.initialize(migrate_schema=True)
        assert database.namespace.vectors == "my extensions"


async def test_many_create_it_at_once_and_none_fails(empty_url: str) -> None:
    databases = await asyncio.gather(*(migrate_into(empty_url) for _ in range(6)))
    assert {database.namespace.vectors for database in databases} == {"public"}
    async with await Database.connect(empty_url) as database, database.connection() as connection:
        assert await find_vectors(connection) == "public"
