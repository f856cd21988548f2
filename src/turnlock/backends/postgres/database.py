"""Talking to the database: one message is one transaction.

A gateway can be stopped between any two of its instructions, and what it holds in the database
then is held until it goes on. So it never holds anything between two messages. Whatever is done is
sent as one message of the simple protocol, settings first, values quoted on this side: the server
has all of it before it begins, and commits by itself. No transaction is ever open while it waits
for this process; nothing is prepared, and nothing is left behind in the server's session. That is
also all that a pooler in transaction mode asks for.

Every call is bounded: on the server by the time-outs of the message, on this side by `_PATIENCE`,
for a server that was stopped or a network that swallows packets; a renewal by less. A connection
whose answer did not come is closed, and what its message did is unknown.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg
from psycopg import errors as pg
from psycopg.rows import namedtuple_row
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from ...clock import SystemClock
from ...errors import StoreError
from .sql import SETTINGS, settings, statement
from .url import masked, parameters

# Seconds. A row is locked for as long as a commit takes, and a statement takes milliseconds.
_LOCK_TIMEOUT = 2.0
_STATEMENT_TIMEOUT = 5.0
# A little more than the server takes to give up by itself.
_PATIENCE = 8.0
# A message of megabytes has more time: a second for so many bytes.
_BYTES_PER_SECOND = 4 * 1024 * 1024
# For a connection, when all are in use or the server does not answer.
_POOL_PATIENCE = 6.0
_CONNECTIONS_MAX = 10
# Who waits for a connection beyond this is told at once.
_WAITING_MAX = 200
_IN_VAIN_MAX = 10_000
# The pool tries twice, so far apart, and then once more as long as somebody waits.
_RECONNECT = 0.5
# The server went away. A protocol violation is PgBouncer's word for that, whatever was under way.
_LOST = (pg.AdminShutdown, pg.CrashShutdown, pg.ProtocolViolation)
# For the pool's own threads, which may be connecting to a server that does not answer.
_CLOSE_PATIENCE = 1.0

Row = Any
MIGRATE = "turnlock db migrate --store URL makes or updates the tables"


class OutcomeUnknown(StoreError):
    """The connection was lost before the answer came: it was done, or it was not."""


class _Connection(psycopg.Connection[Row]):
    """A connection whose answers come in ``patience`` seconds, or it is closed."""

    patience = _PATIENCE

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.OperationalError:
            if (
                timeout is None
                and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
            ):
                self.pgconn.finish()
            raise


class Database:
    """Connections to one database, shared by threads. They are made when they are needed."""

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self.location = masked(url)
        self._parameters = parameters(url)
        self._durable = durable
        self._failure: psycopg.Error | None = None
        self._reset()
        _databases.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pool: ConnectionPool[_Connection] | None = None
        self._waiting = 0
        self._in_vain = 0

    def run(self, operation: str, *names: str, **values: Any) -> list[Row]:
        """As `run_each`; the rows of the first statement."""
        return self.run_each(operation, *names, **values)[0]

    def run_each(
        self,
        operation: str,
        *names: str,
        again: bool = False,
        bulk: int = 0,
        within: float | None = None,
        lasting: bool = True,
        **values: Any,
    ) -> list[list[Row]]:
        """Run statements by their names, in one transaction; the rows of each.

        ``again``: doing it twice does no harm, so a connection that turns out to be dead is no
        reason to give up. ``bulk``: how many bytes it may be about. ``within``: seconds for a
        connection and as many for the answer, of a call that cannot wait as long as others, nor
        be turned away. ``lasting``: whether it waits for the disk. Raises `StoreError`, and
        `OutcomeUnknown` when the answer did not come.
        """
        text = self.message(*names, bulk=bulk, lasting=lasting)
        try:
            return self._run(operation, text, values, bulk, within)
        except OutcomeUnknown:
            if not again:
                raise
        return self._run(operation, text, values, bulk, within)

    def message(self, *names: str, bulk: int = 0, lasting: bool = True) -> str:
        """The text of one transaction: its bounds, and the statements."""
        bounds = settings(
            lock=_LOCK_TIMEOUT,
            statement=_limit(bulk),
            durable=self._durable and lasting,
        )
        return bounds + ";\n".join(map(statement, names))

    def _run(
        self,
        operation: str,
        text: str,
        values: dict[str, Any],
        bulk: int,
        within: float | None,
    ) -> list[list[Row]]:
        sent = False
        try:
            with self._connection(within) as connection:
                sent = True
                patience = _PATIENCE + bulk / _BYTES_PER_SECOND
                connection.patience = min(patience, within or patience)
                try:
                    return _rows(connection.execute(text, values))
                except pg.ReadOnlySqlTransaction:
                    # A fail-over has made a standby of it; the next connection is to the primary.
                    connection.close()
                    raise
        except (psycopg.Error, UnicodeError) as error:
            self._fail(operation, error, sent=sent, limit=_limit(bulk))

    @contextmanager
    def _connection(self, within: float | None) -> Iterator[_Connection]:
        """A connection for one message. Raises psycopg's when there is none in time."""
        pool = self._opened()
        with self._in_line(urgent=within is not None):
            connection = _living(pool, min(_POOL_PATIENCE, within or _POOL_PATIENCE))
        try:
            yield connection
        finally:
            _give_back(pool, connection)

    @contextmanager
    def _in_line(self, *, urgent: bool) -> Iterator[None]:
        """Count who waits for a connection, and turn away who would be too many.

        The pool's own count has those in it who waited in vain, until it has a connection again;
        and who is turned away has it make none.
        """
        with self._lock:
            if self._waiting >= _WAITING_MAX and not urgent:
                raise TooManyRequests(f"{self._waiting} are waiting for a connection already")
            self._waiting += 1
        try:
            yield
        except PoolTimeout:
            self._count_in_vain()
            raise
        finally:
            with self._lock:
                self._waiting -= 1

    def _count_in_vain(self) -> None:
        """In an outage of days the pool would keep everybody who waited: then a new one is made."""
        with self._lock:
            self._in_vain += 1
            is_enough = self._in_vain >= _IN_VAIN_MAX and self._failure is not None
        if is_enough:
            self.close()

    def connect(self) -> psycopg.Connection[Row]:
        """A connection of one's own, for what needs the server's session. Raises psycopg's."""
        return _Connection.connect(**self._parameters, autocommit=True, prepare_threshold=None)

    def close(self) -> None:
        """Give the connections back. A later call makes new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=_CLOSE_PATIENCE)

    def forget_in_child(self) -> None:
        """The connections are the parent's; closing them here would end them there."""
        _parents.append(self._pool)
        self._reset()

    def _opened(self) -> ConnectionPool[_Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = self._open()
            return self._pool

    def _open(self) -> ConnectionPool[_Connection]:
        self._in_vain = 0
        return ConnectionPool(
            "",
            connection_class=self._connection_class(),
            kwargs=self._parameters
            | {
                "autocommit": True,
                "prepare_threshold": None,
                "cursor_factory": psycopg.ClientCursor,
                "row_factory": namedtuple_row,
            },
            min_size=0,
            max_size=_CONNECTIONS_MAX,
            reconnect_timeout=_RECONNECT,
            reconnect_failed=self._try_again(),
            open=True,
            num_workers=1,
            name="turnlock",
        )

    def _try_again(self) -> Callable[[ConnectionPool[_Connection]], None]:
        database = weakref.ref(self)

        def try_again(pool: ConnectionPool[_Connection]) -> None:
            # The pool itself tries no more, whoever waits, until somebody else comes.
            if (one := database()) is not None and one._waiting:
                pool.check()

        return try_again

    def _connection_class(self) -> type[_Connection]:
        database = weakref.ref(self)

        class Connection(_Connection):
            """Keeps why the last attempt failed: the pool says only that it took too long."""

            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:
                failure: psycopg.Error | None = None
                try:
                    return super().connect(*args, **kwargs)
                except psycopg.Error as error:
                    failure = error
                    raise
                finally:
                    if (one := database()) is not None:
                        one._failure = failure

        return Connection

    def _fail(self, operation: str, error: Exception, *, sent: bool, limit: float) -> NoReturn:
        if not sent and self._failure is not None:
            # Whoever comes before the next attempt is told the same.
            error = self._failure
        why, hint = _explained(error, limit)
        lost = sent and isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        lost = lost or isinstance(error, _LOST)
        kind = OutcomeUnknown if lost else StoreError
        raise kind(self.location, operation, why, hint) from error


@contextmanager
def as_store_error(location: str, operation: str) -> Iterator[None]:
    """Raises `StoreError` in place of psycopg's own."""
    try:
        yield
    except psycopg.Error as error:
        why, hint = _explained(error)
        raise StoreError(location, operation, why, hint) from error


def _limit(bulk: int) -> float:
    """Seconds that the server has for a statement about so many bytes."""
    return _STATEMENT_TIMEOUT + bulk / _BYTES_PER_SECOND


def _rows(cursor: Any) -> list[list[Row]]:
    found: list[list[Row]] = []
    more: bool | None = True
    while more:
        found.append([] if cursor.description is None else cursor.fetchall())
        more = cursor.nextset()
    return found[SETTINGS.count(";") :]


def _living(pool: ConnectionPool[_Connection], patience: float) -> _Connection:
    """A connection that the server has not closed while it was idle.

    Not by the pool's own check, which pauses after each that fails: after a restart of the server
    all of them do. The pool makes another for each that it is given back closed.
    """
    deadline = SystemClock.monotonic() + patience
    for _ in range(_CONNECTIONS_MAX + 1):
        connection = pool.getconn(timeout=deadline - SystemClock.monotonic())
        if _is_quiet(connection):
            return connection
        connection.close()
        _give_back(pool, connection)
    raise psycopg.OperationalError("the server closes every connection while it is idle")


def _give_back(pool: ConnectionPool[_Connection], connection: _Connection) -> None:
    is_lost = connection.closed
    pool.putconn(connection)
    if is_lost:
        # What has happened to one has happened to those that are idle, as a rule.
        pool.drain()


def _is_quiet(connection: _Connection) -> bool:
    """Whether the server has not closed it, without asking it anything.

    An idle connection has nothing to read but its end, and messages that nobody asked for.
    """
    if connection.closed:
        return False
    # Not `select`, which knows no descriptor above 1023.
    looking = select.poll()
    looking.register(connection.fileno(), select.POLLIN)
    return not looking.poll(0)


# What the server said, and the seconds that it had, to why and hint.
_Explain = Callable[[str, float], tuple[str, str]]
_EXPLAINED: tuple[tuple[tuple[type[Exception], ...], _Explain], ...] = (
    (
        (pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedColumn, pg.UndefinedFunction),
        lambda text, limit: (f"its tables are missing or of another version: {text}", MIGRATE),
    ),
    (
        (pg.LockNotAvailable,),
        lambda text, limit: (
            f"another connection has kept the row locked for {_LOCK_TIMEOUT:g} s",
            "look for it in pg_stat_activity",
        ),
    ),
    (
        (pg.QueryCanceled,),
        lambda text, limit: (f"the server did not get it done in {limit:g} s", ""),
    ),
    (
        (pg.InsufficientPrivilege,),
        lambda text, limit: (text, "docs/howto/postgresql.md has what each role needs"),
    ),
    (
        (pg.DiskFull,),
        lambda text, limit: (text, "make room on the server's disk: then it goes on by itself"),
    ),
)


def _explained(error: Exception, limit: float = _STATEMENT_TIMEOUT) -> tuple[str, str]:
    """What went wrong, on one line, and what to do about it."""
    text = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    for kinds, explain in _EXPLAINED:
        if isinstance(error, kinds):
            return explain(text, limit)
    return text, ""


def _forget_in_child() -> None:
    for database in list(_databases):
        database.forget_in_child()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_parents: list[object] = []
os.register_at_fork(after_in_child=_forget_in_child)
