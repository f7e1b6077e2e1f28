"""Processes share the server of a home; it lives as long as one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from docyard_schema.embedded import EmbeddedServer

if TYPE_CHECKING:
    from conftest import Machine


def socket_folder(conninfo: str) -> Path:
    return Path(psycopg.conninfo.conninfo_to_dict(conninfo)["host"])


def test_a_new_home_gets_a_server_with_pgvector(new_home: Path) -> None:
    with EmbeddedServer.acquire(new_home) as server, psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE EXTENSION vector")
        near = connection.execute(
            "SELECT '[1,2]'::vector <-> '[1,4]', lower('Ä'), current_database()"
        ).fetchone()
        words = connection.execute("SELECT to_tsvector('simple', 'one—two Ärger')::text").fetchone()

    assert near == (2.0, "ä", "docyard")
    assert words == ("'one':1 'two':2 'ärger':3",)
    assert server.version == 18
    assert server.data_directory == new_home / "postgres"
    assert (new_home / ".gitignore").read_text() == "*\n"


def test_the_last_release_stops_the_server_before_it_returns(home: Path, machine: Machine) -> None:
    first = EmbeddedServer.acquire(home)
    second = EmbeddedServer.acquire(home)
    assert first.conninfo == second.conninfo
    assert len(machine.postmasters(home)) == len(machine.watchdogs(home)) == 1

    first.release()
    first.release()
    psycopg.connect(second.conninfo).close()

    second.release()
    assert not machine.postmasters(home)
    assert not (home / "postgres" / "postmaster.pid").exists()
    assert not socket_folder(second.conninfo).exists()
    machine.eventually(lambda: not machine.watchdogs(home))


def test_a_server_stopped_by_its_last_user_starts_again(home: Path, machine: Machine) -> None:
    for turn in range(3):
        with EmbeddedServer.acquire(home) as server, psycopg.connect(server.conninfo) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS turns (turn int)")
            connection.execute("INSERT INTO turns VALUES (%s)", [turn])
            assert len(machine.watchdogs(home)) == 1

    with EmbeddedServer.acquire(home) as server, psycopg.connect(server.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone() == (3,)


def test_a_second_process_joins_and_the_first_may_leave(home: Path, machine: Machine) -> None:
    with EmbeddedServer.acquire(home) as server:
        other = machine.user(home)
        assert other.conninfo() == server.conninfo

    psycopg.connect(server.conninfo).close()
    other.leave()
    assert not machine.postmasters(home)


def test_another_user_goes_on_after_kill_nine_of_the_one_that_started(home: Path, machine: Machine) -> None:
    starter = machine.user(home)
    conninfo = starter.conninfo()
    with EmbeddedServer.acquire(home), psycopg.connect(conninfo) as connection:
        starter.kill()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        psycopg.connect(conninfo).close()


def test_the_server_stops_by_itself_after_kill_nine_of_its_only_user(home: Path, machine: Machine) -> None:
    only = machine.user(home)
    conninfo = only.conninfo()
    only.kill()

    machine.eventually(lambda: not machine.postmasters(home) and not machine.watchdogs(home))
    assert not socket_folder(conninfo).exists()
    assert not (home / "postgres" / "postmaster.pid").exists()


def test_ten_processes_at_once_start_one_server(new_home: Path, machine: Machine) -> None:
    users = [machine.user(new_home) for _ in range(10)]
    assert len({user.conninfo() for user in users}) == 1
    assert len(machine.postmasters(new_home)) == 1
    assert len(machine.watchdogs(new_home)) == 1

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda user: user.leave(), users))
    assert not machine.postmasters(new_home)


def test_threads_that_come_and_go_always_find_a_server(home: Path, machine: Machine) -> None:
    def come_and_go(_: int) -> object:
        with EmbeddedServer.acquire(home) as server, psycopg.connect(server.conninfo) as connection:
            return connection.execute("SELECT 1").fetchone()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(come_and_go, range(24))) == [(1,)] * 24
    assert not machine.postmasters(home)


def test_a_forked_child_is_no_user(home: Path, machine: Machine) -> None:
    script = """
import os, sys, time
from pathlib import Path
from docyard_schema.embedded import EmbeddedServer
server = EmbeddedServer.acquire(Path(sys.argv[1]))
if os.fork() == 0:
    server.release()  # is not the child's to release
    print(server.conninfo, flush=True)
    sys.stdin.readline()
    os._exit(0)
os.wait()
"""
    parent = machine.user(home, script=script)
    psycopg.connect(parent.conninfo()).close()

    parent.process.kill()  # its child lives on, waiting for a line
    machine.eventually(lambda: not machine.postmasters(home))


def test_a_relative_path_and_a_symbolic_link_lead_to_the_same_server(
    new_home: Path, machine: Machine
) -> None:
    new_home.mkdir()
    (new_home.parent / "link").symlink_to(new_home)
    with EmbeddedServer.acquire(new_home) as server:
        linked = machine.user(new_home.parent / "link")
        relative = machine.user(Path("home"), cwd=new_home.parent)
        assert linked.conninfo() == relative.conninfo() == server.conninfo
        linked.leave()
        relative.leave()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(home: Path, machine: Machine) -> None:
    import os
    import signal

    user = machine.user(home, start_new_session=True)
    conninfo = user.conninfo()
    with EmbeddedServer.acquire(home):
        os.killpg(user.process.pid, signal.SIGINT)
        user.error()
        psycopg.connect(conninfo).close()
