"""A PostgreSQL server for tests: made in a temporary directory, by and for this run alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path

import psycopg
from psycopg import sql

from tests.helpers import eventually

# Nothing of it has to survive the machine, so nothing waits for its disk.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "panic",
    "autovacuum": "off",
}
_INITDB = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
UNPRIVILEGED = "nobody"


def programs() -> Path | None:
    """The directory of the server's programs; None where there is no server."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    # Debian keeps them out of the PATH, one directory for each version.
    newest = sorted(glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[-2]))
    places += map(Path, reversed(newest))
    return next((one for one in places if (one / "postgres").exists()), None)


class Server:
    """A server that runs. ``port``: also on loopback."""

    def __init__(
        self, programs: Path, directory: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self._programs = programs
        self._settings = _SETTINGS | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and wait until it serves."""
        given = {
            **self._settings,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        settings = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        self._process = subprocess.Popen(
            [*unprivileged(), str(self._programs / "postgres"), "-D", str(self._data), *settings],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        eventually(self._serves, patience=60)

    def make(self, log: Path | None = None) -> None:
        """Make its files; ``log``: an empty directory for the write-ahead log."""
        more = [] if log is None else ["-X", str(log)]
        self._program("initdb", "-D", str(self._data), *_INITDB, *more)

    def follow(self, primary: Server) -> None:
        """Make its files those of another server, whose standby it is when it runs."""
        where = ("-h", str(primary.directory), "-p", str(primary.port), "-U", "postgres")
        self._program("pg_basebackup", "-D", str(self._data), *where, "-R", "-X", "stream", "-c",
                      "fast", "--no-sync")  # fmt: skip

    def promote(self) -> None:
        """From a standby to a primary; returns when it is one."""
        self._program("pg_ctl", "promote", "-w", "-D", str(self._data))

    def _program(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*unprivileged(), str(self._programs / name), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
        )

    def crash(self) -> None:
        """End it as a crash does: without a checkpoint, and without a word to its clients."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        # For SIGTERM it would wait until every client has left.
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.communicate()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _serves(self) -> bool:
        process = self._process
        assert process is not None
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read().decode())
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str, *, user: str = "postgres", port: int | None = None) -> str:
        """By the server's socket, or by a port on loopback."""
        if port is not None:
            return f"postgresql://{user}@127.0.0.1:{port}/{database}"
        return f"postgresql://{user}@/{database}?host={self.directory}&port={self.port}"

    def make_database(self, name: str, more: str = "") -> str:
        """Make an empty database; its URL."""
        self.admin(sql.SQL("CREATE DATABASE {} " + more).format(sql.Identifier(name)))
        return self.url(name)

    def drop(self, database: str) -> None:
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        self.admin(drop.format(sql.Identifier(database)))

    def admin(self, statement: sql.Composed | sql.SQL, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def running(
    programs: Path,
    *,
    inside: str | None = None,
    settings: Mapping[str, str] | None = None,
    log: Path | None = None,
    primary: Server | None = None,
) -> Iterator[Server]:
    """Make a server and run it for as long as the block runs.

    ``inside``: a directory that everybody may pass through; ``settings`` in place of those here;
    ``log``: where it writes ahead; ``primary``: the server that it is a standby of.
    """
    with tempfile.TemporaryDirectory(
        prefix="turnlock-pg-", dir=inside, ignore_cleanup_errors=True
    ) as made:
        if os.getuid() == 0:
            shutil.chown(made, UNPRIVILEGED)
        server = Server(programs, Path(made), settings)
        if primary is None:
            server.make(log)
        else:
            server.follow(primary)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def unprivileged() -> list[str]:
    """A command that runs another as somebody else: these servers refuse to run as root."""
    return [] if os.getuid() else ["setpriv", f"--reuid={UNPRIVILEGED}", "--clear-groups"]


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])
