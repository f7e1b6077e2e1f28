"""What was killed half-way leaves nothing that the next start cannot mend."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard_schema.embedded import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Machine


def test_after_kill_nine_of_the_postmaster_committed_rows_are_there_at_the_same_address(
    home: Path, machine: Machine
) -> None:
    with EmbeddedServer.acquire(home) as server:
        with psycopg.connect(server.conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        machine.kill_postmaster(home)

        with EmbeddedServer.acquire(home) as again, psycopg.connect(server.conninfo) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
            assert again.conninfo == server.conninfo
            assert len(machine.watchdogs(home)) == 1


def test_a_process_that_got_the_dead_postmasters_number_is_not_taken_for_it(
    home: Path, machine: Machine
) -> None:
    with EmbeddedServer.acquire(home) as server:
        machine.kill_postmaster(home)
        owner = (home / "postgres").stat()
        as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
        stranger = subprocess.Popen(["sleep", "60"], **as_owner)  # type: ignore[call-overload]
        pid_file = home / "postgres" / "postmaster.pid"
        lines = pid_file.read_text().split("\n")
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        try:
            with EmbeddedServer.acquire(home):
                psycopg.connect(server.conninfo).close()
            server.release()
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()


def test_a_killed_watchdog_is_replaced_by_the_next_user(home: Path, machine: Machine) -> None:
    user = machine.user(home)
    user.conninfo()
    [watchdog] = machine.watchdogs(home)
    os.kill(watchdog, signal.SIGKILL)
    machine.eventually(lambda: not machine.watchdogs(home))

    another = machine.user(home)
    another.conninfo()
    [replacement] = machine.watchdogs(home)
    assert replacement != watchdog
    user.kill()
    another.kill()
    machine.eventually(lambda: not machine.postmasters(home))


def test_without_its_watchdog_the_last_user_still_stops_the_server(home: Path, machine: Machine) -> None:
    with EmbeddedServer.acquire(home):
        os.kill(machine.watchdogs(home)[0], signal.SIGKILL)
    assert not machine.postmasters(home)


@pytest.mark.parametrize("killed", ["the user alone", "the user and initdb"])
def test_an_interrupted_initdb_leaves_a_home_that_starts(
    new_home: Path, machine: Machine, killed: str
) -> None:
    user = machine.user(new_home)
    machine.eventually(lambda: list(new_home.glob("postgres.new-*/base")))
    initdb = machine.running("bin/initdb", str(new_home))
    user.kill()
    if killed == "the user and initdb":
        for pid in initdb:
            os.kill(pid, signal.SIGKILL)
    assert initdb
    assert not (new_home / "postgres").exists()

    with EmbeddedServer.acquire(new_home) as server:
        psycopg.connect(server.conninfo).close()
    assert not list(new_home.glob("postgres.new-*"))


def test_a_user_killed_while_the_server_starts_leaves_none_behind(home: Path, machine: Machine) -> None:
    EmbeddedServer.acquire(home).release()
    user = machine.user(home)
    machine.eventually(lambda: machine.postmasters(home))
    user.kill()
    machine.eventually(lambda: not machine.postmasters(home) and not machine.watchdogs(home))


def test_a_server_without_a_free_connection_is_not_taken_for_a_dead_one(home: Path, machine: Machine) -> None:
    few = {"max_connections": "4", "superuser_reserved_connections": "0"}
    few |= {"max_wal_senders": "0", "autovacuum": "off"}
    with EmbeddedServer.acquire(home, settings=few) as server:
        [pid] = machine.postmasters(home)
        connections = [psycopg.connect(server.conninfo) for _ in range(4)]
        with pytest.raises(Exception, match="too many clients"):
            EmbeddedServer.acquire(home)
        assert machine.postmasters(home) == [pid]
        for connection in connections:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            connection.close()


def test_a_database_that_was_dropped_comes_back(home: Path) -> None:
    with EmbeddedServer.acquire(home) as server:
        with psycopg.connect(server.conninfo_for("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE docyard")
        with EmbeddedServer.acquire(home):
            psycopg.connect(server.conninfo).close()


def test_a_deleted_home_in_use_is_made_anew(home: Path, machine: Machine) -> None:
    lost = EmbeddedServer.acquire(home)
    [pid] = machine.postmasters(home)
    shutil.rmtree(home)
    try:
        with EmbeddedServer.acquire(home) as server:
            psycopg.connect(server.conninfo).close()
        lost.release()
    finally:
        with suppress(ProcessLookupError):  # once a minute it looks for its files, and stops
            os.kill(pid, signal.SIGQUIT)
        machine.eventually(lambda: not machine.postmasters(home))
        shutil.rmtree(psycopg.conninfo.conninfo_to_dict(lost.conninfo)["host"])


def test_a_copy_of_a_running_home_leaves_the_original_alone(home: Path, machine: Machine) -> None:
    copy = home.with_name("copy")
    with EmbeddedServer.acquire(home) as server:
        subprocess.run(["cp", "-a", home, copy], check=True)
        with EmbeddedServer.acquire(copy) as other:
            assert other.conninfo != server.conninfo
            psycopg.connect(other.conninfo).close()
        psycopg.connect(server.conninfo).close()
