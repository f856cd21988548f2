"""Between processes of several hosts: our turns in a database, and what wakes their waiters alone.

The path that these are made for is the URL of the database.
"""

from __future__ import annotations

from ..results import Kind
from . import Subject
from .ours import OurAsyncTurn, OurTurn

_CHANNEL = "bench"


class BareNotify:
    """What a hand-off cannot do without. It is no lock: a take waits to be told, no more."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(f"LISTEN {_CHANNEL}")

    def take(self) -> None:
        mine = self._connection.info.backend_pid
        for told in self._connection.notifies():
            if told.pid != mine:
                return

    def release(self) -> None:
        self._connection.execute(f"NOTIFY {_CHANNEL}")


_POSTGRES = Subject("", "", Kind.OURS, module="psycopg", package="psycopg", names_holder=True)
NOTIFY = _POSTGRES._replace(
    name="notify", label="NOTIFY, alone", kind=Kind.FLOOR, make=BareNotify, names_holder=False
)
POSTGRES_TURN = _POSTGRES._replace(
    name="postgres-turn", label="turnlock turn, PostgreSQL", make=OurTurn
)
POSTGRES_ASYNC_TURN = _POSTGRES._replace(
    name="postgres-async-turn", label="turnlock async turn, PostgreSQL", make_async=OurAsyncTurn
)
POSTGRES = (NOTIFY, POSTGRES_TURN, POSTGRES_ASYNC_TURN)
