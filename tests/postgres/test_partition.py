"""A real network between gateway and database, and it swallows packets: nobody is told of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg import sql

import turnlock
from tests.helpers import LONG_PATIENCE, child, eventually, kinds
from tests.postgres.fixtures import DATABASE, NO_SERVER
from tests.postgres.server import Server, programs, running
from turnlock.backends.postgres import PostgresBackend, migrate
from turnlock.store import Store

pytestmark = [pytest.mark.postgres, pytest.mark.processes, pytest.mark.timeout(180)]

# Of the block that is kept for examples.
NEAR, FAR = "203.0.113.1", "203.0.113.2"
HOLD = """
    import turnlock
    from turnlock.backends.postgres import PostgresBackend
    from turnlock.store import Store
    store = Store(PostgresBackend(sys.argv[1], lease_time=3.0), location="db")
    try:
        with store.turn("main/a", turn_id="T1") as turn:
            turn.append(turnlock.user("1"))
            print("holding", flush=True)
            sys.stdin.readline()
            turn.append(turnlock.user("late"))
            print("appended", flush=True)
    except turnlock.LeaseRevoked as error:
        print("revoked", error.reason, flush=True)
"""


def ip(*arguments: str, prefix: Sequence[str] = ()) -> None:
    subprocess.run([*prefix, "ip", *arguments], check=True, capture_output=True)


class Network:
    """The network of the process ``pid``, with one cable from here to it."""

    def __init__(self, pid: int) -> None:
        self._pid = str(pid)
        self._cable = f"tl{os.getpid() % 100000}"
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "far", "netns", self._pid)
        ip("addr", "add", f"{NEAR}/30", "dev", self._cable)
        ip("link", "set", self._cable, "up")
        for arguments in (
            ("addr", "add", f"{FAR}/30", "dev", "far"),
            ("link", "set", "far", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip(*arguments, prefix=self.prefix())

    def cut(self) -> None:
        ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        ip("link", "set", self._cable, "up")

    def prefix(self) -> list[str]:
        return ["nsenter", "--net", "--target", self._pid]


@contextmanager
def networked() -> Iterator[Network]:
    # Of a process, and not by a name: a name would leave a mount behind.
    command = ["unshare", "--net", "sh", "-c", "echo up; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"up\n":
            pytest.skip("not run here: no network namespaces (unshare --net)")
        try:
            network = Network(process.pid)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("not run here: no virtual cables (ip link)")
        yield network


@pytest.fixture
def server() -> Iterator[Server]:
    found = programs()
    if found is None:
        pytest.skip(NO_SERVER)
    with running(found, settings={"listen_addresses": "*"}) as server:
        hba = Path(server.directory) / "data" / "pg_hba.conf"
        with hba.open("a") as file:
            file.write(f"host all all {FAR}/32 trust\n")
        server.admin(sql.SQL("SELECT pg_reload_conf()"))
        migrate(server.make_database(DATABASE))
        yield server


def test_behind_a_network_that_is_gone_a_holder_stops_by_itself(server: Server) -> None:
    """Its session is another's when its lease has run out, and what it writes later is refused."""
    far = f"postgresql://postgres@{NEAR}:{server.port}/{DATABASE}"
    with (
        networked() as network,
        child(HOLD, far, prefix=network.prefix()) as gateway,
        Store(PostgresBackend(server.url(DATABASE)), location="near") as store,
    ):
        gateway.expect("holding", LONG_PATIENCE)
        network.cut()
        with store.turn("main/a", wait=30, turn_id="T2") as turn:
            turn.append(turnlock.user("2"))
        network.mend()
        gateway.tell()
        gateway.expect("revoked interrupted", LONG_PATIENCE)
        assert kinds(store) == ["turn", "user:1", "interrupted", "turn", "user:2", "end"]
        assert eventually(lambda: store.locks() == [])
