"""The server's disk is full: typed errors, nothing acknowledged is lost, and it goes on by itself.

Two disks are tried: that of the tables, where a statement fails; and that of the write-ahead log,
where the whole server stops. Both are small file systems of their own, which only root can mount.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import turnlock
from tests.failures.declaring import needs
from tests.helpers import eventually
from tests.postgres.fixtures import DATABASE, NO_SERVER
from tests.postgres.server import UNPRIVILEGED, Server, programs, running
from turnlock.backends.postgres import PostgresBackend, database, migrate
from turnlock.store import Store
from turnlock.turns.sync import Turn

pytestmark = [pytest.mark.postgres, needs("root"), pytest.mark.timeout(180)]

# A megabyte would be compressed to nothing, were it not random.
_KIB = 16
_MOST = 4000


class Disk:
    """A file system of its own. ``place``: a directory on it that a server may use."""

    def __init__(self, mounted: Path) -> None:
        self._mounted = mounted
        self.place = mounted / "place"
        self.place.mkdir()
        shutil.chown(self.place, UNPRIVILEGED)

    def grow(self, mebibytes: int) -> None:
        options = f"remount,size={mebibytes}m"
        subprocess.run(["mount", "-o", options, str(self._mounted)], check=True)


@contextmanager
def disk(mebibytes: int) -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(prefix="turnlock-disk-") as made:
        options = ("-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "tmpfs")
        mounted = subprocess.run(["mount", *options, made], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("not run here: not allowed to mount")
        try:
            yield Disk(Path(made))
        finally:
            subprocess.run(["umount", "--lazy", made], check=True)


@pytest.fixture
def found() -> Path:
    directory = programs()
    if directory is None:
        pytest.skip(NO_SERVER)
    return directory


def filled(turn: Turn) -> tuple[list[str], turnlock.StoreError]:
    """Append until there is no room: what was acknowledged, and what was said then."""
    acknowledged: list[str] = []
    for _ in range(_MOST):
        try:
            acknowledged += turn.append(turnlock.user(secrets.token_hex(_KIB * 512)))
        except turnlock.StoreError as error:
            return acknowledged, error
    raise AssertionError("the disk is larger than that")


def ids(store: Store) -> list[str]:
    return [entry["id"] for entry in store.read("main/a") if entry["type"] == "message"]


def test_without_room_for_the_tables_a_turn_waits_for_some(found: Path) -> None:
    with disk(6) as small, running(found) as server:
        migrate(server.make_database(DATABASE))
        place = sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(small.place))
        server.admin(place)
        server.admin(sql.SQL("ALTER TABLE turnlock.entry SET TABLESPACE small"), DATABASE)
        backend = PostgresBackend(server.url(DATABASE), lease_time=300.0)
        with Store(backend, location="test") as store:
            with store.turn("main/a") as turn:
                acknowledged, error = filled(turn)
                assert "No space left" in error.why
                assert "make room" in error.hint
                # Nothing of what failed is there, and the session is still this turn's.
                assert ids(store) == acknowledged
                assert not turn.revoked
                small.grow(64)
                acknowledged += turn.append(turnlock.user("after"))
            assert ids(store) == acknowledged
            assert store.locks() == []


def test_without_room_for_the_log_the_server_stops_and_turns_go_on_with_it(
    found: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_POOL_PATIENCE", 2.0)
    # Two segments and a bit; a checkpoint would give back nothing in time.
    settings = {"max_wal_size": "1GB", "wal_recycle": "off", "checkpoint_timeout": "1h"}
    with disk(40) as small, running(found, log=small.place / "log", settings=settings) as server:
        migrate(server.make_database(DATABASE))
        backend = PostgresBackend(server.url(DATABASE), lease_time=300.0)
        with Store(backend, location="test") as store:
            with store.turn("main/a") as turn:
                acknowledged, _ = filled(turn)
                assert acknowledged
                eventually(lambda: stopped(server))
                small.grow(256)
                # Whatever looks after the server starts it again.
                server.crash()
                server.start()
                acknowledged += turn.append(turnlock.user("after"))
            assert [one for one in ids(store) if one in acknowledged] == acknowledged
            assert store.locks() == []


def stopped(server: Server) -> bool:
    try:
        psycopg.connect(server.url(DATABASE), connect_timeout=5).close()
    except psycopg.OperationalError:
        return True
    return False
