"""Homes in awkward places, and the users who may or must run there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard_schema.embedded import EmbeddedServer

if TYPE_CHECKING:
    from conftest import Machine

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user cannot become another")
# What a container's root has unless told otherwise: no dac_read_search, no sys_ptrace.
CONTAINER = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,"
    "+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"
)


def modes_and_owners(path: Path) -> dict[Path, tuple[int, int, int]]:
    found = {folder: folder.stat() for folder in path.parents}
    return {folder: (seen.st_mode, seen.st_uid, seen.st_gid) for folder, seen in found.items()}


def postmaster_user(home: Path) -> int:
    return (home / "postgres" / "postmaster.pid").stat().st_uid


def test_a_path_with_spaces_letters_of_the_world_and_two_hundred_characters(
    open_folder: Path, machine: Machine
) -> None:
    home = open_folder / "my documents" / "Ünï—cödé $HOME `x` \"q\" 'q' 文書" / ("long" * 40) / "home"
    assert len(str(home)) > 200
    home.parent.mkdir(parents=True)
    before = modes_and_owners(home)
    with EmbeddedServer.acquire(home) as server, psycopg.connect(server.conninfo) as connection:
        shown = connection.execute("SHOW data_directory").fetchone()
    assert shown == (str(home / "postgres"),)
    assert modes_and_owners(home) == before

    user = machine.user(home)
    user.conninfo()
    user.kill()  # the watchdog finds its way too
    machine.eventually(lambda: not machine.postmasters(home))
    assert not (home / "postgres" / "postmaster.pid").exists()


def test_what_the_environment_says_of_another_server_does_not_apply(home: Path, machine: Machine) -> None:
    other = {"PGHOST": "db.invalid", "PGHOSTADDR": "192.0.2.1", "PGPORT": "6000", "PGDATA": "/x"}
    other |= {"PGSSLMODE": "verify-full", "PGGSSENCMODE": "require", "PGREQUIREAUTH": "scram-sha-256"}
    other |= {"PGCHANNELBINDING": "require", "PGTARGETSESSIONATTRS": "read-only", "PGPASSWORD": "x"}
    user = machine.user(home, env=os.environ | other)
    psycopg.connect(user.conninfo()).close()
    user.leave()


@pytest.mark.parametrize("temporary", ["deep/" * 30, "a b,c"])
def test_a_temporary_folder_that_no_socket_address_can_hold(
    home: Path, machine: Machine, temporary: str
) -> None:
    folder = home.parent / temporary
    folder.mkdir(parents=True)
    user = machine.user(home, env=os.environ | {"TMPDIR": str(folder)})
    psycopg.connect(user.conninfo()).close()
    user.leave()


def test_a_closed_folder_stays_closed_and_serves(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    before = modes_and_owners(home)
    with EmbeddedServer.acquire(home) as server, psycopg.connect(server.conninfo) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert postmaster_user(home) != 0
    assert modes_and_owners(home) == before


def test_an_ordinary_user_runs_it_as_themselves(
    new_home: Path, machine: Machine, as_ordinary_user: list[str]
) -> None:
    user = machine.user(new_home, prefix=as_ordinary_user)
    conninfo = user.conninfo()
    psycopg.connect(conninfo).close()
    owner = new_home.parent.stat().st_uid
    assert owner == postmaster_user(new_home) == (new_home / "users.lock").stat().st_uid
    assert Path(psycopg.conninfo.conninfo_to_dict(conninfo)["host"]).stat().st_mode & 0o777 == 0o700
    user.leave()
    assert not machine.postmasters(new_home)


@root_only
def test_root_in_the_folder_of_a_user_leaves_that_user_at_home(
    new_home: Path, machine: Machine, as_ordinary_user: list[str]
) -> None:
    owner = new_home.parent.stat().st_uid
    with EmbeddedServer.acquire(new_home) as server:
        assert postmaster_user(new_home) == owner
        them = machine.user(new_home, prefix=as_ordinary_user)
        assert them.conninfo() == server.conninfo

    them.leave()  # the last: an ordinary user stops what root has started
    assert not machine.postmasters(new_home)
    assert {file.stat().st_uid for file in (new_home, *new_home.iterdir())} == {owner}
    alone = machine.user(new_home, prefix=as_ordinary_user)
    psycopg.connect(alone.conninfo()).close()
    alone.leave()


@root_only
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_the_root_of_a_container_has_capabilities_enough(
    open_folder: Path, machine: Machine, mode: int
) -> None:
    folder = open_folder / "folder"
    folder.mkdir()
    folder.chmod(mode)
    home = folder / "home"
    user = machine.user(home, prefix=["setpriv", f"--bounding-set={CONTAINER}"])
    with psycopg.connect(user.conninfo()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert postmaster_user(home) != 0
    machine.kill_postmaster(home)
    another = machine.user(home, prefix=["setpriv", f"--bounding-set={CONTAINER}"])
    psycopg.connect(another.conninfo()).close()
    user.leave()
    another.leave()
    assert not machine.postmasters(home)


@root_only
def test_root_without_any_way_in_names_the_closed_folder(open_folder: Path, machine: Machine) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    only = CONTAINER.replace("+setpcap,", "")
    user = machine.user(closed / "home", prefix=["setpriv", f"--bounding-set={only}"])
    error = user.error()
    assert "EmbeddedError: PostgreSQL does not run as root" in error
    assert "DOCYARD_DATABASE_URL" in error


def test_a_folder_of_another_user_is_refused_with_its_owners_name(
    machine: Machine, as_ordinary_user: list[str]
) -> None:
    error = machine.user(Path("/usr"), prefix=as_ordinary_user).error()
    assert "EmbeddedError: /usr belongs to root (uid 0)" in error
    assert "chown" in error


@root_only
def test_data_of_another_user_is_refused(
    new_home: Path, machine: Machine, as_ordinary_user: list[str]
) -> None:
    (new_home / "postgres").mkdir(parents=True)
    os.chown(new_home, new_home.parent.stat().st_uid, -1)
    error = machine.user(new_home, prefix=as_ordinary_user).error()
    assert f"EmbeddedError: {new_home}/postgres belongs to root (uid 0)" in error


def test_a_place_that_cannot_be_written(
    new_home: Path, machine: Machine, as_ordinary_user: list[str]
) -> None:
    new_home.parent.chmod(0o555)
    error = machine.user(new_home, prefix=as_ordinary_user).error()
    assert "EmbeddedError" in error
    assert f"Permission denied: '{new_home}'" in error
    new_home.parent.chmod(0o755)


@root_only
def test_a_full_disk_is_named(new_home: Path, machine: Machine) -> None:
    new_home.mkdir()
    mount = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=10m tmpfs {new_home} && exec "$@"',
        "sh",
    ]
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    error = machine.user(new_home, prefix=mount).error()
    assert "EmbeddedError: The embedded Postgres of" in error
    assert "No space left on device" in error
    assert "MB free" in error
